//! dotenv into the tree: `NAME=value` lines, no quotes, no trimming, `\n` in a value for a line break.

use crate::{Reason, Result};

use super::tree::{MapBuilder, Node, Scalar};
use super::{fault, flat};

const PREFIX: &str = "sops_";

/// Reads all lines, those of the metadata too.
pub(super) fn parse(text: &str) -> Result<Node> {
    let mut map = MapBuilder::default();
    for line in text.split('\n') {
        // Comments are no data and not in the MAC.
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(fault(Reason::Malformed, "a line of it has no `=`"));
        };
        map.push(key.to_owned(), Node::Leaf(Scalar::Text(value.replace("\\n", "\n"))))?;
    }
    Ok(map.finish())
}

/// Moves the metadata, the lines with the prefix `sops_`, out of the file.
pub(super) fn take_block(entries: &mut Vec<(String, Node)>) -> Result<Option<Node>> {
    let (block, values): (Vec<_>, Vec<_>) =
        std::mem::take(entries).into_iter().partition(|(key, _)| key.starts_with(PREFIX));
    *entries = values;
    if block.is_empty() {
        return Ok(None);
    }
    flat::rebuild(block.into_iter().map(|(key, node)| (key[PREFIX.len()..].to_owned(), node)).collect()).map(Some)
}
