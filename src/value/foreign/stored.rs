//! Times as they are stored, whoever stored them.

use super::{invalid, mismatch};
use crate::error::Result;
use crate::value::moment::Moment;
use crate::value::{NUMBERS, ValueRef, seconds_of};

/// A point in time, or a date with its time of day, as it was stored.
pub(super) enum Stored<'v> {
    Text(&'v str),
    /// Seconds since 1970 and nanoseconds.
    Unix(i64, u32),
}

impl<'v> Stored<'v> {
    pub(super) fn of(value: ValueRef<'v>, wanted: &str) -> Result<Self> {
        match value {
            ValueRef::Text(text) => Ok(Self::Text(text)),
            ValueRef::Integer(_) | ValueRef::Real(_) => seconds_of(value)
                .map(|(seconds, nano)| Self::Unix(seconds, nano))
                .ok_or_else(|| invalid(value.type_name(), wanted).hint(NUMBERS)),
            other => Err(mismatch(other, wanted)),
        }
    }
}

/// Text that is a date, a time of day or both: `made` takes from it what it says, or nothing if it says too much.
pub(super) fn parse<T>(value: ValueRef<'_>, wanted: &str, made: impl FnOnce(Moment) -> Option<T>) -> Result<T> {
    let ValueRef::Text(text) = value else { return Err(mismatch(value, wanted)) };
    made_of(Moment::parse(text), wanted, made)
}

pub(super) fn made_of<T>(moment: Option<Moment>, wanted: &str, made: impl FnOnce(Moment) -> Option<T>) -> Result<T> {
    moment.and_then(made).ok_or_else(|| {
        let error = invalid("text", wanted);
        let zoned = moment.is_some_and(|moment| moment.offset.is_some());
        if zoned { error.hint("it says an offset from UTC; read it as a type that has one") } else { error }
    })
}
