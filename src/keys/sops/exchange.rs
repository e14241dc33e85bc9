//! Another value in a file that stays as it is otherwise.
//!
//! A ciphertext has a nonce of its own, so its text stands in the file once, in every format. It is exchanged as text;
//! order, comments and spelling of all else are kept. What comes out is parsed and verified before it is given away.

use crate::error::{Error, ErrorKind, Reason, Result};
use crate::secret::{Secret, SecretForm};

use super::document::Document;
use super::format::SopsFormat;
use super::gcm::Cipher;
use super::path::KeyPath;
use super::tree::Node;
use super::{fault::fault, open, time};

/// The name under which every format has the time of the last change.
const LAST_MODIFIED: &str = "lastmodified";

/// What may stand between that name and the time: quotes, a colon or an equals sign, spaces.
const BETWEEN: [char; 4] = ['"', '\'', ':', '='];

/// The text of the file `bytes` with `value` at `path`.
pub(super) fn value(
    bytes: &[u8],
    format: SopsFormat,
    path: &KeyPath,
    value: &Secret,
    cipher: &Cipher,
) -> Result<String> {
    check(value)?;
    let document = Document::parse(bytes, format)?;
    let target = open::locate(&document, path)?;
    let moment = time::now();
    let (sealed, mac) = open::reseal(&document, cipher, path, target, value.expose(), &moment)?;
    let text = std::str::from_utf8(bytes).map_err(|_| fault(Reason::Malformed, "it is not UTF-8"))?;
    let text = exchanged(text, &document, target, [&sealed, &mac, &moment]).ok_or_else(unclear)?;

    if reads_back(&text, format, path, value, cipher)? { Ok(text) } else { Err(unclear()) }
}

/// Whether `text` is a file that verifies, with `value` at `path`.
pub(super) fn reads_back(
    text: &str,
    format: SopsFormat,
    path: &KeyPath,
    value: &Secret,
    cipher: &Cipher,
) -> Result<bool> {
    let written = Document::parse(text.as_bytes(), format)?;
    let read = open::open(&written, cipher, path, open::locate(&written, path)?)?;
    Ok(read.expose() == value.expose())
}

pub(super) fn check(value: &Secret) -> Result<()> {
    if value.form() != SecretForm::Passphrase {
        return Err(fault(Reason::Malformed, "the new value is a raw key, which would be read back as a passphrase"));
    }
    if value.is_empty() {
        return Err(fault(Reason::Empty, "the new value is empty").hint("an empty key would protect nothing"));
    }
    Ok(())
}

/// The text with another ciphertext of the value, another MAC and another time; nothing if one of them cannot be told
/// from the rest.
fn exchanged(text: &str, document: &Document, target: &Node, new: [&str; 3]) -> Option<String> {
    let [sealed, mac, moment] = new;
    let old = until_bracket(target.text()?)?;
    if text.matches(old).count() != 1 || Some(old) == until_bracket(&document.metadata.mac) {
        return None;
    }
    with_mac(&text.replacen(old, sealed, 1), document, mac, moment)
}

/// The text with another MAC and another time.
pub(super) fn with_mac(text: &str, document: &Document, mac: &str, moment: &str) -> Option<String> {
    let metadata = &document.metadata;
    let old_mac = until_bracket(&metadata.mac)?;
    // Each document of a YAML file has a copy of the metadata.
    let copies = text.matches(old_mac).count();
    let (text, times) = with_moment(&text.replace(old_mac, mac), &metadata.last_modified, moment);
    (copies > 0 && times == copies).then_some(text)
}

/// What follows the last bracket is no part of a ciphertext.
fn until_bracket(sealed: &str) -> Option<&str> {
    sealed.rfind(']').map(|end| &sealed[..=end])
}

/// Exchanges the time of the last change, and says how often.
fn with_moment(text: &str, old: &str, moment: &str) -> (String, usize) {
    let (mut out, mut rest, mut times) = (String::with_capacity(text.len()), text, 0);
    while let Some(at) = rest.find(LAST_MODIFIED) {
        let (before, after) = rest.split_at(at + LAST_MODIFIED.len());
        out.push_str(before);
        rest = after;
        let value = after.trim_start_matches(|c: char| c == ' ' || BETWEEN.contains(&c));
        if let Some(behind) = value.strip_prefix(old) {
            out.push_str(&after[..after.len() - value.len()]);
            out.push_str(moment);
            rest = behind;
            times += 1;
        }
    }
    out.push_str(rest);
    (out, times)
}

fn unclear() -> Error {
    Error::new(ErrorKind::Unsupported, "the ciphertext of the value, the MAC or the time cannot be found in the text")
        .hint("let `sops set` write the value, which writes the whole file anew")
}
