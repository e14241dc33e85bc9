//! The same of the crates `time` and `jiff` 1.
#![cfg(all(feature = "time", feature = "jiff", feature = "jiff1", feature = "sqlite"))]

mod common;

use common::memory;
use jiff1::Timestamp;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use strongroom::engine::Params;
use strongroom::values::ValueRef;
use strongroom::values::{FromValue, IntoValue};
use strongroom::{AsyncDatabase, Reason, Value, named};
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

#[derive(Serialize)]
struct At<T> {
    at: T,
}

/// What `named` binds for a field.
fn bound<T: Serialize>(at: T) -> Value {
    match named(At { at }).unwrap() {
        Params::Fields(fields) => fields.iter().next().unwrap().1.clone(),
        other => panic!("{other:?}"),
    }
}

#[derive(Serialize)]
struct Unsorted {
    id: i64,
    zoned: jiff::Zoned,
    maybe: Option<jiff::Zoned>,
    span: jiff1::Span,
    signed: jiff1::SignedDuration,
    lasts: time::Duration,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Utc {
    u: UtcDateTime,
    /// Reads numbers by itself.
    #[serde(with = "time::serde::timestamp")]
    own: OffsetDateTime,
}

#[derive(Serialize)]
struct Own {
    #[serde(with = "time::serde::timestamp")]
    seconds: OffsetDateTime,
    #[serde(with = "time::serde::timestamp::nanoseconds")]
    nanos: OffsetDateTime,
}

const GIGA: i64 = 1_000_000_000;

#[derive(Clone, Serialize)]
struct Newtype(OffsetDateTime);

#[tokio::test]
async fn times_bound_by_structs_are_found_and_ordered_beside_those_bound_alone() {
    let db = memory().await;
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT)", ()).await.unwrap();
    let east = UtcOffset::from_hms(5, 30, 0).unwrap();
    let at = |nanos: i64| OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanos)).unwrap();
    let times = [at(50 * GIGA), at(49 * GIGA + 1).to_offset(east), at(49 * GIGA).to_offset(east), at(0)];
    for time in times {
        db.execute("INSERT INTO t (at) VALUES (:at)", named(At { at: time })).await.unwrap();
    }
    let ids: Vec<i64> = db.fetch_all_as("SELECT id FROM t ORDER BY at", ()).await.unwrap();
    assert_eq!(ids, [4, 3, 2, 1]);
    let ids: Vec<i64> = db.fetch_all_as("SELECT id FROM t WHERE at >= $1 ORDER BY at", (times[2],)).await.unwrap();
    assert_eq!(ids, [3, 2, 1]);
    let ids: Vec<i64> = db.fetch_all_as("SELECT id FROM t WHERE at < :at", named(At { at: times[1] })).await.unwrap();
    assert_eq!(ids, [3, 4]);
    let back: Vec<OffsetDateTime> = db.fetch_all_as("SELECT at FROM t ORDER BY id", ()).await.unwrap();
    assert_eq!(back, times);
}

#[tokio::test]
async fn what_serde_writes_as_text_that_does_not_sort_is_refused_with_the_way_out() {
    let db = memory().await;
    let zoned = jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
    let row = Unsorted {
        id: 1,
        maybe: Some(zoned.clone()),
        zoned,
        span: jiff1::Span::new().hours(10),
        signed: jiff1::SignedDuration::from_secs(9),
        lasts: time::Duration::seconds(10),
    };
    assert_eq!(db.fetch_value("SELECT :id", named(&row)).await.unwrap(), Some(1), "they may be there");
    for (field, way) in [
        ("zoned", "bind its timestamp()"),
        ("maybe", "bind its timestamp()"),
        ("span", "bind a number in one unit"),
        ("signed", "bind a number in one unit"),
        ("lasts", "bind a number in one unit"),
    ] {
        let error = db.fetch_all(&format!("SELECT :{field}"), named(&row)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Parameters, "{field}");
        assert!(error.to_string().contains(&format!("field {field} ")) && error.to_string().contains(way), "{error}");
        assert!(!error.to_string().contains("Json"), "{error}");
    }
}

/// The same moment as SQLite's functions give it in numbers.
const NUMBERS: &str = "SELECT unixepoch('2026-01-02 03:04:05') AS o, julianday('2026-01-02 03:04:05') AS p, \
                       1767323045 AS r, '2026-01-02' AS d, '03:04:05' AS t, 1767323045.0 AS j, 1767323045 AS c";

#[tokio::test]
async fn numbers_are_times_in_structs_as_they_are_alone() {
    let db = memory().await;
    let at = utc(1_767_323_045);
    let civil = jiff1::civil::datetime(2026, 1, 2, 3, 4, 5, 0);
    let expected = Times {
        o: at,
        p: PrimitiveDateTime::new(at.date(), at.time()),
        r: at,
        d: at.date(),
        t: at.time(),
        j: Timestamp::from_second(at.unix_timestamp()).unwrap(),
        c: civil,
    };
    assert_eq!(db.fetch_one_as::<Times>(NUMBERS, ()).await.unwrap(), Some(expected));
    let row: Utc = db.fetch_one_as("SELECT 1767323045.25 AS u, 1767323045 AS own", ()).await.unwrap().unwrap();
    assert_eq!((row.u.unix_timestamp(), row.u.millisecond(), row.own), (at.unix_timestamp(), 250, at));
}

#[tokio::test]
async fn a_time_with_an_attribute_of_its_own_is_stored_as_that_says() {
    let at = utc(1_767_323_045);
    let db: AsyncDatabase = memory().await;
    let own = Own { seconds: at, nanos: at };
    let row: (i64, i64) = db.fetch_one_as("SELECT :seconds, :nanos", named(&own)).await.unwrap().unwrap();
    assert_eq!(row, (1_767_323_045, 1_767_323_045_000_000_000));
}

proptest! {
    #[test]
    fn a_time_is_stored_in_one_form_whether_bound_alone_or_in_a_struct(
        nanos in -62_135_596_800_000_000_000_i128..253_402_100_000_000_000_000, east in -80_000..80_000_i32,
    ) {
        let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap();
        let alone = at.into_value().unwrap();
        let fixed = at.to_offset(UtcOffset::from_whole_seconds(east).unwrap());
        prop_assert_eq!(bound(at), alone.clone());
        prop_assert_eq!(bound(Some(&fixed)), alone.clone());
        prop_assert_eq!(bound(Some(fixed)), alone.clone());
        prop_assert_eq!(bound(Box::new(fixed)), alone.clone());
        prop_assert_eq!(bound(Newtype(fixed)), alone.clone());
        prop_assert_eq!(bound(UtcDateTime::from_unix_timestamp_nanos(nanos).unwrap()), alone);
        let local = PrimitiveDateTime::new(at.date(), at.time());
        prop_assert_eq!(bound(local), local.into_value().unwrap());
        prop_assert_eq!(bound(at.date()), at.date().into_value().unwrap());
        prop_assert_eq!(bound(at.time()), at.time().into_value().unwrap());
        // A text stays what it is, also one that looks like a time.
        let text = format!("{} {}", at.date(), at.time());
        prop_assert_eq!(bound(&text), Value::Text(text));
    }

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
