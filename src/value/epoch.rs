//! Numbers as points in time.

use super::ValueRef;
use super::moment::{Clock, Moment, date_of};

/// The way out for numbers that are no point in time.
pub(crate) const NUMBERS: &str = "numbers count seconds since 1970, up to the year 9999, or are Julian days; convert \
                                  others in SQL, as in datetime(at / 1000.0, 'unixepoch', 'subsec')";

/// The first and the last second that have a year of four digits, counted from 1970.
const SECONDS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;

/// Reads a number as SQLite's modifier `auto` does: an integer counts seconds since 1970; so does a float, unless it can
/// be a Julian day. Yields seconds since 1970 and nanoseconds.
pub(crate) fn seconds_of(value: ValueRef<'_>) -> Option<(i64, u32)> {
    match value {
        ValueRef::Integer(seconds) => SECONDS.contains(&seconds).then_some((seconds, 0)),
        ValueRef::Real(number) => from_real(number),
        _ => None,
    }
}

/// Julian days to the millisecond, as SQLite counts them, and seconds to the microsecond.
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

impl Moment {
    /// The point in time that a number is, without a word about its offset: it is UTC, as everything in SQLite.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "parts of a day")]
    pub(crate) fn of_number(value: ValueRef<'_>) -> Option<Self> {
        let (seconds, nano) = seconds_of(value)?;
        let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (hour, minute, second) = ((second / 3600) as u8, (second / 60 % 60) as u8, (second % 60) as u8);
        let clock = Some(Clock { hour, minute, second, nano });
        Some(Self { date: Some(date_of(day + DAYS_TO_1970)), clock, offset: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_number_is_read_or_refused(real in any::<f64>(), integer in any::<i64>()) {
            Moment::of_number(ValueRef::Real(real));
            Moment::of_number(ValueRef::Integer(integer));
        }
    }
}
