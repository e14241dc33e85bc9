//! Values: what goes into a statement and what comes out of a row.
//!
//! Floor 0. [`Value`] is owned and can cross to another thread; [`ValueRef`] looks into a row without copying.

mod cells;
mod convert;
mod epoch;
#[cfg(feature = "json")]
mod finite;
#[cfg(any(
    feature = "chrono",
    feature = "jiff",
    feature = "jiff1",
    feature = "time",
    feature = "uuid",
    feature = "rust_decimal"
))]
mod foreign;
#[cfg(feature = "json")]
mod json;
mod moment;
#[cfg(not(feature = "json"))]
mod no_json;

use std::fmt;

pub(crate) use cells::Cells;
pub use convert::{FromValue, IntoValue};
pub(crate) use convert::{exact_float, is_exact_f32, narrow_float};
pub(crate) use epoch::NUMBERS;
#[cfg(any(feature = "chrono", feature = "jiff", feature = "jiff1", feature = "time"))]
pub(crate) use epoch::seconds_of;
#[cfg(feature = "json")]
pub use json::Json;
#[cfg(feature = "json")]
pub(crate) use json::{is_json, json_text, visit_json};
pub(crate) use moment::Moment;
#[cfg(not(feature = "json"))]
pub(crate) use no_json::{is_json, json_text, visit_json};

/// What stands around a type without being seen by serde.
const POINTERS: [&str; 7] =
    ["&", "mut ", "alloc::boxed::Box<", "alloc::borrow::Cow<", "'_, ", "alloc::rc::Rc<", "alloc::sync::Arc<"];

/// The name of a type, or of the one that it points to, without the brackets at its end.
pub(crate) fn pointed_at<T: ?Sized>() -> &'static str {
    let mut name = std::any::type_name::<T>();
    while let Some(inner) = POINTERS.iter().find_map(|pointer| name.strip_prefix(pointer)) {
        name = inner;
    }
    name.trim_end_matches('>')
}

/// The name under which `Json` tells rows and parameters that it is to be a text.
pub(crate) const JSON: &str = "$strongroom::Json";

/// One value, owned.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// SQL's NULL.
    Null,
    /// A truth value; SQLite stores it as 0 or 1.
    Bool(bool),
    /// A 64-bit integer.
    Integer(i64),
    /// A 64-bit float.
    Real(f64),
    /// Text; may contain NUL.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
    /// A list for `IN $1`, as a JSON array: what [`list`](crate::list) makes. Only parameters are lists; an engine without
    /// lists binds the text.
    List(String),
}

/// One value, borrowed from a row.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ValueRef<'a> {
    /// SQL's NULL.
    Null,
    /// A truth value.
    Bool(bool),
    /// A 64-bit integer.
    Integer(i64),
    /// A 64-bit float.
    Real(f64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Blob(&'a [u8]),
    /// A list, as a JSON array; only parameters are lists.
    List(&'a str),
}

/// A NULL that needs no type: `db.execute(sql, (1, Null))`. A bare `None` cannot be inferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Null;

impl ValueRef<'_> {
    /// Copies the value out of the row.
    pub fn to_owned(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Integer(value) => Value::Integer(value),
            Self::Real(value) => Value::Real(value),
            Self::Text(value) => Value::Text(value.into()),
            Self::Blob(value) => Value::Blob(value.into()),
            Self::List(value) => Value::List(value.into()),
        }
    }

    /// The type's name in messages: `null`, `bool`, `integer`, `real`, `text`, `blob` or `list`.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Integer(_) => "integer",
            Self::Real(_) => "real",
            Self::Text(_) => "text",
            Self::Blob(_) => "blob",
            Self::List(_) => "list",
        }
    }
}

impl Value {
    /// Looks at the value without copying it.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Bool(value) => ValueRef::Bool(*value),
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(value) => ValueRef::Text(value),
            Self::Blob(value) => ValueRef::Blob(value),
            Self::List(value) => ValueRef::List(value),
        }
    }
}

impl fmt::Display for ValueRef<'_> {
    /// Shows the value as a person would write it; blobs as hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Real(value) => value.fmt(f),
            Self::Text(value) | Self::List(value) => value.fmt(f),
            Self::Blob(value) => value.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}
