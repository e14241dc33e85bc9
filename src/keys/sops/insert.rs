//! A value more in a file that stays as it is otherwise.
//!
//! It is written as the last one of its mapping. What comes out is parsed, compared with what was there before, and
//! verified before it is given away.

use crate::error::{Error, ErrorKind, Reason, Result};
use crate::secret::Secret;

use super::document::Document;
use super::exchange::{check, reads_back, with_mac};
use super::format::SopsFormat;
use super::gcm::Cipher;
use super::path::KeyPath;
use super::tree::Node;
use super::{encrypt, fault::fault, open, spot, time};

/// The text of the file `bytes` with `value` at `path`, where nothing is yet.
pub(super) fn value(
    bytes: &[u8],
    format: SopsFormat,
    path: &KeyPath,
    value: &Secret,
    cipher: &Cipher,
) -> Result<String> {
    check(value)?;
    let before = Document::parse(bytes, format)?;
    let keys = path.all_keys().ok_or_else(|| unclear(path))?;
    let (parents, new) = keys.split_at(existing(&before, &keys, path)?);
    for name in new {
        encrypt::check(format, &[(name, value)], &[""])?;
    }
    open::check(&before, cipher)?;
    let rules = &before.metadata.rules;
    if !rules.encrypted(keys.iter().any(|key| rules.names(key)), true) {
        let error = fault(Reason::Exposed, format!("the rules of the file leave `{path}` unencrypted"));
        return Err(error.hint("choose a name that the rules of the file encrypt"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| fault(Reason::Malformed, "it is not UTF-8"))?;
    // What a ciphertext is bound to: all keys down to the value.
    let place: String = keys.iter().flat_map(|key| [*key, ":"]).collect();
    let sealed = cipher.seal(value.expose(), &place)?;
    let (at, addition) = spot::addition(text, format, parents, new, &sealed)?.ok_or_else(|| unclear(path))?;
    let longer = format!("{}{addition}{}", &text[..at], &text[at..]);

    let moment = time::now();
    let after = Document::parse(longer.as_bytes(), format).map_err(|_| unclear(path))?;
    if !is_one_more(&before, after, parents, new[0]) {
        return Err(unclear(path));
    }
    let after = Document::parse(longer.as_bytes(), format)?;
    let mac = open::mac(&after, cipher, &moment)?;
    let text = with_mac(&longer, &after, &mac, &moment).ok_or_else(|| unclear(path))?;
    if reads_back(&text, format, path, value, cipher)? { Ok(text) } else { Err(unclear(path)) }
}

/// How many of `keys`, but for the last, lead to mappings that are there.
fn existing(document: &Document, keys: &[&str], path: &KeyPath) -> Result<usize> {
    let Some(mut here) = document.documents.first() else { return Err(unclear(path)) };
    for (depth, key) in keys[..keys.len() - 1].iter().enumerate() {
        match here.get(key) {
            None => return Ok(depth),
            Some(inner @ Node::Map(_)) => here = inner,
            Some(other) => {
                let found = format!("found {} on the way to `{path}`, where a mapping should be", other.kind());
                return Err(fault(Reason::Malformed, found).hint("choose another place for the new value"));
            }
        }
    }
    Ok(keys.len() - 1)
}

/// Whether `after` is `before` but for `name`, the last in the mapping to which `parents` lead in the first document.
fn is_one_more(before: &Document, mut after: Document, parents: &[&str], name: &str) -> bool {
    let mut here = after.documents.first_mut();
    for parent in parents {
        here = match here {
            Some(Node::Map(entries)) => entries.iter_mut().find(|(key, _)| key == parent).map(|(_, node)| node),
            _ => None,
        };
    }
    let added = match here {
        Some(Node::Map(entries)) => entries.pop(),
        _ => None,
    };
    added.is_some_and(|(key, _)| key == name) && after.documents == before.documents
}

fn unclear(path: &KeyPath) -> Error {
    Error::new(ErrorKind::Unsupported, format!("a value cannot be written at `{path}` without writing the file anew"))
        .hint("let `sops set` put one there, and the source can replace it; keys in YAML and JSON work, and names in dotenv")
}
