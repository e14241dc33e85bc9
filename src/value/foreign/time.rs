//! `time`. It knows no leap seconds: the second 60 is read as the last moment before it.

use time::{Date, OffsetDateTime, PrimitiveDateTime, Time, UtcDateTime, UtcOffset};

use super::{FromValue, IntoValue, Result, Stored, Value, ValueRef, invalid, made_of, parse, without_leap_second};
use crate::value::{moment, moment::Clock, moment::Moment};

fn day(date: Date) -> moment::Date {
    moment::Date { year: date.year(), month: date.month().into(), day: date.day() }
}

fn clock(time: Time) -> Clock {
    let (hour, minute, second, nano) = time.as_hms_nano();
    Clock { hour, minute, second, nano }
}

fn date(day: moment::Date) -> Option<Date> {
    Date::from_calendar_date(day.year, day.month.try_into().ok()?, day.day).ok()
}

fn time(clock: Clock) -> Option<Time> {
    let Clock { hour, minute, second, nano } = without_leap_second(clock);
    Time::from_hms_nano(hour, minute, second, nano).ok()
}

fn date_time(moment: Moment) -> Option<PrimitiveDateTime> {
    Some(PrimitiveDateTime::new(date(moment.date?)?, time(moment.clock.unwrap_or_default())?))
}

#[diagnostic::do_not_recommend]
impl IntoValue for UtcDateTime {
    fn into_value(self) -> Result<Value> {
        Moment { date: Some(day(self.date())), clock: Some(clock(self.time())), offset: Some(0) }.into_value()
    }
}

#[diagnostic::do_not_recommend]
impl IntoValue for OffsetDateTime {
    fn into_value(self) -> Result<Value> {
        UtcDateTime::from(self).into_value()
    }
}

#[diagnostic::do_not_recommend]
impl IntoValue for PrimitiveDateTime {
    fn into_value(self) -> Result<Value> {
        Moment { date: Some(day(self.date())), clock: Some(clock(self.time())), offset: None }.into_value()
    }
}

#[diagnostic::do_not_recommend]
impl IntoValue for Date {
    fn into_value(self) -> Result<Value> {
        Moment { date: Some(day(self)), clock: None, offset: None }.into_value()
    }
}

#[diagnostic::do_not_recommend]
impl IntoValue for Time {
    fn into_value(self) -> Result<Value> {
        Moment { date: None, clock: Some(clock(self)), offset: None }.into_value()
    }
}

/// What says no offset is in UTC, as everything in SQLite.
#[diagnostic::do_not_recommend]
impl FromValue for OffsetDateTime {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        const WANTED: &str = "point in time";
        match Stored::of(value, WANTED)? {
            Stored::Text(text) => made_of(Moment::parse(text), WANTED, |moment| {
                let offset = UtcOffset::from_whole_seconds(moment.offset.unwrap_or(0)).ok()?;
                Some(date_time(moment)?.assume_offset(offset))
            }),
            Stored::Unix(seconds, nano) => Self::from_unix_timestamp(seconds)
                .and_then(|utc| utc.replace_nanosecond(nano))
                .map_err(|_| invalid(value.type_name(), WANTED)),
        }
    }
}

#[diagnostic::do_not_recommend]
impl FromValue for UtcDateTime {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        OffsetDateTime::from_value(value).map(Self::from)
    }
}

#[diagnostic::do_not_recommend]
impl FromValue for PrimitiveDateTime {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        const WANTED: &str = "date and time";
        match Stored::of(value, WANTED)? {
            Stored::Text(text) => {
                made_of(Moment::parse(text), WANTED, |moment| date_time(moment).filter(|_| moment.offset.is_none()))
            }
            Stored::Unix(..) => UtcDateTime::from_value(value).map(|utc| Self::new(utc.date(), utc.time())),
        }
    }
}

#[diagnostic::do_not_recommend]
impl FromValue for Date {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        parse(value, "date", |moment| moment.date.filter(|_| moment.clock.is_none()).and_then(date))
    }
}

#[diagnostic::do_not_recommend]
impl FromValue for Time {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        parse(value, "time of day", |moment| moment.clock.filter(|_| moment.date.is_none()).and_then(time))
    }
}
