//! The path of one value inside a SOPS file.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use crate::error::{Error, Reason, Result};
use crate::veiled::Veiled;

use super::fault::fault;
use super::format::SopsFormat;
use super::tree::{MAX_PATH, Node, Scalar};

/// Names one value of a SOPS file.
///
/// Two spellings:
/// * dotted: `database_key`, `nested.list.1`. Every dot separates; a part made of digits is an index where it meets a
///   list and a key where it meets a mapping. For keys that are not empty, have no dot and do not begin with `[`.
/// * bracketed, as `sops --extract` has it: `["db.example.org"]["keys"][0]`. Quoted parts are keys, bare numbers are
///   indices. Either quote does, and the quote itself is written twice inside; nothing else is special, so this form
///   names every key: `["a[0]"]`, `["say ""hi"""]`, `["back\slash"]`, `[""]`.
///
/// [`KeyPath::keys`] takes the keys one by one and has no syntax at all. A path displays in the form that reads back.
///
/// ```
/// use strongroom::keys::sops::KeyPath;
///
/// # fn main() -> strongroom::Result<()> {
/// let dotted: KeyPath = "nested.list.1".parse()?;
/// let bracketed: KeyPath = r#"["db.example.org"]["key"]"#.parse()?;
/// assert_eq!(bracketed, KeyPath::keys(["db.example.org", "key"])?);
/// assert_eq!(dotted.to_string(), "nested.list.1");
/// assert!("nested..key".parse::<KeyPath>().is_err());
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyPath {
    steps: Vec<Step>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// A part of the dotted form: a key, or the index of a list.
    Either(String),
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// The path through mappings along `keys`, each taken as it is.
    ///
    /// # Errors
    /// [`Reason::Malformed`] when there is no key, or when all together are longer than 8 KiB.
    pub fn keys<K: Into<String>>(keys: impl IntoIterator<Item = K>) -> Result<Self> {
        Self::of(keys.into_iter().map(|key| Ok(Step::Key(key.into()))))
    }

    fn of(steps: impl Iterator<Item = Result<Step>>) -> Result<Self> {
        let steps = steps.collect::<Result<Vec<_>>>()?;
        let length = |step: &Step| match step {
            Step::Either(name) | Step::Key(name) => name.len(),
            Step::Index(_) => 0,
        };
        if steps.is_empty() {
            return Err(malformed("it is empty"));
        }
        if steps.iter().map(length).sum::<usize>() > MAX_PATH {
            return Err(malformed("it is too long"));
        }
        Ok(Self { steps })
    }

    /// Whether the path leads into the metadata instead of the data.
    pub(super) fn names_block(&self, format: SopsFormat) -> bool {
        match self.steps.first() {
            Some(Step::Either(key) | Step::Key(key)) if format == SopsFormat::Dotenv => key.starts_with("sops_"),
            Some(Step::Either(key) | Step::Key(key)) => key == "sops",
            _ => false,
        }
    }

    /// The one key of which the path consists.
    pub(super) fn top_level(&self) -> Option<&str> {
        match self.steps.as_slice() {
            [Step::Either(key) | Step::Key(key)] => Some(key),
            _ => None,
        }
    }

    /// The keys of which the path consists; nothing if one of its parts can only be an index.
    pub(super) fn all_keys(&self) -> Option<Vec<&str>> {
        let keys = self.steps.iter().map(|step| match step {
            Step::Either(key) | Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        });
        keys.collect()
    }

    /// The path as `sops --extract` wants it, for the tree it is going to be used on.
    pub(super) fn bracketed(&self, root: &Node) -> Result<String> {
        let mut text = String::new();
        let mut here = root;
        for step in &self.steps {
            let next = step.follow(here).map_err(malformed)?;
            match here {
                Node::List(items) => {
                    // The program counts comments too.
                    let place = items.iter().position(|item| std::ptr::eq(item, next)).unwrap_or_default();
                    let _ = write!(text, "[{place}]");
                }
                _ => match step {
                    Step::Either(key) | Step::Key(key) if !key.contains('[') => {
                        let _ = write!(text, "[\"{key}\"]");
                    }
                    _ => {
                        let error = fault(Reason::Malformed, "the `sops` program has no way to name a key with a `[`");
                        return Err(
                            error.hint("rename the key, or encrypt the file for an age key, which needs no program")
                        );
                    }
                },
            }
            here = next;
        }
        Ok(text)
    }

    /// Follows the path and returns the one value there.
    pub(super) fn find<'a>(&self, root: &'a Node) -> Result<&'a Node> {
        let mut here = root;
        for (depth, step) in self.steps.iter().enumerate() {
            here = step.follow(here).map_err(|what| {
                let at = self.prefix(depth);
                fault(Reason::Missing, format!("there is nothing at `{self}`: {what} {at}"))
            })?;
        }
        Ok(here)
    }

    /// The first `depth` steps, for people.
    fn prefix(&self, depth: usize) -> String {
        match depth {
            0 => "at the top of the file".into(),
            _ => format!("at `{}`", Self { steps: self.steps[..depth].to_vec() }),
        }
    }
}

impl Step {
    fn follow<'a>(&self, node: &'a Node) -> Result<&'a Node, &'static str> {
        match (self, node) {
            (Self::Key(key) | Self::Either(key), Node::Map(entries)) => {
                let mut found = entries.iter().filter(|(name, _)| name == key);
                match (found.next(), found.next()) {
                    (Some((_, node)), None) => Ok(node),
                    (Some(_), Some(_)) => Err("the key stands there twice"),
                    (None, _) => Err("there is no such key"),
                }
            }
            (Self::Index(index), Node::List(items)) => item(items, *index),
            (Self::Either(text), Node::List(items)) => match text.parse() {
                Ok(index) => item(items, index),
                Err(_) => Err("found a list, which has numbers for keys,"),
            },
            (Self::Key(_), Node::List(_)) => Err("found a list, which has no keys,"),
            (Self::Index(_), Node::Map(_)) => Err("found a mapping, which has no indices,"),
            (_, Node::Leaf(_)) => Err("found a value, which has nothing inside,"),
        }
    }
}

/// The item of that number; comments do not count.
fn item(items: &[Node], index: usize) -> Result<&Node, &'static str> {
    let mut items = items.iter().filter(|item| !matches!(item, Node::Leaf(Scalar::Comment(_))));
    items.nth(index).ok_or("the list is shorter")
}

impl FromStr for KeyPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with('[') {
            return Self::of(bracketed(text));
        }
        Self::of(text.split('.').map(|part| match part {
            "" if text.is_empty() => Err(malformed("it is empty")),
            "" => Err(malformed("a part of it is empty")),
            _ => Ok(Step::Either(part.to_owned())),
        }))
    }
}

/// Reads `["key"]['key'][0]` part by part, up to the first one that is none.
fn bracketed(text: &str) -> impl Iterator<Item = Result<Step>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let step = part(rest).map(|(step, after)| {
            rest = after;
            step
        });
        if step.is_err() {
            rest = "";
        }
        Some(step)
    })
}

/// Reads the first part, and gives what follows it.
fn part(text: &str) -> Result<(Step, &str)> {
    let inner = text.strip_prefix('[').ok_or_else(|| malformed("something stands between `]` and `[`"))?;
    if let Some(quote) = inner.chars().next().filter(|first| matches!(first, '"' | '\'')) {
        return quoted(&inner[1..], quote);
    }
    let (digits, after) = inner.split_once(']').ok_or_else(|| malformed("a `[` has no `]`"))?;
    match digits.parse() {
        Ok(index) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok((Step::Index(index), after)),
        _ => Err(malformed("brackets hold a quoted key or a number")),
    }
}

/// Reads a key up to its closing quote and bracket.
fn quoted(text: &str, quote: char) -> Result<(Step, &str)> {
    let mut key = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(quote) {
        key.push_str(before);
        match after.strip_prefix(']') {
            Some(after) if after.is_empty() || after.starts_with('[') => return Ok((Step::Key(key), after)),
            // Written twice it means itself. Alone, and not before a `]`, it cannot mean anything else either.
            _ => rest = after.strip_prefix(quote).unwrap_or(after),
        }
        key.push(quote);
    }
    Err(malformed("a quote is not closed, or not followed by a `]`"))
}

impl fmt::Debug for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyPath").field(&format_args!("{self}")).finish()
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Veiled(Spelled(&self.steps)).fmt(f)
    }
}

/// The form that reads back.
struct Spelled<'a>(&'a [Step]);

impl fmt::Display for Spelled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Either(text) if position == 0 => f.write_str(text)?,
                Step::Either(text) => write!(f, ".{text}")?,
                Step::Key(key) if key.contains('"') => write!(f, "['{}']", key.replace('\'', "''"))?,
                Step::Key(key) => write!(f, "[\"{key}\"]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

fn malformed(what: &str) -> Error {
    fault(Reason::Malformed, format!("the path of the key cannot be used: {what}"))
        .hint("write `name`, `nested.list.1` or `[\"key.with.dots\"][0]`")
}
