//! `jiff`, in both of its versions. It knows no leap seconds: the second 60 is read as the last moment before it.

macro_rules! impls {
    ($jiff:ident) => {
        use super::super::{
            FromValue, IntoValue, Result, Stored, Value, ValueRef, invalid, made_of, parse, without_leap_second,
        };
        use crate::value::{moment, moment::Clock, moment::Moment};
        use $jiff::Timestamp;
        use $jiff::civil::{Date, DateTime, Time};
        use $jiff::tz::Offset;

        fn day(date: Date) -> moment::Date {
            let (month, day) = (date.month().cast_unsigned(), date.day().cast_unsigned());
            moment::Date { year: date.year().into(), month, day }
        }

        fn clock(time: Time) -> Clock {
            Clock {
                hour: time.hour().cast_unsigned(),
                minute: time.minute().cast_unsigned(),
                second: time.second().cast_unsigned(),
                nano: time.subsec_nanosecond().cast_unsigned(),
            }
        }

        fn date(day: moment::Date) -> Option<Date> {
            Date::new(day.year.try_into().ok()?, day.month.cast_signed(), day.day.cast_signed()).ok()
        }

        fn time(clock: Clock) -> Option<Time> {
            let Clock { hour, minute, second, nano } = without_leap_second(clock);
            Time::new(hour.cast_signed(), minute.cast_signed(), second.cast_signed(), nano.cast_signed()).ok()
        }

        fn date_time(moment: Moment) -> Option<DateTime> {
            Some(DateTime::from_parts(date(moment.date?)?, time(moment.clock.unwrap_or_default())?))
        }

        #[diagnostic::do_not_recommend]
        impl IntoValue for Timestamp {
            fn into_value(self) -> Result<Value> {
                let utc = Offset::UTC.to_datetime(self);
                Moment { date: Some(day(utc.date())), clock: Some(clock(utc.time())), offset: Some(0) }.into_value()
            }
        }

        #[diagnostic::do_not_recommend]
        impl IntoValue for DateTime {
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
        impl FromValue for Timestamp {
            fn from_value(value: ValueRef<'_>) -> Result<Self> {
                const WANTED: &str = "point in time";
                match Stored::of(value, WANTED)? {
                    Stored::Text(text) => made_of(Moment::parse(text), WANTED, |moment| {
                        let offset = Offset::from_seconds(moment.offset.unwrap_or(0)).ok()?;
                        offset.to_timestamp(date_time(moment)?).ok()
                    })
                    .or_else(|error| text.parse().map_err(|_| error)),
                    Stored::Unix(seconds, nano) => {
                        Self::new(seconds, nano.cast_signed()).map_err(|_| invalid(value.type_name(), WANTED))
                    }
                }
            }
        }

        #[diagnostic::do_not_recommend]
        impl FromValue for DateTime {
            fn from_value(value: ValueRef<'_>) -> Result<Self> {
                const WANTED: &str = "date and time";
                match Stored::of(value, WANTED)? {
                    Stored::Text(text) => made_of(Moment::parse(text), WANTED, |moment| {
                        date_time(moment).filter(|_| moment.offset.is_none())
                    }),
                    Stored::Unix(..) => Timestamp::from_value(value).map(|utc| Offset::UTC.to_datetime(utc)),
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
    };
}

#[cfg(feature = "jiff")]
mod v0 {
    impls! { jiff }
}

#[cfg(feature = "jiff1")]
mod v1 {
    impls! { jiff1 }
}
