//! The flattened metadata of dotenv and INI files, rebuilt into a tree.
//!
//! A step into a mapping is written `__map_`, a step into a list `__list_N`: `age__list_0__map_enc`. Keys come in any
//! order, so everything is collected first.

use std::collections::BTreeMap;

use crate::error::{Error, Reason, Result};

use super::fault::fault;
use super::tree::{MAX_DEPTH, Node, Scalar, too_deep};

#[derive(Default)]
enum Entry {
    #[default]
    Empty,
    Leaf(Scalar),
    Map(BTreeMap<String, Self>),
    List(BTreeMap<usize, Self>),
}

/// Rebuilds the tree; every entry must be a leaf. Line breaks stand in values as `\n`.
pub(super) fn rebuild(entries: Vec<(String, Node)>) -> Result<Node> {
    let mut root = Entry::Map(BTreeMap::new());
    for (key, node) in entries {
        let text = node.text().ok_or_else(malformed)?.replace("\\n", "\n");
        let mut entry = &mut root;
        let mut steps = steps(&key);
        entry = entry.enter_map(steps.next().filter(|step| !step.is_empty()).ok_or_else(malformed)?)?;
        for (depth, step) in steps.enumerate() {
            if depth >= MAX_DEPTH {
                return Err(too_deep());
            }
            entry = match step.strip_prefix("list_") {
                Some(index) => entry.enter_list(index)?,
                None => entry.enter_map(step.strip_prefix("map_").ok_or_else(malformed)?)?,
            };
        }
        match entry {
            Entry::Empty => *entry = Entry::Leaf(Scalar::Text(text)),
            _ => return Err(malformed()),
        }
    }
    root.finish()
}

/// Cuts `age__list_0__map_enc` into `age`, `list_0`, `map_enc`.
fn steps(key: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(key);
    std::iter::from_fn(move || {
        let text = rest?;
        // One search per step, which ends at the next mark: two would each run to the end of the key.
        let mut marks = text.match_indices("__").map(|(at, _)| at);
        let next = marks.find(|at| ["map_", "list_"].iter().any(|mark| text[at + 2..].starts_with(mark)));
        let Some(at) = next else { return rest.take() };
        rest = Some(&text[at + 2..]);
        Some(&text[..at])
    })
}

impl Entry {
    fn enter_map(&mut self, key: &str) -> Result<&mut Self> {
        if matches!(self, Self::Empty) {
            *self = Self::Map(BTreeMap::new());
        }
        match self {
            Self::Map(map) => Ok(map.entry(key.to_owned()).or_default()),
            _ => Err(malformed()),
        }
    }

    fn enter_list(&mut self, index: &str) -> Result<&mut Self> {
        if matches!(self, Self::Empty) {
            *self = Self::List(BTreeMap::new());
        }
        match self {
            Self::List(list) => Ok(list.entry(index.parse().map_err(|_| malformed())?).or_default()),
            _ => Err(malformed()),
        }
    }

    fn finish(self) -> Result<Node> {
        Ok(match self {
            Self::Empty => return Err(malformed()),
            Self::Leaf(scalar) => Node::Leaf(scalar),
            Self::Map(map) => {
                Node::Map(map.into_iter().map(|(key, entry)| Ok((key, entry.finish()?))).collect::<Result<_>>()?)
            }
            Self::List(list) => {
                // Indices must be complete, or an entry was lost.
                if list.keys().enumerate().any(|(expected, index)| expected != *index) {
                    return Err(malformed());
                }
                Node::List(list.into_values().map(Self::finish).collect::<Result<_>>()?)
            }
        })
    }
}

fn malformed() -> Error {
    fault(Reason::Malformed, "its flattened `sops` metadata does not fit together")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(keys: &[&str]) -> bool {
        let leaf = |key: &&str| ((*key).to_owned(), Node::Leaf(Scalar::Text("x".into())));
        rebuild(keys.iter().map(leaf).collect()).is_ok()
    }

    #[test]
    fn keys_come_in_any_order_and_must_fit_together() {
        assert!(built(&["age__list_1__map_enc", "mac", "age__list_0__map_enc", "age__list_0__map_recipient", "a__b"]));
        let unfit: [&[&str]; 8] = [
            &["age__list_1"],
            &["age__list_0", "age__list_2"],
            &["a", "a__map_b"],
            &["a__map_b", "a"],
            &["a__map_b", "a__list_0"],
            &["a", "a"],
            &["a__list_x"],
            &[""],
        ];
        for keys in unfit {
            assert!(!built(keys), "{keys:?}");
        }
    }
}
