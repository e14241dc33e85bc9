//! Rust types to values and back. Whatever does not fit exactly is an error, never a rounded value.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use super::{Null, Value, ValueRef};
use crate::error::{Error, ErrorKind, Reason, Result};

// One implementation of `IntoValue` and none of `FromValue` is recommended: rustc would list eight of fifty, and the notes
// say more. With none at all it would list those of `IntoParams`.

/// A Rust type that can be bound to a placeholder. Implement it for your own types to bind them.
///
/// # Errors
/// [`Reason::Type`] when the value does not fit, such as a `u64` above `i64::MAX`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be bound as a parameter",
    label = "not a value",
    note = "bind a number, text, bytes, a bool or an `Option` of one; wrap what is `Serialize` in `Json(..)`; or implement `IntoValue`"
)]
pub trait IntoValue {
    /// Converts into a value.
    ///
    /// # Errors
    /// When the value does not fit the types of [`Value`].
    fn into_value(self) -> Result<Value>;

    /// Calls `look` with a view of the value. Types that borrow their text or bytes do so without copying them.
    ///
    /// # Errors
    /// As [`into_value`](IntoValue::into_value).
    fn with_ref<R>(self, look: impl FnOnce(ValueRef<'_>) -> R) -> Result<R>
    where
        Self: Sized,
    {
        self.into_value().map(|value| look(value.as_ref()))
    }
}

/// A Rust type that can be read from a column. Implement it for your own types to read them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from a column",
    label = "not a value",
    note = "read a number, text, bytes, a bool or an `Option` of one; `Json<T>` where `T` is `Deserialize`; or implement `FromValue`",
    note = "a whole row is read by `fetch_one_as` and `fetch_all_as`"
)]
pub trait FromValue: Sized {
    /// Converts from a value.
    ///
    /// # Errors
    /// [`Reason::Type`] when the value has another type or does not fit.
    fn from_value(value: ValueRef<'_>) -> Result<Self>;
}

#[cold]
pub(super) fn mismatch(value: ValueRef<'_>, wanted: &str) -> Error {
    let error = Error::new(ErrorKind::Query, format!("cannot read {} as {wanted}", value.type_name()));
    let error = error.because(Reason::Type);
    if matches!(value, ValueRef::Null) { error.hint("read it as an Option") } else { error }
}

#[cold]
fn out_of_range(value: impl std::fmt::Display, wanted: &str) -> Error {
    Error::new(ErrorKind::Query, format!("integer {value} does not fit into {wanted}")).because(Reason::Type)
}

#[diagnostic::do_not_recommend]
impl IntoValue for Value {
    fn into_value(self) -> Result<Value> {
        Ok(self)
    }
}

#[diagnostic::do_not_recommend]
impl IntoValue for Null {
    fn into_value(self) -> Result<Value> {
        Ok(Value::Null)
    }
}

impl<T: IntoValue> IntoValue for Option<T> {
    fn into_value(self) -> Result<Value> {
        self.map_or(Ok(Value::Null), T::into_value)
    }

    fn with_ref<R>(self, look: impl FnOnce(ValueRef<'_>) -> R) -> Result<R> {
        match self {
            None => Ok(look(ValueRef::Null)),
            Some(value) => value.with_ref(look),
        }
    }
}

/// References bind as what they point to, so slices and borrowed fields need no `clone`.
#[diagnostic::do_not_recommend]
impl<T: IntoValue + Clone> IntoValue for &T {
    fn into_value(self) -> Result<Value> {
        self.clone().into_value()
    }

    fn with_ref<R>(self, look: impl FnOnce(ValueRef<'_>) -> R) -> Result<R> {
        self.clone().with_ref(look)
    }
}

macro_rules! into_value {
    ($($type:ty => |$value:ident| $made:expr;)*) => {$(
        #[diagnostic::do_not_recommend]
        impl IntoValue for $type {
            fn into_value(self) -> Result<Value> {
                let $value = self;
                Ok($made)
            }
        }
    )*};
}

into_value! {
    bool => |value| Value::Bool(value);
    f64 => |value| Value::Real(value);
    f32 => |value| Value::Real(value.into());
    String => |value| Value::Text(value);
    char => |value| Value::Text(value.into());
    Box<str> => |value| Value::Text(value.into());
    Vec<u8> => |value| Value::Blob(value);
    Box<[u8]> => |value| Value::Blob(value.into());
}

/// Types that have the text or bytes somewhere else.
macro_rules! borrowed {
    ($($type:ty => |$value:ident| $made:expr, $shown:expr;)*) => {$(
        #[diagnostic::do_not_recommend]
        impl IntoValue for $type {
            fn into_value(self) -> Result<Value> {
                let $value = self;
                Ok($made)
            }

            fn with_ref<R>(self, look: impl FnOnce(ValueRef<'_>) -> R) -> Result<R> {
                let $value = &self;
                Ok(look($shown))
            }
        }
    )*};
}

borrowed! {
    &str => |value| Value::Text(value.to_owned()), ValueRef::Text(value);
    Arc<str> => |value| Value::Text((*value).to_owned()), ValueRef::Text(value);
    Rc<str> => |value| Value::Text((*value).to_owned()), ValueRef::Text(value);
    Cow<'_, str> => |value| Value::Text(value.into_owned()), ValueRef::Text(value);
    &[u8] => |value| Value::Blob(value.to_owned()), ValueRef::Blob(value);
    Arc<[u8]> => |value| Value::Blob((*value).to_owned()), ValueRef::Blob(value);
    Cow<'_, [u8]> => |value| Value::Blob(value.into_owned()), ValueRef::Blob(value);
    ValueRef<'_> => |value| value.to_owned(), *value;
}

#[diagnostic::do_not_recommend]
impl<const N: usize> IntoValue for [u8; N] {
    fn into_value(self) -> Result<Value> {
        Ok(Value::Blob(self.into()))
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        #[diagnostic::do_not_recommend]
        impl IntoValue for $type {
            fn into_value(self) -> Result<Value> {
                i64::try_from(self).map(Value::Integer).map_err(|_| out_of_range(self, "a 64-bit signed integer"))
            }
        }

        #[diagnostic::do_not_recommend]
        impl FromValue for $type {
            fn from_value(value: ValueRef<'_>) -> Result<Self> {
                match value {
                    ValueRef::Integer(integer) => {
                        Self::try_from(integer).map_err(|_| out_of_range(integer, stringify!($type)))
                    }
                    other => Err(mismatch(other, stringify!($type))),
                }
            }
        }
    )*};
}

integers! { i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize }

#[diagnostic::do_not_recommend]
impl FromValue for Value {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        Ok(value.to_owned())
    }
}

#[diagnostic::do_not_recommend]
impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Null => Ok(None),
            other => T::from_value(other).map(Some),
        }
    }
}

/// SQLite has no booleans: 0 and 1 are read as such, other integers are not.
#[diagnostic::do_not_recommend]
impl FromValue for bool {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Bool(value) => Ok(value),
            ValueRef::Integer(0) => Ok(false),
            ValueRef::Integer(1) => Ok(true),
            ValueRef::Integer(other) => Err(out_of_range(other, "bool")),
            other => Err(mismatch(other, "bool")),
        }
    }
}

/// Integers are read as floats only where nothing is lost (up to 2^53).
#[diagnostic::do_not_recommend]
impl FromValue for f64 {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Real(value) => Ok(value),
            ValueRef::Integer(value) => exact_float(value).ok_or_else(|| out_of_range(value, "f64 without loss")),
            other => Err(mismatch(other, "f64")),
        }
    }
}

#[diagnostic::do_not_recommend]
impl FromValue for f32 {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match (f64::from_value(value)?, value) {
            (_, ValueRef::Integer(integer)) if !is_exact_f32(integer) => Err(out_of_range(integer, "f32 without loss")),
            (wide, _) => narrow_float(wide)
                .ok_or_else(|| Error::new(ErrorKind::Query, "this real does not fit into f32").because(Reason::Type)),
        }
    }
}

/// A float of 32 bits, with their precision; `None` for a number that only an infinity would stand for.
#[allow(clippy::cast_possible_truncation, reason = "reading as f32 asks for its precision")]
pub(crate) fn narrow_float(value: f64) -> Option<f32> {
    let narrow = value as f32;
    (narrow.is_finite() || !value.is_finite()).then_some(narrow)
}

/// Whether a float of 32 bits is this integer.
pub(crate) fn is_exact_f32(value: i64) -> bool {
    value.unsigned_abs() <= 1 << f32::MANTISSA_DIGITS
}

/// `i64` to `f64` where the way back gives the same integer.
pub(crate) fn exact_float(value: i64) -> Option<f64> {
    const EXACT: u64 = 1 << f64::MANTISSA_DIGITS;
    #[allow(clippy::cast_precision_loss, reason = "checked to be exact")]
    (value.unsigned_abs() <= EXACT).then_some(value as f64)
}

#[diagnostic::do_not_recommend]
impl FromValue for String {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Text(text) => Ok(text.to_owned()),
            other => Err(mismatch(other, "String")),
        }
    }
}

#[diagnostic::do_not_recommend]
impl FromValue for char {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        let ValueRef::Text(text) = value else { return Err(mismatch(value, "char")) };
        let mut letters = text.chars();
        letters
            .next()
            .filter(|_| letters.next().is_none())
            .ok_or_else(|| Error::new(ErrorKind::Query, "this text is not one character").because(Reason::Type))
    }
}

/// Types that are made of another one.
macro_rules! from_value {
    ($($type:ty => $of:ty;)*) => {$(
        #[diagnostic::do_not_recommend]
        impl FromValue for $type {
            fn from_value(value: ValueRef<'_>) -> Result<Self> {
                <$of>::from_value(value).map(Into::into)
            }
        }
    )*};
}

from_value! {
    Box<str> => String;
    Arc<str> => String;
    Rc<str> => String;
    Cow<'_, str> => String;
    Box<[u8]> => Vec<u8>;
    Arc<[u8]> => Vec<u8>;
    Cow<'_, [u8]> => Vec<u8>;
}

#[diagnostic::do_not_recommend]
impl FromValue for Vec<u8> {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Blob(bytes) => Ok(bytes.to_owned()),
            other => Err(mismatch(other, "Vec<u8>")),
        }
    }
}

#[diagnostic::do_not_recommend]
impl<const N: usize> FromValue for [u8; N] {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Blob(bytes) => Self::try_from(bytes).map_err(|_| {
                let message = format!("blob of {} bytes does not fit into {N} bytes", bytes.len());
                Error::new(ErrorKind::Query, message).because(Reason::Type)
            }),
            other => Err(mismatch(other, "a byte array")),
        }
    }
}
