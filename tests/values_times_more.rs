//! The same of the crates `time` and `jiff` 1.
#![cfg(all(feature = "time", feature = "jiff1", feature = "sqlite"))]

mod common;

use common::memory;
use jiff1::Timestamp;
use proptest::prelude::*;
use serde::Deserialize;
use strongroom::Value;
use strongroom::values::ValueRef;
use strongroom::values::{FromValue, IntoValue};
use time::{Date, OffsetDateTime, PrimitiveDateTime, Time, UtcDateTime, UtcOffset};

fn text(value: impl IntoValue) -> String {
    match value.into_value().unwrap() {
        Value::Text(text) => text,
        other => panic!("{other:?}"),
    }
}

fn utc(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

#[derive(Debug, Deserialize, PartialEq)]
struct Times {
    o: OffsetDateTime,
    p: PrimitiveDateTime,
    #[serde(with = "time::serde::rfc3339")]
    r: OffsetDateTime,
    d: Date,
    t: Time,
    j: Timestamp,
    c: jiff1::civil::DateTime,
}

#[tokio::test]
async fn current_timestamp_is_read_in_structs_and_by_name() {
    let db = memory().await;
    let at = utc(1_767_323_045);
    let stored = "SELECT $1 AS o, substr($1, 1, 19) AS p, $1 AS r, date($1) AS d, time($1) AS t, $1 AS j, \
                  substr($1, 1, 19) AS c";
    let (date, time) = (at.date(), at.time());
    let civil = jiff1::civil::datetime(2026, 1, 2, 3, 4, 5, 0);
    for text in ["2026-01-02 03:04:05", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05.000000+00:00"] {
        let j = Timestamp::from_second(at.unix_timestamp()).unwrap();
        let expected = Times { o: at, p: PrimitiveDateTime::new(date, time), r: at, d: date, t: time, j, c: civil };
        let row = db.fetch_one(stored, (text,)).await.unwrap().unwrap();
        assert_eq!(row.decode::<Times>().unwrap(), expected, "{text}");
        assert_eq!(row.get::<OffsetDateTime>("o").unwrap(), at);
        assert_eq!(row.get::<UtcDateTime>("o").unwrap(), at);
        assert_eq!(row.get::<PrimitiveDateTime>("p").unwrap(), expected.p);
        assert_eq!((row.get::<Date>("d").unwrap(), row.get::<Time>("t").unwrap()), (date, time));
        assert_eq!(row.get::<Timestamp>("j").unwrap(), j);
        assert_eq!(row.get::<jiff1::civil::DateTime>("c").unwrap(), civil);
    }
    assert_eq!(db.fetch_value("SELECT julianday('2026-01-02 03:04:05')", ()).await.unwrap(), Some(at));
    for sql in ["SELECT '2026-01-02 03:04:05'", "SELECT '2026-01-02T03:04:05Z'"] {
        assert_eq!(db.fetch_all_as::<OffsetDateTime>(sql, ()).await.unwrap(), [at]);
    }
    assert!(db.fetch_value::<PrimitiveDateTime>("SELECT '2026-01-02T03:04:05+02:00'", ()).await.is_err());
}

#[test]
fn years_that_would_sort_wrongly_are_refused() {
    let before = Date::from_ordinal_date(-1, 1).unwrap();
    assert!(before.into_value().is_err());
    assert!(PrimitiveDateTime::new(before, Time::MIDNIGHT).assume_utc().into_value().is_err());
    let east = UtcOffset::from_hms(2, 0, 0).unwrap();
    assert_eq!(text(utc(0).to_offset(east)), "1970-01-01 00:00:00.000000000Z");
}

proptest! {
    #[test]
    fn text_order_is_time_order_and_everything_comes_back(
        a in -62_135_596_800_000_000_000_i128..253_402_207_200_000_000_000,
        near in -2_000_000_000_i128..2_000_000_000,
    ) {
        let time = |nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap();
        let (a, b) = (time(a), time(a + near));
        prop_assert_eq!(text(a).cmp(&text(b)), a.cmp(&b));
        let stored = text(a);
        prop_assert_eq!(OffsetDateTime::from_value(ValueRef::Text(&stored)).unwrap(), a);
        let stamp = Timestamp::from_value(ValueRef::Text(&stored)).unwrap();
        prop_assert_eq!(stamp.as_nanosecond(), a.unix_timestamp_nanos());
        prop_assert_eq!(text(stamp), stored);
    }
}
