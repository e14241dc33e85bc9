//! YAML into the tree, by the events of `saphyr-parser`.
//!
//! Events and not a ready-made value, because what a plain scalar means must be decided by Go's rules, and because a
//! parser that never expands an alias cannot be made to build a bomb. Files that sops wrote have no aliases.

use base64::Engine as _;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput, Tag};

use crate::error::{Error, Reason, Result};

use super::gcm::{BASE64, Sealed};
use super::tree::{MAX_DEPTH, MapBuilder, Node, Scalar, too_deep};
use super::{fault::fault, scalar};

/// Reads all documents of the file. An empty document is an empty mapping.
pub(super) fn parse(text: &str) -> Result<Vec<Node>> {
    let mut events = SopsEvents(Parser::new_from_str(text));
    let mut documents = Vec::new();
    loop {
        match events.next()? {
            Event::StreamEnd => return Ok(documents),
            Event::DocumentStart(_) => {
                let first = events.next()?;
                documents.push(match events.node(first, 0)? {
                    Node::Leaf(Scalar::Null) => Node::Map(Vec::new()),
                    map @ Node::Map(_) => map,
                    Node::List(_) | Node::Leaf(_) => {
                        return Err(fault(Reason::Malformed, "a YAML document is not a mapping"));
                    }
                });
            }
            _ => {}
        }
    }
}

struct SopsEvents<'a>(Parser<'a, StrInput<'a>>);

impl<'a> SopsEvents<'a> {
    fn next(&mut self) -> Result<Event<'a>> {
        match self.0.next_event() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(not_yaml(&error)),
            None => Ok(Event::StreamEnd),
        }
    }

    /// Reads the node that begins with `event`.
    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Node> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        match event {
            Event::Scalar(text, style, _, tag) => resolve(&text, style, tag.as_deref()).map(Node::Leaf),
            Event::SequenceStart(..) => self.list(depth),
            Event::MappingStart(..) => self.map(depth),
            Event::Alias(_) => Err(fault(Reason::Malformed, "it uses YAML aliases, which sops never writes")),
            _ => Err(fault(Reason::Malformed, "it is not YAML")),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Node> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Node::List(items)),
                event => items.push(match self.node(event, depth + 1)? {
                    Node::Leaf(Scalar::Text(text)) if Sealed::is_comment(&text) => Node::Leaf(Scalar::Comment(text)),
                    item => item,
                }),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Node> {
        let mut map = MapBuilder::default();
        loop {
            match self.next()? {
                Event::MappingEnd => return Ok(map.finish()),
                event => {
                    let key = key(event)?;
                    let event = self.next()?;
                    map.push(key, self.node(event, depth + 1)?)?;
                }
            }
        }
    }
}

/// Keys are strings by the same rules as values: `1:` is an integer and no key.
fn key(event: Event<'_>) -> Result<String> {
    if let Event::Scalar(text, style, _, tag) = event {
        if tag.as_ref().is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "merge") {
            return Ok(text.into_owned());
        }
        if let Scalar::Text(text) = resolve(&text, style, tag.as_deref())? {
            return Ok(text);
        }
    }
    Err(fault(Reason::Malformed, "a key of a mapping is not a string"))
}

fn resolve(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Scalar> {
    let Some(tag) = tag.filter(|tag| tag.is_yaml_core_schema()) else {
        return match style {
            ScalarStyle::Plain => scalar::plain(text),
            _ => Ok(Scalar::Text(text.into())),
        };
    };
    let resolved = match tag.suffix.as_str() {
        "str" => return Ok(Scalar::Text(text.into())),
        "binary" => return binary(text),
        _ => scalar::plain(text)?,
    };
    #[allow(clippy::cast_precision_loss, reason = "a float is asked for")]
    match (tag.suffix.as_str(), resolved) {
        ("float", Scalar::Integer(value)) => Ok(Scalar::Float(value as f64)),
        ("int", value @ Scalar::Integer(_))
        | ("float", value @ Scalar::Float(_))
        | ("bool", value @ Scalar::Bool(_))
        | ("null", value @ Scalar::Null)
        | ("timestamp", value @ Scalar::Time(_)) => Ok(value),
        _ => Err(fault(Reason::Malformed, "a value does not fit its YAML tag")),
    }
}

fn binary(text: &str) -> Result<Scalar> {
    let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = BASE64.decode(packed).map_err(|_| fault(Reason::Malformed, "a !!binary value is not base64"))?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Scalar::Text(text),
        Err(error) => Scalar::Bytes(error.into_bytes()),
    })
}

/// The scanner's own words may quote the file, so only the place is taken over.
fn not_yaml(error: &ScanError) -> Error {
    let place = error.marker();
    fault(Reason::Malformed, format!("it is not YAML (line {}, column {})", place.line(), place.col() + 1))
}
