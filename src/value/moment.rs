//! Dates and times as text, in the form that this crate writes and in those that others do.
//!
//! Written is `2026-01-02 03:04:05.000000000Z`, with nine digits always: of two such texts the smaller is the earlier,
//! also beside those of SQLite's own functions (`2026-01-02 03:04:05`), which are the beginning of ours. Read is what
//! RFC 3339 and SQLite's date functions know, and what rusqlite, `SQLAlchemy`, Django and PostgreSQL write.

use crate::error::{Error, ErrorKind, Reason, Result};
use crate::value::Value;

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: i32,
    pub(crate) month: u8,
    pub(crate) day: u8,
}

/// A time of day; the second 60 is a leap second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    pub(crate) second: u8,
    pub(crate) nano: u32,
}

/// What a text says; one of date and clock is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) date: Option<Date>,
    pub(crate) clock: Option<Clock>,
    /// Seconds east of UTC, where the text says so.
    pub(crate) offset: Option<i32>,
}

impl Moment {
    /// Reads a text; `None` if it is no date or time.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut rest = Rest(text.as_bytes());
        if text.as_bytes().get(2) == Some(&b':') {
            let clock = rest.clock()?;
            return rest.0.is_empty().then_some(Self { date: None, clock: Some(clock), offset: None });
        }
        let date = Some(rest.date()?);
        if rest.0.is_empty() {
            return Some(Self { date, clock: None, offset: None });
        }
        rest.one_of(b"Tt ")?;
        let clock = Some(rest.clock()?);
        let offset = if rest.0.is_empty() { None } else { Some(rest.offset()?) };
        rest.0.is_empty().then_some(Self { date, clock, offset })
    }

    /// Whether the text says more than nine digits behind the seconds, which is more than a time holds.
    pub(crate) fn is_finer(text: &str) -> bool {
        let digits = |rest: &str| rest.bytes().take_while(u8::is_ascii_digit).count();
        text.contains(':') && text.split_once(['.', ',']).is_some_and(|(_, rest)| digits(rest) > 9)
    }

    /// Writes it so that the order of texts is the order of time: in UTC, if it says an offset.
    ///
    /// # Errors
    /// [`Reason::Type`] for a year that has not four digits: its text would stand in the wrong place.
    pub(crate) fn into_value(self) -> Result<Value> {
        let utc = self.in_utc();
        match utc.date {
            Some(Date { year, .. }) if !(0..=9999).contains(&year) => Err(unsortable(year)),
            _ => Ok(Value::Text(utc.text(' ', if utc.offset.is_some() { "Z" } else { "" }))),
        }
    }

    /// The same moment with the offset 0; unchanged without an offset.
    fn in_utc(self) -> Self {
        let (Some(date), Some(clock), Some(east)) = (self.date, self.clock, self.offset) else { return self };
        let leap = clock.second / 60;
        let second = i64::from(clock.second - leap) - i64::from(east);
        let second = days(date) * 86_400 + i64::from(clock.hour) * 3600 + i64::from(clock.minute) * 60 + second;
        let (day, second) = (second.div_euclid(86_400), second.rem_euclid(86_400));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "parts of a day")]
        let (hour, minute, second) = ((second / 3600) as u8, (second / 60 % 60) as u8, (second % 60) as u8 + leap);
        let clock = Clock { hour, minute, second, nano: clock.nano };
        Self { date: Some(date_of(day)), clock: Some(clock), offset: Some(0) }
    }

    /// The text with this separator between day and clock, and `zone` behind.
    pub(crate) fn text(self, separator: char, zone: &str) -> String {
        let date = self.date.map(|Date { year, month, day }| {
            let sign = if year > 9999 { "+" } else { "" };
            let width = if year < 0 { 5 } else { 4 };
            format!("{sign}{year:0width$}-{month:02}-{day:02}")
        });
        let clock = self
            .clock
            .map(|Clock { hour, minute, second, nano }| format!("{hour:02}:{minute:02}:{second:02}.{nano:09}{zone}"));
        match (date, clock) {
            (Some(date), Some(clock)) => format!("{date}{separator}{clock}"),
            (date, clock) => date.or(clock).unwrap_or_default(),
        }
    }
}

/// Days since 0000-03-01. (Howard Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`.)
fn days(date: Date) -> i64 {
    let year = i64::from(date.year) - i64::from(date.month <= 2);
    let month_from_march = (i64::from(date.month) + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(date.day) - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
}

/// The way back. (The same, `civil_from_days`.)
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a year of at most six digits")]
pub(super) fn date_of(days: i64) -> Date {
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_cycle = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u8;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u8;
    Date { year: (year_of_cycle + cycle * 400 + i64::from(month <= 2)) as i32, month, day }
}

#[cold]
fn unsortable(year: i32) -> Error {
    let error = Error::new(ErrorKind::Query, format!("the year {year} cannot be stored as text that sorts by time"));
    error.because(Reason::Type).hint("years from 0 to 9999 can; store others as integers")
}

/// What was not read yet.
struct Rest<'t>(&'t [u8]);

impl Rest<'_> {
    fn one_of(&mut self, wanted: &[u8]) -> Option<u8> {
        let (&first, rest) = self.0.split_first().filter(|(first, _)| wanted.contains(first))?;
        self.0 = rest;
        Some(first)
    }

    /// A number of at least and at most so many digits.
    fn number(&mut self, least: usize, most: usize) -> Option<u32> {
        let count = self.0.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(count).filter(|_| count >= least)?;
        self.0 = rest;
        Some(digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
    }

    fn two(&mut self, limit: u8) -> Option<u8> {
        self.number(2, 2).and_then(|number| u8::try_from(number).ok()).filter(|number| *number <= limit)
    }

    fn date(&mut self) -> Option<Date> {
        let negative = self.one_of(b"+-") == Some(b'-');
        let year = self.number(4, 6)?.cast_signed();
        self.one_of(b"-")?;
        let month = self.two(12)?;
        self.one_of(b"-")?;
        let day = self.two(31)?;
        Some(Date { year: if negative { -year } else { year }, month, day })
    }

    /// `03:04`, `03:04:05`, `03:04:05.678`.
    fn clock(&mut self) -> Option<Clock> {
        let hour = self.two(23)?;
        self.one_of(b":")?;
        let mut clock = Clock { hour, minute: self.two(59)?, ..Clock::default() };
        if self.one_of(b":").is_some() {
            clock.second = self.two(60)?;
            if self.one_of(b".").is_some() {
                let before = self.0.len();
                let digits = self.number(1, 9)?;
                let missing = 9 - u32::try_from(before - self.0.len()).ok()?;
                clock.nano = digits * 10_u32.pow(missing);
                while self.one_of(b"0").is_some() {}
            }
        }
        Some(clock)
    }

    /// `Z`, `+01`, `+0130`, `+01:30`, `+01:30:00` and ` UTC`, also behind a space.
    fn offset(&mut self) -> Option<i32> {
        if let Some(rest) = self.0.strip_prefix(b" UTC") {
            self.0 = rest;
            return Some(0);
        }
        self.one_of(b" ");
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        let mut seconds = i32::from(self.two(23)?) * 3600;
        for unit in [60, 1] {
            if self.one_of(b":").is_some() || !self.0.is_empty() {
                seconds += i32::from(self.two(59)?) * unit;
            }
        }
        Some(sign * seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn moments() -> impl Strategy<Value = Moment> {
        let date = (0..=9999_i32, 1..=12_u8, 1..=28_u8).prop_map(|(year, month, day)| Date { year, month, day });
        let clock = (0..=23_u8, 0..=59_u8, 0..=60_u8, 0..1_000_000_000_u32);
        let clock = clock.prop_map(|(hour, minute, second, nano)| Clock { hour, minute, second, nano });
        (date, clock, any::<bool>()).prop_map(|(date, clock, utc)| Moment {
            date: Some(date),
            clock: Some(clock),
            offset: utc.then_some(0),
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(moment in moments()) {
            let Value::Text(text) = moment.into_value().unwrap() else { unreachable!() };
            prop_assert_eq!(Moment::parse(&text), Some(moment));
            prop_assert_eq!(Moment::parse(&text.replace(' ', "T")), Some(moment));
        }

        #[test]
        fn days_are_counted_there_and_back(year in -9999..=99_999_i32, month in 1..=12_u8, day in 1..=28_u8) {
            let date = Date { year, month, day };
            prop_assert_eq!(date_of(days(date)), date);
            prop_assert_eq!(days(date_of(days(date) + 1)), days(date) + 1);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9TZ:. UC]{0,32}") {
            Moment::parse(&text);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026",
            "2026-01",
            "2026-1-2",
            "2026-13-01",
            "2026-01-02T",
            "2026-01-02 24:00",
            "2026-01-02 03:04:05.",
            "2026-01-02 03:04:05+",
            "2026-01-02 03:04:05 CET",
            "2026-01-02 03:04:05Zx",
            "03",
            "03:0",
            "03:04Z",
            "2026-01-02 03:04:05.1234567891",
            "-2026",
            "é2:03",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }
}
