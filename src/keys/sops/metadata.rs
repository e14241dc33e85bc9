//! The `sops` block of a file: who can open it, by which rules values are encrypted, and the MAC.

use crate::error::{Reason, Result};

use super::fault::fault;
use super::rules::Rules;
use super::tree::{Node, Scalar};

/// More entries than any team has; each costs a key agreement per identity.
const MAX_KEYS: usize = 1024;

/// Key types that only the `sops` program can ask, by their names in the block.
const REMOTE: [&str; 5] = ["kms", "gcp_kms", "hckms", "azure_kv", "hc_vault"];

#[derive(Debug)]
pub(super) struct Metadata {
    /// As written; the MAC is bound to it.
    pub(super) last_modified: String,
    /// `ENC[...]`, or empty when it is missing (which never verifies).
    pub(super) mac: String,
    pub(super) mac_only_encrypted: bool,
    pub(super) rules: Rules,
    pub(super) groups: Vec<Group>,
    /// How many groups must open; 1 if there is one group.
    pub(super) threshold: usize,
}

/// The keys of which any one yields the data key (or one share of it).
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) age: Vec<AgeKey>,
    /// Armored `OpenPGP` messages.
    pub(super) pgp: Vec<String>,
    /// Names of the other kinds of keys in the group.
    pub(super) remote: Vec<&'static str>,
}

#[derive(Debug)]
pub(super) struct AgeKey {
    pub(super) recipient: String,
    pub(super) armored: String,
}

impl Metadata {
    pub(super) fn parse(block: &Node) -> Result<Self> {
        let last_modified = string(block, "lastmodified")?.unwrap_or_default();
        if last_modified.is_empty() {
            return Err(fault(Reason::Malformed, "its `sops` block has no `lastmodified`"));
        }
        let (groups, threshold) = groups(block)?;
        Ok(Self {
            last_modified,
            mac: string(block, "mac")?.unwrap_or_default(),
            mac_only_encrypted: flag(block, "mac_only_encrypted")?,
            rules: Rules::parse(|name| string(block, name))?,
            groups,
            threshold,
        })
    }
}

fn groups(block: &Node) -> Result<(Vec<Group>, usize)> {
    // Keys at the top are one group, and then `key_groups` is ignored, as sops does.
    let top = Group::parse(block)?;
    let groups = match block.get("key_groups") {
        _ if !top.is_empty() => vec![top],
        Some(Node::List(groups)) => groups.iter().map(Group::parse).collect::<Result<_>>()?,
        _ => Vec::new(),
    };
    let entries: usize = groups.iter().map(Group::len).sum();
    if entries == 0 {
        return Err(fault(Reason::Malformed, "its `sops` block names no key"));
    }
    if entries > MAX_KEYS || groups.len() > 255 {
        return Err(fault(Reason::TooLarge, format!("its `sops` block names more than {MAX_KEYS} keys or 255 groups")));
    }
    let threshold = number(block, "shamir_threshold")?;
    if groups.len() == 1 {
        return Ok((groups, 1));
    }
    // The writer always stores the threshold; combining "any two" without one is a guess.
    match threshold {
        Some(threshold) if threshold >= 2 && threshold <= groups.len() => Ok((groups, threshold)),
        _ => Err(fault(Reason::Malformed, "its `sops` block has several key groups and no usable `shamir_threshold`")),
    }
}

impl Group {
    fn parse(block: &Node) -> Result<Self> {
        let mut group = Self::default();
        for entry in entries(block, "age")? {
            let armored = string(entry, "enc")?.unwrap_or_default();
            group.age.push(AgeKey { recipient: string(entry, "recipient")?.unwrap_or_default(), armored });
        }
        for entry in entries(block, "pgp")? {
            group.pgp.push(string(entry, "enc")?.unwrap_or_default());
        }
        for kind in REMOTE {
            group.remote.extend(entries(block, kind)?.iter().map(|_| kind));
        }
        Ok(group)
    }

    fn len(&self) -> usize {
        self.age.len() + self.pgp.len() + self.remote.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The entries of a key list. Missing, empty and null are the same: versions differ in what they write for "none".
fn entries<'a>(block: &'a Node, name: &str) -> Result<&'a [Node]> {
    match block.get(name) {
        None | Some(Node::Leaf(Scalar::Null)) => Ok(&[]),
        Some(Node::List(entries)) => Ok(entries),
        Some(_) => Err(fault(Reason::Malformed, format!("`{name}` in its `sops` block is not a list"))),
    }
}

fn string(block: &Node, name: &str) -> Result<Option<String>> {
    match block.get(name) {
        None | Some(Node::Leaf(Scalar::Null)) => Ok(None),
        Some(Node::Leaf(scalar)) => match String::from_utf8(scalar.mac_bytes().into_owned()) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(wrong(name)),
        },
        Some(_) => Err(wrong(name)),
    }
}

fn flag(block: &Node, name: &str) -> Result<bool> {
    match block.get(name) {
        None | Some(Node::Leaf(Scalar::Null)) => Ok(false),
        Some(Node::Leaf(Scalar::Bool(flag))) => Ok(*flag),
        Some(Node::Leaf(Scalar::Text(text))) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(wrong(name)),
        },
        Some(Node::Leaf(Scalar::Integer(number))) => Ok(*number != 0),
        Some(_) => Err(wrong(name)),
    }
}

fn number(block: &Node, name: &str) -> Result<Option<usize>> {
    match block.get(name) {
        None | Some(Node::Leaf(Scalar::Null)) => Ok(None),
        Some(Node::Leaf(Scalar::Integer(number))) => usize::try_from(*number).map(Some).map_err(|_| wrong(name)),
        Some(Node::Leaf(Scalar::Text(text))) => text.parse().map(Some).map_err(|_| wrong(name)),
        Some(_) => Err(wrong(name)),
    }
}

fn wrong(name: &str) -> crate::error::Error {
    fault(Reason::Malformed, format!("`{name}` in its `sops` block has the wrong type"))
}
