//! A SOPS file taken apart: the documents with values, and the metadata beside them.

use crate::error::{Error, Reason, Result};
use crate::text::{self};

use super::dotenv::Spelling;
use super::format::SopsFormat;
use super::metadata::Metadata;
use super::tree::{MAX_FILE, Node};
use super::{dotenv, fault::fault, ini, json, yaml};

/// The key (or section) that holds the metadata.
pub(super) const BLOCK: &str = "sops";

/// A parsed file, nothing decrypted yet.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) format: SopsFormat,
    pub(super) documents: Vec<Node>,
    pub(super) metadata: Metadata,
    /// How the values may have been spelled when they were encrypted; more than one way if the file was changed since
    /// by an editor or by version control.
    pub(super) spellings: Vec<Spelling>,
}

const PLAIN: Spelling = Spelling { ending: "", mark: "" };

impl Document {
    /// Parses `bytes` and moves the metadata out of the tree.
    pub(super) fn parse(bytes: &[u8], format: SopsFormat) -> Result<Self> {
        if bytes.len() > MAX_FILE {
            return Err(fault(Reason::TooLarge, format!("it is larger than {} MiB", MAX_FILE >> 20)));
        }
        let text = text::utf8(bytes).map_err(|what| {
            fault(Reason::Malformed, format!("it is {what}"))
                .hint("a SOPS file is UTF-8; convert it, or take it as sops wrote it")
        })?;
        let marked = bytes.starts_with(text::MARK);
        let mut documents = match format {
            SopsFormat::Yaml => yaml::parse(text)?,
            SopsFormat::Json | SopsFormat::Binary => vec![json::parse(text)?],
            SopsFormat::Dotenv => vec![dotenv::parse(text)?],
            SopsFormat::Ini => vec![ini::parse(text)?],
        };
        // Real sops writes a copy of the metadata into every document and reads the first.
        let mut blocks = documents.iter_mut().map(|document| take_block(document, format));
        let block = blocks.next().transpose()?.flatten().ok_or_else(no_metadata)?;
        blocks.try_for_each(|block| block.map(drop))?;
        let metadata = Metadata::parse(&block)?;
        let spellings = if format == SopsFormat::Dotenv { dotenv::spellings(text, marked) } else { vec![PLAIN] };
        Ok(Self { format, documents, metadata, spellings })
    }
}

fn take_block(document: &mut Node, format: SopsFormat) -> Result<Option<Node>> {
    let Node::Map(entries) = document else { return Ok(None) };
    let block = if format == SopsFormat::Dotenv {
        dotenv::take_block(entries)?
    } else {
        let place = entries.iter().position(|(key, _)| key == BLOCK);
        place.map(|place| entries.remove(place).1)
    };
    match block {
        Some(Node::Map(flat)) if format == SopsFormat::Ini => super::flat::rebuild(flat).map(Some),
        Some(map @ Node::Map(_)) => Ok(Some(map)),
        Some(_) => Err(fault(Reason::Malformed, "its `sops` block is not a mapping")),
        None => Ok(None),
    }
}

fn no_metadata() -> Error {
    fault(Reason::Malformed, "it has no `sops` metadata")
        .hint("is it a file that sops encrypted, and is the format right")
}
