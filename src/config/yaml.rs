//! YAML into the tree, by the events of its parser: an alias that is never expanded costs nothing.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::tree::Tree;

/// Deeper than any settings nest.
const MAX_DEPTH: usize = 64;

/// What is wrong with a file, and in which of its lines.
pub(super) enum Trouble {
    Invalid(usize),
    /// A list, an anchor or an alias.
    Needless(usize),
}

/// Reads the one document of a file.
pub(super) fn parse(text: &str) -> Result<Tree, Trouble> {
    let mut events = Events(Parser::new_from_str(text));
    let mut document = Tree::Null;
    let mut is_first = true;
    loop {
        match events.next()? {
            (Event::StreamEnd, _) => return Ok(document),
            (Event::StreamStart | Event::DocumentEnd | Event::Nothing, _) => {}
            (Event::DocumentStart(_), span) if !is_first => return Err(Trouble::Invalid(span.start.line())),
            (Event::DocumentStart(_), _) => {
                is_first = false;
                let root = events.next()?;
                document = events.node(root, 0)?;
            }
            (_, span) => return Err(Trouble::Invalid(span.start.line())),
        }
    }
}

struct Events<'a>(Parser<'a, StrInput<'a>>);

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Trouble> {
        match self.0.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Trouble::Invalid(error.marker().line())),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// Reads the node that begins with an event.
    fn node(&mut self, (event, span): (Event<'a>, Span), depth: usize) -> Result<Tree, Trouble> {
        let line = span.start.line();
        match event {
            _ if depth > MAX_DEPTH => Err(Trouble::Invalid(line)),
            Event::Scalar(text, style, 0, _) => Ok(scalar(&text, style)),
            Event::MappingStart(0, _) => self.mapping(depth),
            // A list in place of a setting is told by the name of that setting.
            Event::SequenceStart(0, _) if depth > 0 => self.list(depth),
            Event::Scalar(..) | Event::MappingStart(..) | Event::SequenceStart(..) | Event::Alias(_) => {
                Err(Trouble::Needless(line))
            }
            _ => Err(Trouble::Invalid(line)),
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Tree, Trouble> {
        let mut table = BTreeMap::new();
        loop {
            let (event, span) = self.next()?;
            let name = match event {
                Event::MappingEnd => return Ok(Tree::Table(table)),
                Event::Scalar(name, _, 0, _) => name.into_owned(),
                _ => return Err(Trouble::Invalid(span.start.line())),
            };
            let value = self.next()?;
            let value = self.node(value, depth + 1)?;
            Tree::insert(&mut table, name, value).ok_or(Trouble::Invalid(span.start.line()))?;
        }
    }

    fn list(&mut self, depth: usize) -> Result<Tree, Trouble> {
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Tree::List),
                item => drop(self.node(item, depth + 1)?),
            }
        }
    }
}

/// What is not in quotes may be null, or the words for truth values.
fn scalar(text: &str, style: ScalarStyle) -> Tree {
    match text {
        "" | "~" | "null" | "Null" | "NULL" if style == ScalarStyle::Plain => Tree::Null,
        "True" | "TRUE" if style == ScalarStyle::Plain => Tree::Text("true".into()),
        "False" | "FALSE" if style == ScalarStyle::Plain => Tree::Text("false".into()),
        _ => Tree::Text(text.into()),
    }
}
