//! dotenv into the tree: `NAME=value` lines, no quotes, no trimming, `\n` in a value for a line break.

use crate::error::{Reason, Result};

use super::tree::{MapBuilder, Node, Scalar};
use super::{fault::fault, flat};

const PREFIX: &str = "sops_";

/// What an editor or version control may have put between the values; the MAC says which one it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spelling {
    /// What stands behind each value and is not part of it.
    pub(super) ending: &'static str,
    /// What stood in front of the first key and was part of it.
    pub(super) mark: &'static str,
}

/// Reads all lines, those of the metadata too.
pub(super) fn parse(text: &str) -> Result<Node> {
    let mut map = MapBuilder::default();
    // Old systems end lines in a lone carriage return.
    for line in text.split(if text.contains('\n') { '\n' } else { '\r' }) {
        // Comments are no data and not in the MAC.
        if line.is_empty() || line == "\r" || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(fault(Reason::Malformed, "a line of it has no `=`"));
        };
        map.push(key.to_owned(), Node::Leaf(Scalar::Text(value.replace("\\n", "\n"))))?;
    }
    Ok(map.finish())
}

/// What the values may have been before something changed the ends of lines, or put a byte order mark in front.
///
/// A carriage return at the end of a line is part of the value for sops, and so is it where the file was written by
/// Windows before it was encrypted. The same with a mark: in a file that had one, it belongs to the first key.
pub(super) fn spellings(text: &str, marked: bool) -> Vec<Spelling> {
    let endings: &[_] = if text.contains("\r\n") || text.ends_with('\r') { &["", "\r"] } else { &[""] };
    let marks: &[_] = if marked { &["", "\u{feff}"] } else { &[""] };
    marks.iter().flat_map(|mark| endings.iter().map(|ending| Spelling { ending, mark })).collect()
}

/// Moves the metadata, the lines with the prefix `sops_`, out of the file.
pub(super) fn take_block(entries: &mut Vec<(String, Node)>) -> Result<Option<Node>> {
    let (block, values): (Vec<_>, Vec<_>) =
        std::mem::take(entries).into_iter().partition(|(key, _)| key.starts_with(PREFIX));
    *entries = values;
    if block.is_empty() {
        return Ok(None);
    }
    // sops ends no line of the metadata in a carriage return.
    let strip = |node| match node {
        Node::Leaf(Scalar::Text(mut text)) => {
            text.truncate(text.strip_suffix('\r').unwrap_or(&text).len());
            Node::Leaf(Scalar::Text(text))
        }
        node => node,
    };
    flat::rebuild(block.into_iter().map(|(key, node)| (key[PREFIX.len()..].to_owned(), strip(node))).collect())
        .map(Some)
}
