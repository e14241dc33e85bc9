//! A record: the values of a row.
//!
//! Source: "Database File Format", section 2.1.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};

/// How texts are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Encoding {
    #[default]
    Utf8,
    Utf16Le,
    Utf16Be,
}

impl Encoding {
    /// As the header of a file has it.
    pub(super) fn of(number: u32) -> Self {
        match number {
            2 => Self::Utf16Le,
            3 => Self::Utf16Be,
            _ => Self::Utf8,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Utf16Le => "UTF-16le",
            Self::Utf16Be => "UTF-16be",
        }
    }

    fn text(self, bytes: &[u8]) -> ToSqlOutput<'_> {
        let unit = match self {
            Self::Utf8 => return ToSqlOutput::Borrowed(ValueRef::Text(bytes)),
            Self::Utf16Le => u16::from_le_bytes,
            Self::Utf16Be => u16::from_be_bytes,
        };
        let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
        ToSqlOutput::Owned(Value::Text(String::from_utf16_lossy(&units)))
    }
}

/// A number of one to nine bytes, and how many it has.
#[expect(clippy::cast_possible_wrap, reason = "rowids are stored so")]
pub(super) fn varint(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        if at == 8 {
            return Some(((number << 8 | u64::from(*byte)) as i64, 9));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number as i64, at + 1));
        }
    }
    None
}

/// The length of a value of this type.
fn length_of(kind: i64) -> Option<usize> {
    Some(match kind {
        0 | 8 | 9 => 0,
        1..=4 => usize::try_from(kind).ok()?,
        5 => 6,
        6 | 7 => 8,
        12.. => usize::try_from((kind - 12) / 2).ok()?,
        _ => return None,
    })
}

/// The types in the header of a record, and how long the header is. `None` if `bytes` end before it.
fn types(bytes: &[u8]) -> Option<(Vec<i64>, usize)> {
    let (length, mut at) = varint(bytes)?;
    let length = usize::try_from(length).ok()?;
    let header = bytes.get(..length)?;
    let mut kinds = Vec::new();
    while at < length {
        let (kind, used) = varint(header.get(at..)?)?;
        kinds.push(kind);
        at += used;
    }
    (at == length).then_some((kinds, length))
}

/// How many bytes a record with this header has; `None` for one that cannot be.
fn total(kinds: &[i64], header: usize) -> Option<usize> {
    kinds.iter().try_fold(header, |sum, kind| sum.checked_add(length_of(*kind)?))
}

/// Whether a record of `length` bytes may begin like this.
pub(super) fn is_plausible(local: &[u8], length: usize) -> bool {
    match types(local) {
        Some((kinds, header)) => total(&kinds, header) == Some(length),
        // The header of a record with very many columns goes on elsewhere.
        None => {
            local.len() < length
                && varint(local).is_some_and(|(header, _)| {
                    header > 2 && usize::try_from(header).is_ok_and(|header| header <= length)
                })
        }
    }
}

/// The values of a whole record; `None` for what is none.
pub(super) fn values(bytes: &[u8], encoding: Encoding) -> Option<Vec<ToSqlOutput<'_>>> {
    let (kinds, mut at) = types(bytes)?;
    if total(&kinds, at)? != bytes.len() {
        return None;
    }
    let mut values = Vec::with_capacity(kinds.len());
    for kind in kinds {
        let part = bytes.get(at..at + length_of(kind)?)?;
        at += part.len();
        values.push(match kind {
            0 => ToSqlOutput::Borrowed(ValueRef::Null),
            7 => ToSqlOutput::Borrowed(ValueRef::Real(f64::from_be_bytes(part.try_into().ok()?))),
            8 => ToSqlOutput::Borrowed(ValueRef::Integer(0)),
            9 => ToSqlOutput::Borrowed(ValueRef::Integer(1)),
            1..=6 => ToSqlOutput::Borrowed(ValueRef::Integer(integer(part))),
            _ if kind % 2 == 0 => ToSqlOutput::Borrowed(ValueRef::Blob(part)),
            _ => encoding.text(part),
        });
    }
    Some(values)
}

/// A number in two's complement, the highest byte first.
fn integer(bytes: &[u8]) -> i64 {
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(sign, |number, byte| number << 8 | i64::from(*byte))
}

/// How many values a record has that begins like this.
pub(super) fn fields(local: &[u8]) -> Option<usize> {
    types(local).map(|(kinds, _)| kinds.len())
}
