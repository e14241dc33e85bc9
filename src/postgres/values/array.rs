//! Arrays from the wire to text, as `cast(column as text)` writes them: `{1,2,NULL,"a b"}`.

use std::fmt::Write as _;

use tokio_postgres::types::Type;

use super::decode::{WireCell, decode};
use crate::error::Result;
use crate::value::ValueRef;

/// Reads the wire form: dimensions, then elements, each behind its length. `None` if malformed.
pub(crate) fn to_text(element: &Type, raw: &[u8]) -> Option<Result<String>> {
    let mut wire = Wire(raw);
    let (dimensions, _has_nulls, _oid) = (wire.int()?, wire.int()?, wire.int()?);
    let mut lengths = Vec::new();
    let mut bounds = String::new();
    let mut plain = true;
    for _ in 0..dimensions {
        let (length, lower) = (wire.int()?, wire.int()?);
        plain &= lower == 1;
        lengths.push(usize::try_from(length).ok()?);
        write!(bounds, "[{lower}:{}]", i64::from(lower) + i64::from(length) - 1).ok()?;
    }
    let mut text = if plain { String::new() } else { bounds + "=" };
    if lengths.is_empty() {
        text.push_str("{}");
        return Some(Ok(text));
    }
    match write_level(&mut text, &mut wire, element, &lengths)? {
        Ok(()) if wire.0.is_empty() => Some(Ok(text)),
        Ok(()) => None,
        Err(error) => Some(Err(error)),
    }
}

fn write_level(text: &mut String, wire: &mut Wire<'_>, element: &Type, lengths: &[usize]) -> Option<Result<()>> {
    let (&length, inner) = lengths.split_first()?;
    text.push('{');
    for index in 0..length {
        if index > 0 {
            text.push(',');
        }
        let written =
            if inner.is_empty() { write_element(text, wire, element) } else { write_level(text, wire, element, inner) };
        if let Err(error) = written? {
            return Some(Err(error));
        }
    }
    text.push('}');
    Some(Ok(()))
}

fn write_element(text: &mut String, wire: &mut Wire<'_>, element: &Type) -> Option<Result<()>> {
    let length = wire.int()?;
    if length < 0 {
        text.push_str("NULL");
        return Some(Ok(()));
    }
    let cell = match decode(element, wire.bytes(usize::try_from(length).ok()?)?) {
        Ok(cell) => cell,
        Err(error) => return Some(Err(error)),
    };
    match cell {
        WireCell::Text(made) => write_quoted(text, &made),
        WireCell::Borrowed(ValueRef::Text(given)) => write_quoted(text, given),
        WireCell::Borrowed(ValueRef::Bool(truth)) => text.push(if truth { 't' } else { 'f' }),
        WireCell::Borrowed(bytes @ ValueRef::Blob(_)) => write!(text, "\"\\\\x{bytes}\"").ok()?,
        WireCell::Borrowed(number) => write!(text, "{number}").ok()?,
    }
    Some(Ok(()))
}

fn write_quoted(text: &mut String, element: &str) {
    let special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_ascii_whitespace() || c == '\x0b';
    if !element.is_empty() && !element.eq_ignore_ascii_case("null") && !element.contains(special) {
        return text.push_str(element);
    }
    text.push('"');
    for c in element.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
}

struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn int(&mut self) -> Option<i32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i32::from_be_bytes(*bytes))
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}
