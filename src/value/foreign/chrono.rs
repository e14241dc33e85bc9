//! `chrono`. Points in time are written in UTC; a leap second is the second 60.

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Timelike, Utc};

use super::{FromValue, IntoValue, Result, Stored, Value, ValueRef, made_of, parse};
use crate::value::{moment, moment::Clock, moment::Moment};

const SECOND: u32 = 1_000_000_000;

#[allow(clippy::cast_possible_truncation, reason = "a month, a day, an hour, a minute, a second")]
fn day(date: NaiveDate) -> moment::Date {
    moment::Date { year: date.year(), month: date.month() as u8, day: date.day() as u8 }
}

#[allow(clippy::cast_possible_truncation, reason = "a month, a day, an hour, a minute, a second")]
fn clock(time: NaiveTime) -> Clock {
    let leap = time.nanosecond() / SECOND;
    Clock {
        hour: time.hour() as u8,
        minute: time.minute() as u8,
        second: (time.second() + leap) as u8,
        nano: time.nanosecond() % SECOND,
    }
}

fn date(day: moment::Date) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(day.year, day.month.into(), day.day.into())
}

fn time(clock: Clock) -> Option<NaiveTime> {
    let Clock { hour, minute, second, nano } = clock;
    let leap = u32::from(second / 60);
    NaiveTime::from_hms_nano_opt(hour.into(), minute.into(), u32::from(second) - leap, nano + leap * SECOND)
}

fn date_time(moment: Moment) -> Option<NaiveDateTime> {
    Some(date(moment.date?)?.and_time(time(moment.clock.unwrap_or_default())?))
}

#[diagnostic::do_not_recommend]
impl<Z: TimeZone> IntoValue for DateTime<Z> {
    fn into_value(self) -> Result<Value> {
        let utc = self.naive_utc();
        Moment { date: Some(day(utc.date())), clock: Some(clock(utc.time())), offset: Some(0) }.into_value()
    }
}

#[diagnostic::do_not_recommend]
impl IntoValue for NaiveDateTime {
    fn into_value(self) -> Result<Value> {
        Moment { date: Some(day(self.date())), clock: Some(clock(self.time())), offset: None }.into_value()
    }
}

#[diagnostic::do_not_recommend]
impl IntoValue for NaiveDate {
    fn into_value(self) -> Result<Value> {
        Moment { date: Some(day(self)), clock: None, offset: None }.into_value()
    }
}

#[diagnostic::do_not_recommend]
impl IntoValue for NaiveTime {
    fn into_value(self) -> Result<Value> {
        Moment { date: None, clock: Some(clock(self)), offset: None }.into_value()
    }
}

/// What says no offset is in UTC, as everything in SQLite.
#[diagnostic::do_not_recommend]
impl<Z: TimeZone> FromValue for DateTime<Z>
where
    Self: From<DateTime<FixedOffset>>,
{
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        const WANTED: &str = "point in time";
        let fixed = match Stored::of(value, WANTED)? {
            Stored::Text(text) => made_of(Moment::parse(text), WANTED, |moment| {
                let offset = FixedOffset::east_opt(moment.offset.unwrap_or(0))?;
                date_time(moment)?.and_local_timezone(offset).single()
            })
            .or_else(|error| if Moment::is_finer(text) { Err(error) } else { text.parse().map_err(|_| error) })?,
            Stored::Unix(seconds, nano) => {
                let utc = DateTime::<Utc>::from_timestamp(seconds, nano);
                utc.ok_or_else(|| super::invalid(value.type_name(), WANTED))?.fixed_offset()
            }
        };
        Ok(fixed.into())
    }
}

#[diagnostic::do_not_recommend]
impl FromValue for NaiveDateTime {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        const WANTED: &str = "date and time";
        match Stored::of(value, WANTED)? {
            Stored::Text(text) => {
                made_of(Moment::parse(text), WANTED, |moment| date_time(moment).filter(|_| moment.offset.is_none()))
            }
            Stored::Unix(..) => DateTime::<Utc>::from_value(value).map(|utc| utc.naive_utc()),
        }
    }
}

#[diagnostic::do_not_recommend]
impl FromValue for NaiveDate {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        parse(value, "date", |moment| moment.date.filter(|_| moment.clock.is_none()).and_then(date))
    }
}

#[diagnostic::do_not_recommend]
impl FromValue for NaiveTime {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        parse(value, "time of day", |moment| moment.clock.filter(|_| moment.date.is_none()).and_then(time))
    }
}
