//! INI into the tree, as far as files that sops wrote go.
//!
//! The dialect of `go-ini` is wide. What is not modelled here is refused, and should something be read otherwise than
//! sops reads it, the MAC does not match: a misreading cannot become a wrong key.

use crate::error::{Error, Reason, Result};

use super::fault::fault;
use super::tree::{MapBuilder, Node, Scalar};

/// Where keys before the first section live.
const DEFAULT: &str = "DEFAULT";

/// Reads all sections. Repeated sections stay apart, in order.
pub(super) fn parse(text: &str) -> Result<Node> {
    let mut sections: Vec<(String, MapBuilder)> = vec![(DEFAULT.into(), MapBuilder::default())];
    // Old systems end lines in a lone carriage return.
    let ending = if text.contains('\n') { '\n' } else { '\r' };
    let mut lines = text.split(ending).map(|line| line.strip_suffix('\r').unwrap_or(line));
    while let Some(line) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.strip_suffix(']').ok_or_else(malformed)?.trim();
            sections.push((name.to_owned(), MapBuilder::default()));
            continue;
        }
        let (key, value) = entry(line, &mut lines)?;
        let (_, section) = sections.last_mut().ok_or_else(malformed)?;
        section.push(key, Node::Leaf(Scalar::Text(value)))?;
    }
    Ok(Node::Map(sections.into_iter().map(|(name, section)| (name, section.finish())).collect()))
}

/// Reads `key = value` or `key: value`; a value in `"""` goes on over lines.
fn entry<'a>(line: &'a str, lines: &mut impl Iterator<Item = &'a str>) -> Result<(String, String)> {
    if line.starts_with(['"', '`']) {
        return Err(malformed());
    }
    let (key, value) = line.split_once(['=', ':']).ok_or_else(malformed)?;
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() {
        return Err(malformed());
    }
    let value = match value.strip_prefix("\"\"\"") {
        Some(first) => multi_line(first, lines)?,
        None => single_line(value)?,
    };
    Ok((key.to_owned(), value))
}

fn multi_line<'a>(first: &str, lines: &mut impl Iterator<Item = &'a str>) -> Result<String> {
    if let Some(value) = first.strip_suffix("\"\"\"") {
        return Ok(value.to_owned());
    }
    let mut value = first.to_owned();
    for line in lines {
        value.push('\n');
        if let Some((last, after)) = line.split_once("\"\"\"") {
            value.push_str(last);
            return if after.trim().is_empty() { Ok(value) } else { Err(malformed()) };
        }
        value.push_str(line);
    }
    Err(malformed())
}

fn single_line(value: &str) -> Result<String> {
    for quote in ['`', '"', '\''] {
        if let Some(inner) = value.strip_prefix(quote) {
            let inner = inner.strip_suffix(quote).ok_or_else(malformed)?;
            return if inner.contains(quote) { Err(malformed()) } else { Ok(inner.to_owned()) };
        }
    }
    // A comment behind the value, or a line that goes on below: constructs that sops does not write.
    if value.ends_with('\\') || value.contains(" #") || value.contains(" ;") {
        return Err(malformed());
    }
    Ok(value.to_owned())
}

fn malformed() -> Error {
    fault(Reason::Malformed, "it is not INI, or a kind of INI that sops does not write")
}
