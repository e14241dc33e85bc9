//! Dates and times from the wire to text: RFC 3339 where it reaches, as chrono and jiff write and read it.
//!
//! The wire counts days or microseconds from 2000-01-01. What RFC 3339 cannot say is written as PostgreSQL reads it:
//! `infinity`, `-infinity`, and years before 1 with ` BC` behind.

use std::fmt::Write as _;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// Days from 0000-03-01, where the calendar's 400-year cycle begins conveniently, to 2000-01-01.
const EPOCH: i64 = 730_425;

/// `2024-02-29`.
pub(crate) fn date(days: i32) -> String {
    match days {
        i32::MAX => "infinity".into(),
        i32::MIN => "-infinity".into(),
        days => with_era(i64::from(days), ""),
    }
}

/// `13:05:00` or `13:05:00.250`; PostgreSQL also has `24:00:00`.
pub(crate) fn time(micros: i64) -> String {
    let (seconds, fraction) = (micros / MICROS_PER_SECOND, micros % MICROS_PER_SECOND);
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let written = match fraction {
        0 => Ok(()),
        whole if whole % 1000 == 0 => write!(text, ".{:03}", whole / 1000),
        other => write!(text, ".{other:06}"),
    };
    written.map(|()| text).unwrap_or_default()
}

/// `2024-02-29T13:05:00`, with `zone` (`Z` or nothing) behind.
pub(crate) fn timestamp(micros: i64, zone: &str) -> String {
    match micros {
        i64::MAX => "infinity".into(),
        i64::MIN => "-infinity".into(),
        micros => {
            let clock = time(micros.rem_euclid(MICROS_PER_DAY));
            with_era(micros.div_euclid(MICROS_PER_DAY), &format!("T{clock}{zone}"))
        }
    }
}

/// The day, then `rest`, then the era if it is not ours.
fn with_era(days: i64, rest: &str) -> String {
    let (year, month, day) = civil(days);
    if year > 0 {
        format!("{year:04}-{month:02}-{day:02}{rest}")
    } else {
        format!("{:04}-{month:02}-{day:02}{rest} BC", 1 - year)
    }
}

/// Year, month and day of a day counted from 2000-01-01, in the Gregorian calendar without end to either side.
/// (Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.)
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH;
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_cycle = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_cycle + cycle * 400 + i64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_around_the_edges_of_the_calendar() {
        let known =
            [(0, "2000-01-01"), (59, "2000-02-29"), (60, "2000-03-01"), (-1, "1999-12-31"), (-10_957, "1970-01-01")];
        for (days, text) in known {
            assert_eq!(date(days), text);
        }
        assert_eq!(date(-730_119), "0001-01-01");
        assert_eq!(date(-730_120), "0001-12-31 BC");
    }

    #[test]
    fn fractions_have_as_many_digits_as_they_need() {
        assert_eq!(time(0), "00:00:00");
        assert_eq!(time(250_000), "00:00:00.250");
        assert_eq!(time(1), "00:00:00.000001");
        assert_eq!(time(MICROS_PER_DAY), "24:00:00");
        assert_eq!(timestamp(-1, "Z"), "1999-12-31T23:59:59.999999Z");
        assert_eq!(timestamp(i64::MAX, "Z"), "infinity");
    }
}
