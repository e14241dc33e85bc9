//! The ordered tree that every SOPS format is read into.
//!
//! Order matters: the MAC covers the values in the order of the file. The bounds that keep a hostile file from costing
//! more than its size stand here too.

use std::collections::HashSet;

use crate::error::{Error, Reason, Result};

use super::fault::fault;

/// 16 MiB; a file of secrets is a few kilobytes.
pub(super) const MAX_FILE: usize = 16 << 20;
/// Mappings and lists inside each other; the YAML scanner has the same bound.
pub(super) const MAX_DEPTH: usize = 255;
/// Bytes of all keys on the way to one value. Each value is authenticated together with its path, so without a bound a
/// long key above many values would cost the product of the two.
pub(super) const MAX_PATH: usize = 8 << 10;

/// One place of the tree.
#[derive(Debug, PartialEq)]
pub(super) enum Node {
    Map(Vec<(String, Self)>),
    List(Vec<Self>),
    Leaf(Scalar),
}

/// A value as the file shows it: most often the text `ENC[...]`.
#[derive(Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Text(String),
    /// Text that is not UTF-8 (`!!binary` of YAML).
    Bytes(Vec<u8>),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// A comment that sops encrypted and wrote back as an item of a list: no data, and not in the MAC.
    Comment(String),
    /// A moment, spelled as RFC 3339 the way Go does.
    Time(String),
}

impl Node {
    /// What people call it, for error messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Map(_) => "a mapping",
            Self::List(_) => "a list",
            Self::Leaf(Scalar::Null) => "null",
            Self::Leaf(_) => "a value",
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Leaf(Scalar::Text(text) | Scalar::Time(text)) => Some(text),
            _ => None,
        }
    }

    /// The value under `key`, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }
}

/// A mapping under construction that refuses a key given twice: of two values under one name nobody can say which one
/// a reader will see.
#[derive(Default)]
pub(super) struct MapBuilder {
    entries: Vec<(String, Node)>,
    seen: HashSet<String>,
}

impl MapBuilder {
    pub(super) fn push(&mut self, key: String, node: Node) -> Result<()> {
        self.claim(&key)?;
        self.entries.push((key, node));
        Ok(())
    }

    /// Reserves `key`, so that a mapping nested in it can be read before it is pushed.
    fn claim(&mut self, key: &str) -> Result<()> {
        if self.seen.insert(key.to_owned()) {
            return Ok(());
        }
        Err(fault(Reason::Malformed, "a mapping has the same key twice"))
    }

    pub(super) fn finish(self) -> Node {
        Node::Map(self.entries)
    }
}

/// The error for nesting beyond [`MAX_DEPTH`].
pub(super) fn too_deep() -> Error {
    fault(Reason::TooLarge, format!("it nests deeper than {MAX_DEPTH} levels"))
}
