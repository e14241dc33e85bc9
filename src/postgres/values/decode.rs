//! Columns from the wire to values.
//!
//! The six types of [`Value`](crate::Value) take what fits them exactly; everything else that is read at all travels
//! as text: NUMERIC digit for digit, dates and times in RFC 3339, UUID, JSON, enums and arrays as PostgreSQL writes them.

use std::fmt::Write as _;

use tokio_postgres::types::{FromSql, Kind, Type};
use tokio_postgres::{Column, Row};

use super::{numeric, time};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::row::RowsBuilder;
use crate::value::ValueRef;

/// One decoded column.
pub(crate) enum WireCell<'a> {
    /// A value that stands in the message as it is.
    Borrowed(ValueRef<'a>),
    /// A text that had to be made.
    Text(String),
}

/// What arrived for a column; `None` for NULL.
struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Appends a row to a result; `types` are those of its columns.
pub(crate) fn push_row(rows: &mut RowsBuilder, row: &Row, types: &[Type]) -> Result<()> {
    for (index, ty) in types.iter().enumerate() {
        let cell = match row.try_get(index) {
            Ok(Raw(Some(raw))) => decode(ty, raw),
            Ok(Raw(None)) => Ok(WireCell::Borrowed(ValueRef::Null)),
            Err(_no_row) => Err(malformed("a row")),
        };
        match cell {
            Ok(WireCell::Borrowed(value)) => rows.push(value),
            Ok(WireCell::Text(text)) => rows.push(ValueRef::Text(&text)),
            Err(error) => {
                let name = row.columns().get(index).map_or("", Column::name);
                return Err(error.context(format_args!("column {name}")));
            }
        }
    }
    Ok(())
}

/// The type that counts: of a domain, the one below it.
pub(crate) fn base(ty: &Type) -> &Type {
    match ty.kind() {
        Kind::Domain(inner) => base(inner),
        _ => ty,
    }
}

/// Refuses a column that could not be read, before the statement has done anything.
#[cold]
pub(crate) fn unreadable(name: &str, ty: &Type) -> Error {
    let message = format!("column {name} has the type {}, which cannot be read as a value here", ty.name());
    let hint = format!("select cast({name} as text) instead");
    Error::new(ErrorKind::Query, message).because(Reason::Type).hint(hint)
}

/// Whether values of this type are read from their binary form, in which the driver asks for all of them.
pub(crate) fn is_readable(ty: &Type) -> bool {
    let ty = base(ty);
    match ty.kind() {
        Kind::Array(element) => is_readable(element),
        Kind::Enum(_) => true,
        _ => {
            const READABLE: &[Type] = &[
                Type::BOOL,
                Type::INT2,
                Type::INT4,
                Type::INT8,
                Type::OID,
                Type::FLOAT4,
                Type::FLOAT8,
                Type::NUMERIC,
                Type::BYTEA,
                Type::UUID,
                Type::DATE,
                Type::TIME,
                Type::TIMESTAMP,
                Type::TIMESTAMPTZ,
                Type::JSONB,
                Type::VOID,
            ];
            is_text(ty) || READABLE.contains(ty)
        }
    }
}

/// Types whose wire form is their text.
pub(crate) fn is_text(ty: &Type) -> bool {
    matches!(*ty, Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::CHAR | Type::UNKNOWN | Type::JSON)
        || matches!(ty.kind(), Kind::Enum(_))
        || ty.name() == "citext"
}

/// Decodes one value.
///
/// # Errors
/// When the type is not read, or the server sent something that cannot be of it.
pub(crate) fn decode<'a>(ty: &Type, raw: &'a [u8]) -> Result<WireCell<'a>> {
    let ty = base(ty);
    let wrong = || malformed(ty.name());
    let value = match *ty {
        Type::BOOL => ValueRef::Bool(fixed::<1>(ty, raw)? != [0]),
        Type::INT2 => ValueRef::Integer(i16::from_be_bytes(fixed(ty, raw)?).into()),
        Type::INT4 => ValueRef::Integer(i32::from_be_bytes(fixed(ty, raw)?).into()),
        Type::INT8 => ValueRef::Integer(i64::from_be_bytes(fixed(ty, raw)?)),
        Type::OID => ValueRef::Integer(u32::from_be_bytes(fixed(ty, raw)?).into()),
        Type::FLOAT4 => ValueRef::Real(f32::from_be_bytes(fixed(ty, raw)?).into()),
        Type::FLOAT8 => ValueRef::Real(f64::from_be_bytes(fixed(ty, raw)?)),
        Type::BYTEA => ValueRef::Blob(raw),
        Type::VOID => ValueRef::Null,
        Type::JSONB => match raw.split_first() {
            Some((1, text)) => ValueRef::Text(std::str::from_utf8(text).map_err(|_| wrong())?),
            _ => return Err(wrong()),
        },
        Type::NUMERIC => return numeric::to_text(raw).map(WireCell::Text).ok_or_else(wrong),
        Type::UUID => return Ok(WireCell::Text(uuid(fixed(ty, raw)?))),
        Type::DATE => return Ok(WireCell::Text(time::date(i32::from_be_bytes(fixed(ty, raw)?)))),
        Type::TIME => return Ok(WireCell::Text(time::time(i64::from_be_bytes(fixed(ty, raw)?)))),
        Type::TIMESTAMP => return Ok(WireCell::Text(time::timestamp(i64::from_be_bytes(fixed(ty, raw)?), ""))),
        Type::TIMESTAMPTZ => return Ok(WireCell::Text(time::timestamp(i64::from_be_bytes(fixed(ty, raw)?), "Z"))),
        _ if is_text(ty) => ValueRef::Text(std::str::from_utf8(raw).map_err(|_| wrong())?),
        _ => return decode_array(ty, raw),
    };
    Ok(WireCell::Borrowed(value))
}

fn decode_array<'a>(ty: &Type, raw: &'a [u8]) -> Result<WireCell<'a>> {
    let Kind::Array(element) = ty.kind() else {
        let message = format!("a column has the type {}, which cannot be read as a value", ty.name());
        return Err(Error::new(ErrorKind::Query, message).because(Reason::Type).hint("cast it to text"));
    };
    // PostgreSQL writes these as numbers with blanks between them, though their wire form is that of an array. An empty
    // one has a dimension, of length 0.
    let is_vector = matches!(*ty, Type::INT2_VECTOR | Type::OID_VECTOR);
    if is_vector && raw.get(12..16) == Some(&[0; 4]) {
        return Ok(WireCell::Borrowed(ValueRef::Text("")));
    }
    let text = array_text(element, raw).ok_or_else(|| malformed(ty.name()))??;
    let numbers = text.split_once('{').and_then(|(_, rest)| rest.strip_suffix('}')).filter(|_| is_vector);
    Ok(WireCell::Text(numbers.map(|numbers| numbers.replace(',', " ")).unwrap_or(text)))
}

fn fixed<const N: usize>(ty: &Type, raw: &[u8]) -> Result<[u8; N]> {
    raw.try_into().map_err(|_| malformed(ty.name()))
}

fn uuid(bytes: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Source: `MAXDIM` of PostgreSQL.
const MOST_DIMENSIONS: i32 = 6;

/// Reads the wire form of an array: dimensions, then elements, each behind its length. `None` if malformed.
fn array_text(element: &Type, raw: &[u8]) -> Option<Result<String>> {
    let mut wire = Wire(raw);
    let (dimensions, _has_nulls, _oid) = (wire.int()?, wire.int()?, wire.int()?);
    if !(0..=MOST_DIMENSIONS).contains(&dimensions) {
        return None;
    }
    let mut lengths = Vec::new();
    let mut bounds = String::new();
    let mut plain = true;
    for _ in 0..dimensions {
        let (length, lower) = (wire.int()?, wire.int()?);
        plain &= lower == 1;
        // The server sends none of length 0: an empty array has no dimensions.
        lengths.push(usize::try_from(length).ok().filter(|length| *length > 0)?);
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
        // Not the digits that it gets by being made wider.
        WireCell::Borrowed(ValueRef::Real(real)) if *base(element) == Type::FLOAT4 => {
            #[allow(clippy::cast_possible_truncation, reason = "it came from there")]
            let shortest = (real as f32).to_string().parse().unwrap_or(real);
            write!(text, "{}", ValueRef::Real(shortest)).ok()?;
        }
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

#[cold]
fn malformed(what: &str) -> Error {
    let message = format!("the server sent bytes that are no {what}");
    Error::new(ErrorKind::Query, message).because(Reason::Type)
}
