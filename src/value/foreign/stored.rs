//! Times as they are stored, whoever stored them.

use super::{invalid, mismatch};
use crate::error::Result;
use crate::value::ValueRef;
use crate::value::moment::Moment;

/// A point in time, or a date with its time of day, as it was stored.
pub(super) enum Stored<'v> {
    Text(&'v str),
    /// Seconds since 1970 and nanoseconds.
    Unix(i64, u32),
}

impl<'v> Stored<'v> {
    pub(super) fn of(value: ValueRef<'v>, wanted: &str) -> Result<Self> {
        let number = match value {
            ValueRef::Text(text) => return Ok(Self::Text(text)),
            ValueRef::Integer(seconds) => from_integer(seconds),
            ValueRef::Real(number) => from_real(number),
            other => return Err(mismatch(other, wanted)),
        };
        number.map(|(seconds, nano)| Self::Unix(seconds, nano)).ok_or_else(|| {
            invalid(value.type_name(), wanted).hint("numbers count seconds since 1970, up to the year 9999")
        })
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

/// The first and the last second that have a year of four digits, counted from 1970.
const SECONDS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// Reads a number as SQLite's modifier `auto` does: an integer counts seconds since 1970; so does a float, unless it can
/// be a Julian day. Yields seconds and nanoseconds.
fn from_integer(seconds: i64) -> Option<(i64, u32)> {
    SECONDS.contains(&seconds).then_some((seconds, 0))
}

/// [`from_integer`] for floats: Julian days to the millisecond, as SQLite counts them, and seconds to the microsecond.
#[allow(clippy::cast_possible_truncation, reason = "the range is checked")]
fn from_real(number: f64) -> Option<(i64, u32)> {
    const JULIAN_DAYS: std::ops::Range<f64> = 0.0..5_373_484.5;
    const JULIAN_1970: f64 = 2_440_587.5;
    let micros = if JULIAN_DAYS.contains(&number) {
        ((number - JULIAN_1970) * 86_400_000.0).round() * 1000.0
    } else {
        (number * 1_000_000.0).round()
    };
    let micros = (micros.abs() < 1e18).then_some(micros as i64)?;
    let (seconds, rest) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    SECONDS.contains(&seconds).then_some((seconds, u32::try_from(rest).ok()? * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_number_is_read_or_refused(real in any::<f64>(), integer in any::<i64>()) {
            from_real(real);
            from_integer(integer);
        }
    }
}
