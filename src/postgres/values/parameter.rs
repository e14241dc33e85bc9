//! Values to the wire, by the type that the server has found for the placeholder.
//!
//! Numbers, truth values, bytes and plain text travel in binary, checked against their range here. A text for any other
//! type (NUMERIC, dates, UUID, enums, arrays...) travels as text and is read by the server, as a literal in SQL would be.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type};

use super::decode::is_text;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::params::{list::is_list, list::to_array};
use crate::value::exact_float;
use crate::value::{Value, ValueRef};

/// A value in the form in which it is sent.
#[derive(PartialEq)]
pub(crate) enum Parameter<'v> {
    Null,
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    Oid(u32),
    Float4(f32),
    Float8(f64),
    /// Text whose wire form is itself.
    Text(&'v str),
    Bytes(&'v [u8]),
    /// Text that the server reads as a literal of the parameter's type.
    Literal(Cow<'v, str>),
}

impl<'v> Parameter<'v> {
    /// Fits `value` to parameter number `number` of type `ty`, which is no domain.
    ///
    /// # Errors
    /// [`Reason::Type`] when it does not fit exactly; nothing has been sent then.
    pub(crate) fn fit(value: ValueRef<'v>, ty: &Type, number: usize) -> Result<Self> {
        let fitted = match value {
            ValueRef::Null => Some(Self::Null),
            ValueRef::Bool(truth) => fit_bool(truth, ty),
            ValueRef::Integer(integer) => return fit_integer(integer, ty, number),
            ValueRef::Real(real) => return fit_real(real, ty, number),
            ValueRef::Text(_) if *ty == Type::BYTEA => None,
            ValueRef::Text(list) if matches!(ty.kind(), Kind::Array(_)) && is_list(value) => {
                Some(Self::Literal(to_array(list).into()))
            }
            ValueRef::List(list) => fit_list(list, ty),
            ValueRef::Text(text) if is_text(ty) => Some(Self::Text(text)),
            ValueRef::Text(text) => Some(Self::Literal(text.into())),
            ValueRef::Blob(bytes) => fit_bytes(bytes, ty),
        };
        fitted.ok_or_else(|| mismatch(value.type_name(), ty, number))
    }

    /// [`fit`](Self::fit), but what does not fit goes as a literal, and the server finds out what it is: as with
    /// [`guess`](Self::guess).
    pub(crate) fn fit_or_literal(value: ValueRef<'v>, ty: &Type, number: usize) -> Result<Self> {
        Self::fit(value, ty, number).or_else(|error| match value {
            ValueRef::Integer(integer) => Ok(Self::Literal(integer.to_string().into())),
            ValueRef::Real(real) => Ok(Self::Literal(format!("{real:?}").into())),
            ValueRef::Text(text) | ValueRef::List(text) => Ok(Self::Literal(text.into())),
            _ => Err(error),
        })
    }

    /// Chooses form and type without having asked the server, which then finds the type by itself.
    pub(crate) fn guess(value: &'v Value) -> (Self, Type) {
        match value {
            Value::Null => (Self::Null, Type::UNKNOWN),
            Value::Bool(truth) => (Self::Bool(*truth), Type::BOOL),
            Value::Integer(integer) => (Self::Literal(integer.to_string().into()), Type::UNKNOWN),
            Value::Real(real) => (Self::Literal(format!("{real:?}").into()), Type::UNKNOWN),
            Value::Text(text) | Value::List(text) => (Self::Literal(text.into()), Type::UNKNOWN),
            Value::Blob(bytes) => (Self::Bytes(bytes), Type::BYTEA),
        }
    }

    /// Appends the value to a row of COPY's binary format; `false`, and nothing appended, for a literal, which has none.
    pub(crate) fn write_binary(&self, row: &mut Vec<u8>) -> bool {
        match self {
            Self::Null => row.extend_from_slice(&(-1_i32).to_be_bytes()),
            Self::Bool(truth) => put_sized(row, &[(*truth).into()]),
            Self::Int2(number) => put_sized(row, &number.to_be_bytes()),
            Self::Int4(number) => put_sized(row, &number.to_be_bytes()),
            Self::Int8(number) => put_eight(row, number.to_be_bytes()),
            Self::Oid(number) => put_sized(row, &number.to_be_bytes()),
            Self::Float4(number) => put_sized(row, &number.to_be_bytes()),
            Self::Float8(number) => put_eight(row, number.to_be_bytes()),
            Self::Text(text) => put_sized(row, text.as_bytes()),
            Self::Bytes(bytes) => put_sized(row, bytes),
            Self::Literal(_) => return false,
        }
        true
    }

    /// Appends the value to a line of COPY's text format.
    pub(crate) fn write_text(&self, line: &mut Vec<u8>) {
        match self {
            Self::Null => line.put_slice(b"\\N"),
            Self::Bool(truth) => line.put_u8(if *truth { b't' } else { b'f' }),
            Self::Int2(number) => put_display(line, number),
            Self::Int4(number) => put_display(line, number),
            Self::Int8(number) => put_display(line, number),
            Self::Oid(number) => put_display(line, number),
            Self::Float4(number) => put_display(line, &format_args!("{number:?}")),
            Self::Float8(number) => put_display(line, &format_args!("{number:?}")),
            Self::Text(text) => put_escaped(line, text),
            Self::Literal(text) => put_escaped(line, text),
            Self::Bytes(bytes) => {
                line.put_slice(b"\\\\x");
                bytes.iter().for_each(|byte| put_display(line, &format_args!("{byte:02x}")));
            }
        }
    }
}

/// Appends eight bytes behind their length.
#[inline]
pub(crate) fn put_eight(row: &mut Vec<u8>, bytes: [u8; 8]) {
    let mut sized = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    sized[4..].copy_from_slice(&bytes);
    row.extend_from_slice(&sized);
}

/// Appends bytes behind their length.
#[inline]
pub(crate) fn put_sized(row: &mut Vec<u8>, bytes: &[u8]) {
    row.reserve(size_of::<i32>() + bytes.len());
    // What is longer, the driver refuses to send.
    row.extend_from_slice(&i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
    row.extend_from_slice(bytes);
}

fn put_display(line: &mut Vec<u8>, value: &impl fmt::Display) {
    use std::io::Write as _;
    // Writing into memory cannot fail.
    let _ = write!(line, "{value}");
}

fn put_escaped(line: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\n' | b'\r' | b'\t')) {
        line.put_slice(&rest[..at]);
        line.put_u8(b'\\');
        line.put_u8(match rest[at] {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            other => other,
        });
        rest = &rest[at + 1..];
    }
    line.put_slice(rest);
}

/// SQLite's truth values are the integers 0 and 1, so both directions are understood.
fn fit_bool(truth: bool, ty: &Type) -> Option<Parameter<'static>> {
    Some(match *ty {
        Type::BOOL => Parameter::Bool(truth),
        Type::INT2 => Parameter::Int2(truth.into()),
        Type::INT4 => Parameter::Int4(truth.into()),
        Type::INT8 => Parameter::Int8(truth.into()),
        _ => return None,
    })
}

/// A list is an array where the server asks for one, and elsewhere a JSON array.
fn fit_list<'v>(list: &'v str, ty: &Type) -> Option<Parameter<'v>> {
    match ty.kind() {
        Kind::Array(_) => Some(Parameter::Literal(to_array(list).into())),
        _ if matches!(*ty, Type::JSON | Type::JSONB) || is_text(ty) => Some(Parameter::Literal(list.into())),
        _ => None,
    }
}

/// Sixteen bytes are a UUID as well, which is how other engines store one.
fn fit_bytes<'v>(bytes: &'v [u8], ty: &Type) -> Option<Parameter<'v>> {
    match *ty {
        Type::BYTEA => Some(Parameter::Bytes(bytes)),
        Type::UUID if bytes.len() == 16 => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(Parameter::Literal(digits.into()))
        }
        _ => None,
    }
}

fn fit_integer(integer: i64, ty: &Type, number: usize) -> Result<Parameter<'static>> {
    let fitted = match *ty {
        Type::INT8 => Some(Parameter::Int8(integer)),
        Type::INT4 => integer.try_into().ok().map(Parameter::Int4),
        Type::INT2 => integer.try_into().ok().map(Parameter::Int2),
        Type::OID => integer.try_into().ok().map(Parameter::Oid),
        Type::NUMERIC => Some(Parameter::Literal(integer.to_string().into())),
        Type::FLOAT8 => exact_float(integer).map(Parameter::Float8),
        Type::FLOAT4 => i32::try_from(integer).ok().and_then(exact_float4).map(Parameter::Float4),
        Type::BOOL => u8::try_from(integer).ok().filter(|truth| *truth < 2).map(|truth| Parameter::Bool(truth == 1)),
        _ => return Err(mismatch("integer", ty, number)),
    };
    fitted.ok_or_else(|| out_of_range(ty, number))
}

fn exact_float4(integer: i32) -> Option<f32> {
    #[allow(clippy::cast_precision_loss, reason = "checked to be exact")]
    (integer.unsigned_abs() <= 1 << f32::MANTISSA_DIGITS).then_some(integer as f32)
}

fn fit_real(real: f64, ty: &Type, number: usize) -> Result<Parameter<'static>> {
    match *ty {
        Type::FLOAT8 => Ok(Parameter::Float8(real)),
        Type::NUMERIC => Ok(Parameter::Literal(format!("{real:?}").into())),
        Type::FLOAT4 => {
            #[allow(clippy::cast_possible_truncation, reason = "the column asks for its own precision")]
            let narrow = real as f32;
            let overflow = narrow.is_infinite() && real.is_finite();
            if overflow { Err(out_of_range(ty, number)) } else { Ok(Parameter::Float4(narrow)) }
        }
        _ => Err(mismatch("real", ty, number)),
    }
}

#[cold]
fn mismatch(value: &str, ty: &Type, number: usize) -> Error {
    let cast = match value {
        "bool" => "boolean",
        "integer" => "bigint",
        "real" => "double precision",
        "blob" => "bytea",
        other => other,
    };
    let message =
        format!("a value of type {value} cannot be bound to ${number}, which the server takes for {}", ty.name());
    let hint = match value {
        "list" => format!("write IN ${number} or = ANY(${number}), or bind one value"),
        _ => format!("bind another type, or write cast(${number} as {cast}) if that is what is meant"),
    };
    Error::new(ErrorKind::Query, message).because(Reason::Type).hint(hint)
}

#[cold]
fn out_of_range(ty: &Type, number: usize) -> Error {
    let message = format!("the number does not fit into ${number}, which the server takes for {}", ty.name());
    Error::new(ErrorKind::Query, message).because(Reason::Type)
}

/// Parameters are data of users, and the driver writes them into its debug log.
impl fmt::Debug for Parameter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parameter")
    }
}

impl ToSql for Parameter<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Bool(truth) => out.put_u8((*truth).into()),
            Self::Int2(number) => out.put_i16(*number),
            Self::Int4(number) => out.put_i32(*number),
            Self::Int8(number) => out.put_i64(*number),
            Self::Oid(number) => out.put_u32(*number),
            Self::Float4(number) => out.put_f32(*number),
            Self::Float8(number) => out.put_f64(*number),
            Self::Text(text) => out.put_slice(text.as_bytes()),
            Self::Literal(text) => out.put_slice(text.as_bytes()),
            Self::Bytes(bytes) => out.put_slice(bytes),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        if matches!(self, Self::Literal(_)) { Format::Text } else { Format::Binary }
    }

    tokio_postgres::types::to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_checked_against_the_range_of_the_server_s_type() {
        let fit = |integer, ty| fit_integer(integer, &ty, 1);
        assert_eq!(fit(32_767, Type::INT2).unwrap(), Parameter::Int2(32_767));
        assert_eq!(fit(-1, Type::INT4).unwrap(), Parameter::Int4(-1));
        assert_eq!(fit(1, Type::BOOL).unwrap(), Parameter::Bool(true));
        let refused = [(32_768, Type::INT2), (1 << 31, Type::INT4), (-1, Type::OID), (2, Type::BOOL)];
        for (integer, ty) in refused.into_iter().chain([((1 << 53) + 1, Type::FLOAT8), ((1 << 24) + 1, Type::FLOAT4)]) {
            let error = fit(integer, ty).unwrap_err();
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Query, Reason::Type));
        }
        assert!(fit_real(1e300, &Type::FLOAT4, 1).is_err());
        assert_eq!(fit_real(f64::INFINITY, &Type::FLOAT4, 1).unwrap(), Parameter::Float4(f32::INFINITY));
    }

    #[test]
    fn a_mismatch_names_the_type_and_the_cast() {
        let error = Parameter::fit(ValueRef::Integer(5), &Type::TEXT, 2).unwrap_err();
        let expected = "a value of type integer cannot be bound to $2, which the server takes for text; \
                        bind another type, or write cast($2 as bigint) if that is what is meant";
        assert_eq!(error.to_string(), expected);
        assert!(Parameter::fit(ValueRef::Text("abc"), &Type::BYTEA, 1).is_err());
        assert!(Parameter::fit(ValueRef::Blob(&[1]), &Type::TEXT, 1).is_err());
    }

    #[test]
    fn debug_shows_no_value() {
        assert_eq!(format!("{:?}", Parameter::Text("hunter2")), "Parameter");
    }

    #[test]
    fn copy_lines_are_escaped() {
        let mut line = Vec::new();
        Parameter::Text("a\\b\tc\nd\re").write_text(&mut line);
        Parameter::Bytes(&[0, 255]).write_text(&mut line);
        Parameter::Null.write_text(&mut line);
        assert_eq!(&line[..], b"a\\\\b\\tc\\nd\\re\\\\x00ff\\N");
    }
}
