//! A value more in a file that stays as it is otherwise.
//!
//! It is written as a line in front of the metadata, which every file has at its end. What comes out is parsed, compared
//! with what was there before, and verified before it is given away.

use crate::error::{Error, ErrorKind, Reason, Result};
use crate::secret::Secret;

use super::document::{BLOCK, Document};
use super::exchange::{check, reads_back, with_mac};
use super::format::SopsFormat;
use super::gcm::Cipher;
use super::path::KeyPath;
use super::tree::Node;
use super::{encrypt, fault, open, time};

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
    let name = path.top_level().ok_or_else(|| unclear(path))?;
    encrypt::check(format, &[(name, value)], &[""])?;
    open::check(&before, cipher)?;
    let rules = &before.metadata.rules;
    if !rules.encrypted(rules.names(name), true) {
        let error = fault(Reason::Exposed, format!("the rules of the file leave `{path}` unencrypted"));
        return Err(error.hint("choose a name that the rules of the file encrypt"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| fault(Reason::Malformed, "it is not UTF-8"))?;
    let sealed = cipher.seal(value.expose(), &format!("{name}:"))?;
    let (at, line) = line(text, format, name, &sealed)?.ok_or_else(|| unclear(path))?;
    let longer = format!("{}{line}{}", &text[..at], &text[at..]);

    let moment = time::now();
    let after = Document::parse(longer.as_bytes(), format).map_err(|_| unclear(path))?;
    if !is_one_more(&before, after, name) {
        return Err(unclear(path));
    }
    let after = Document::parse(longer.as_bytes(), format)?;
    let mac = open::mac(&after, cipher, &moment)?;
    let text = with_mac(&longer, &after, &mac, &moment).ok_or_else(|| unclear(path))?;
    if reads_back(&text, format, path, value, cipher)? { Ok(text) } else { Err(unclear(path)) }
}

/// Whether `after` is `before` but for the last value of its first document.
fn is_one_more(before: &Document, mut after: Document, name: &str) -> bool {
    let added = match after.documents.first_mut() {
        Some(Node::Map(entries)) => entries.pop(),
        _ => None,
    };
    added.is_some_and(|(key, _)| key == name) && after.documents == before.documents
}

/// What is to be written, and where.
fn line(text: &str, format: SopsFormat, name: &str, sealed: &str) -> Result<Option<(usize, String)>> {
    let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
    Ok(match format {
        SopsFormat::Yaml => {
            let line = format!("{}: {sealed}{ending}", encrypt::yaml_key(name)?);
            start_of_line(text, &format!("{BLOCK}:")).map(|at| (at, line))
        }
        SopsFormat::Json => {
            let place = key_of_json(text, &format!("\"{BLOCK}\""));
            let space = place.map_or("", |at| &text[text[..at].trim_end().len()..at]);
            let line = format!("{}: {},{space}", encrypt::json_text(name)?, encrypt::json_text(sealed)?);
            place.map(|at| (at, line))
        }
        SopsFormat::Dotenv => {
            let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let place = start_of_line(text, &format!("{BLOCK}_")).filter(|_| is_plain);
            place.map(|at| (at, format!("{name}={sealed}{ending}")))
        }
        SopsFormat::Ini | SopsFormat::Binary => None,
    })
}

/// Where the first line begins that begins so.
fn start_of_line(text: &str, begin: &str) -> Option<usize> {
    let mut starts = text.split_inclusive('\n').scan(0, |at, line| {
        let start = *at;
        *at += line.len();
        Some((start, line))
    });
    starts.find(|(_, line)| line.starts_with(begin)).map(|(at, _)| at)
}

/// Where `key`, with its quotes, stands in the outermost object.
fn key_of_json(text: &str, key: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => {
                let is_key = !quoted && depth == 1 && text[at..].strip_prefix(key).is_some_and(is_before_colon);
                if is_key {
                    return Some(at);
                }
                quoted = !quoted;
            }
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

fn is_before_colon(rest: &str) -> bool {
    rest.trim_start().starts_with(':')
}

fn unclear(path: &KeyPath) -> Error {
    Error::new(ErrorKind::Unsupported, format!("a value cannot be written at `{path}` without writing the file anew"))
        .hint("let `sops set` put one there, and the source can replace it; top-level names in YAML, JSON and dotenv work")
}
