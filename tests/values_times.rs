//! Dates and times of chrono and jiff: the order of what is stored is the order of time, and what others wrote is read.
#![cfg(all(feature = "chrono", feature = "jiff", feature = "sqlite"))]

mod common;

use chrono::{DateTime, FixedOffset, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use common::{kinds, memory};
use jiff::{Timestamp, civil};
use proptest::prelude::*;
use serde::Deserialize;
use strongroom::values::ValueRef;
use strongroom::values::{FromValue, IntoValue};
use strongroom::{AsyncDatabase, ErrorKind, Reason, Value};

fn text(value: impl IntoValue) -> String {
    match value.into_value().unwrap() {
        Value::Text(text) => text,
        other => panic!("{other:?}"),
    }
}

fn utc(seconds: i64, nano: u32) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, nano).unwrap()
}

/// 2026-01-02T03:04:05Z.
const AT: i64 = 1_767_323_045;

async fn filled(values: impl IntoIterator<Item = impl IntoValue + Send> + Send) -> AsyncDatabase
where
{
    let db = memory().await;
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT)", ()).await.unwrap();
    for value in values {
        let value = value.into_value().unwrap();
        db.execute("INSERT INTO t (at) VALUES ($1)", (value,)).await.unwrap();
    }
    db
}

#[tokio::test]
async fn rows_are_found_and_ordered_by_time_whatever_their_fraction() {
    let times = [utc(AT, 500_000_000), utc(AT, 0), utc(AT - 1, 999_999_999), utc(AT, 1), utc(AT + 1, 0)];
    let db = filled(times).await;
    let ids: Vec<i64> = db.fetch_all_as("SELECT id FROM t ORDER BY at", ()).await.unwrap();
    assert_eq!(ids, [3, 2, 4, 1, 5]);
    let ids: Vec<i64> = db.fetch_all_as("SELECT id FROM t WHERE at >= $1 ORDER BY at", (times[1],)).await.unwrap();
    assert_eq!(ids, [2, 4, 1, 5]);
    let stamp = Timestamp::new(AT, 0).unwrap();
    let ids: Vec<i64> = db.fetch_all_as("SELECT id FROM t WHERE at > $1 ORDER BY at", (stamp,)).await.unwrap();
    assert_eq!(ids, [4, 1, 5], "one crate's text compares with the other's");
    let back: Timestamp = db.fetch_value("SELECT at FROM t WHERE id = 1", ()).await.unwrap().unwrap();
    assert_eq!(back, Timestamp::new(AT, 500_000_000).unwrap());
}

#[tokio::test]
async fn sqlite_s_own_times_stand_in_the_same_order() {
    let db = filled([utc(AT, 500_000_000)]).await;
    db.execute("INSERT INTO t (at) VALUES (datetime($1, 'unixepoch'))", (AT,)).await.unwrap();
    db.execute("INSERT INTO t (at) VALUES (datetime($1 + 0.75, 'unixepoch', 'subsec'))", (AT,)).await.unwrap();
    db.execute("INSERT INTO t (at) VALUES (datetime($1, 'unixepoch'))", (AT + 1,)).await.unwrap();
    let ids: Vec<i64> = db.fetch_all_as("SELECT id FROM t ORDER BY at", ()).await.unwrap();
    assert_eq!(ids, [2, 1, 3, 4]);
    let later: i64 =
        db.fetch_value("SELECT count(*) FROM t WHERE at > $1", (utc(AT, 600_000_000),)).await.unwrap().unwrap();
    assert_eq!(later, 2);
    let same: String = db.fetch_value("SELECT datetime(at, 'subsec') FROM t WHERE id = 1", ()).await.unwrap().unwrap();
    assert_eq!(same, "2026-01-02 03:04:05.500", "SQLite's functions read ours");
}

#[test]
fn offsets_are_stored_in_utc_so_that_they_compare() {
    let east = FixedOffset::east_opt(2 * 3600).unwrap();
    let late = utc(AT, 0).with_timezone(&east);
    assert_eq!(text(late), "2026-01-02 03:04:05.000000000Z");
    assert_eq!(text(utc(AT, 0).with_timezone(&Local)), text(utc(AT, 0)));
    let back = DateTime::<FixedOffset>::from_value(ValueRef::Text("2026-01-02 05:04:05+02:00")).unwrap();
    assert_eq!((back, back.offset().local_minus_utc()), (late, 7200));
    let back = DateTime::<Local>::from_value(ValueRef::Text("2026-01-02 05:04:05+02:00")).unwrap();
    assert_eq!(back, late);
}

#[test]
fn a_year_that_would_sort_wrongly_is_refused_and_one_that_was_stored_is_read() {
    let far = NaiveDate::from_ymd_opt(12345, 1, 1).unwrap();
    let before = NaiveDate::from_ymd_opt(-1, 1, 1).unwrap();
    for error in [
        far.into_value().unwrap_err(),
        before.into_value().unwrap_err(),
        before.and_hms_opt(0, 0, 0).unwrap().and_utc().into_value().unwrap_err(),
        civil::date(-1, 1, 1).into_value().unwrap_err(),
    ] {
        assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type));
        assert!(error.to_string().contains("years from 0 to 9999"), "{error}");
    }
    assert_eq!(NaiveDate::from_value(ValueRef::Text(&far.to_string())).unwrap(), far);
    assert_eq!(NaiveDate::from_value(ValueRef::Text("-0001-01-01")).unwrap(), before);
    assert_eq!(civil::Date::from_value(ValueRef::Text("-000001-01-01")).unwrap(), civil::date(-1, 1, 1));
    assert_eq!(text(NaiveDate::from_ymd_opt(0, 1, 1).unwrap()), "0000-01-01");
}

#[test]
fn a_leap_second_stands_between_its_neighbours() {
    let day = NaiveDate::from_ymd_opt(2016, 12, 31).unwrap();
    let leap = day.and_hms_nano_opt(23, 59, 59, 1_500_000_000).unwrap().and_utc();
    let (before, after) = (utc(1_483_228_799, 999_999_999), utc(1_483_228_800, 0));
    assert_eq!(text(leap), "2016-12-31 23:59:60.500000000Z");
    assert!(text(before) < text(leap) && text(leap) < text(after));
    assert_eq!(DateTime::<Utc>::from_value(ValueRef::Text(&text(leap))).unwrap(), leap);
    let stamp = Timestamp::from_value(ValueRef::Text(&text(leap))).unwrap();
    assert_eq!(stamp, Timestamp::new(1_483_228_799, 999_999_999).unwrap());
}

/// What this crate, in its current and earlier forms, SQLite, rusqlite, Django and others wrote.
const INSTANTS: &[&str] = &[
    "2026-01-02 03:04:05",
    "2026-01-02 03:04:05.000",
    "2026-01-02 03:04:05.000000",
    "2026-01-02 03:04:05.000000000Z",
    "2026-01-02T03:04:05",
    "2026-01-02T03:04:05Z",
    "2026-01-02T03:04:05.000Z",
    "2026-01-02t03:04:05z",
    "2026-01-02 03:04:05Z",
    "2026-01-02 03:04:05+00:00",
    "2026-01-02 05:34:05+02:30",
    "2026-01-02 05:34:05.000000+0230",
    "2026-01-01T19:04:05-08",
    "2026-01-02 03:04:05 UTC",
    "2026-01-02 03:04:05 +00:00",
    "2026-01-02 03:04:05.0 +00:00:00",
];

#[derive(Debug, Deserialize, PartialEq)]
struct Instants {
    c: DateTime<Utc>,
    f: DateTime<FixedOffset>,
    j: Timestamp,
    name: String,
}

#[tokio::test]
async fn a_point_in_time_is_read_from_every_form_that_others_write() {
    let db = memory().await;
    let (chrono, jiff) = (utc(AT, 0), Timestamp::new(AT, 0).unwrap());
    for text in INSTANTS {
        let row = db.fetch_one("SELECT $1 AS c, $1 AS f, $1 AS j, $1 AS name", (*text,)).await.unwrap().unwrap();
        assert_eq!(row.get::<DateTime<Utc>>("c").unwrap(), chrono, "{text}");
        assert_eq!(row.get::<DateTime<FixedOffset>>("f").unwrap(), chrono, "{text}");
        assert_eq!(row.get::<Option<Timestamp>>("j").unwrap(), Some(jiff), "{text}");
        let expected = Instants { c: chrono, f: chrono.into(), j: jiff, name: (*text).into() };
        assert_eq!(row.decode::<Instants>().unwrap(), expected, "{text}");
    }
    for sql in
        ["SELECT 1767323045", "SELECT julianday('2026-01-02 03:04:05')", "SELECT unixepoch('2026-01-02 03:04:05')"]
    {
        assert_eq!(db.fetch_value(sql, ()).await.unwrap(), Some(chrono), "{sql}");
        assert_eq!(db.fetch_value(sql, ()).await.unwrap(), Some(jiff), "{sql}");
    }
    let half: DateTime<Utc> =
        db.fetch_value("SELECT unixepoch('2026-01-02 03:04:05.5', 'subsec')", ()).await.unwrap().unwrap();
    assert_eq!(half, utc(AT, 500_000_000));
    let error = db.fetch_value::<DateTime<Utc>>("SELECT 1767323045000", ()).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type));
    assert!(error.to_string().contains("seconds since 1970"), "{error}");
}

#[derive(Debug, Deserialize, PartialEq)]
struct Numbers {
    c: DateTime<Utc>,
    f: Option<DateTime<FixedOffset>>,
    n: NaiveDateTime,
    j: Timestamp,
    l: civil::DateTime,
    zero: DateTime<Utc>,
    id: i64,
    done: bool,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Outer<T> {
    name: String,
    #[serde(flatten)]
    rest: T,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Kept {
    zero: Timestamp,
    one: i64,
    done: bool,
    at: Timestamp,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Either {
    At { at: DateTime<Utc> },
    Name { name: String },
}

#[tokio::test]
async fn numbers_are_times_in_structs_as_they_are_by_name() {
    let db = memory().await;
    let sql = "SELECT unixepoch('2026-01-02 03:04:05') AS c, julianday('2026-01-02 03:04:05') AS f, 1767323045 AS n, \
               1767323045.0 AS j, 2461042.6278356481343508 AS l, 0 AS zero, 1 AS id, 1 AS done";
    let expected = || Numbers {
        c: utc(AT, 0),
        f: Some(utc(AT, 0).fixed_offset()),
        n: utc(AT, 0).naive_utc(),
        j: Timestamp::new(AT, 0).unwrap(),
        l: civil::datetime(2026, 1, 2, 3, 4, 5, 0),
        zero: utc(0, 0),
        id: 1,
        done: true,
    };
    let twice = format!("{sql} UNION ALL {sql}");
    assert_eq!(db.fetch_all_as::<Numbers>(&twice, ()).await.unwrap(), [expected(), expected()]);
    assert_eq!(db.fetch_all(&twice, ()).await.unwrap().decode::<Numbers>().unwrap(), [expected(), expected()]);
    assert_eq!(db.fetch_all_as::<DateTime<Utc>>("SELECT 0 UNION ALL SELECT 1.5e9", ()).await.unwrap().len(), 2);
    let tuple: Option<(i64, NaiveDateTime)> = db.fetch_one_as("SELECT 1, 1767323045", ()).await.unwrap();
    assert_eq!(tuple, Some((1, utc(AT, 0).naive_utc())));
    // A column may hold both.
    let mixed = "SELECT 1 AS id, 1767323045 AS at UNION ALL SELECT 2, '2026-01-02 03:04:05' UNION ALL SELECT 3, NULL";
    let rows: Vec<(i64, Option<Timestamp>)> = db.fetch_all_as(mixed, ()).await.unwrap();
    assert_eq!(rows.iter().filter(|(_, at)| *at == Some(Timestamp::new(AT, 0).unwrap())).count(), 2);

    let rest = Kept { zero: Timestamp::UNIX_EPOCH, one: 1, done: false, at: Timestamp::new(AT, 0).unwrap() };
    let sql = "SELECT 'x' AS name, 0 AS zero, 1 AS one, 0 AS done, 1767323045 AS at";
    assert_eq!(db.fetch_one_as::<Outer<Kept>>(sql, ()).await.unwrap(), Some(Outer { name: "x".into(), rest }));
    let either: Option<Either> = db.fetch_one_as("SELECT 1767323045 AS at", ()).await.unwrap();
    assert_eq!(either, Some(Either::At { at: utc(AT, 0) }));
}

#[tokio::test]
async fn a_number_is_a_time_to_no_text_and_beyond_the_calendar_to_nobody() {
    let db = memory().await;
    let error = db.fetch_all_as::<String>("SELECT 1767323045", ()).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type));
    assert!(db.fetch_one_as::<Either>("SELECT 1767323045 AS name", ()).await.is_err());
    for sql in ["SELECT 1767323045000 AS c, 'x' AS name", "SELECT 1e300 AS c, 'x' AS name"] {
        for error in [
            db.fetch_one_as::<(DateTime<Utc>, String)>(sql, ()).await.unwrap_err(),
            db.fetch_one_as::<(Timestamp, String)>(sql, ()).await.unwrap_err(),
            db.fetch_one(sql, ()).await.unwrap().unwrap().get::<Timestamp>("c").unwrap_err(),
        ] {
            assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type), "{sql}");
            assert!(error.to_string().contains("datetime(at / 1000.0, 'unixepoch', 'subsec')"), "{error}");
        }
    }
    let recipe = "SELECT datetime(at / 1000.0, 'unixepoch', 'subsec') FROM (SELECT 1767323045500 AS at)";
    assert_eq!(db.fetch_all_as::<DateTime<Utc>>(recipe, ()).await.unwrap(), [utc(AT, 500_000_000)]);
    assert!(db.fetch_all_as::<NaiveDate>("SELECT 1767323045", ()).await.is_err());
    assert!(db.fetch_all_as::<NaiveTime>("SELECT 1767323045", ()).await.is_err());
    assert!(db.fetch_all_as::<civil::Date>("SELECT 1767323045", ()).await.is_err());
}

#[derive(Debug, Deserialize, PartialEq)]
struct Locals {
    c: NaiveDateTime,
    j: civil::DateTime,
    /// Beside them, one that needs an offset.
    u: DateTime<Utc>,
    day: NaiveDate,
    jday: Option<civil::Date>,
    clock: NaiveTime,
    jclock: civil::Time,
}

#[tokio::test]
async fn current_timestamp_is_read_in_structs_and_by_name() {
    let db = memory().await;
    db.execute("CREATE TABLE t (id INTEGER, at TEXT DEFAULT CURRENT_TIMESTAMP)", ()).await.unwrap();
    db.execute("INSERT INTO t (id) VALUES (1), (2)", ()).await.unwrap();
    db.execute("UPDATE t SET at = '2026-01-02 03:04:05'", ()).await.unwrap();
    let sql = "SELECT at AS c, at AS j, at AS u, date(at) AS day, date(at) AS jday, time(at) AS clock, time(at) AS jclock FROM t";
    let day = NaiveDate::from_ymd_opt(2026, 1, 2).unwrap();
    let expected = || Locals {
        c: utc(AT, 0).naive_utc(),
        j: civil::datetime(2026, 1, 2, 3, 4, 5, 0),
        u: utc(AT, 0),
        day,
        jday: Some(civil::date(2026, 1, 2)),
        clock: NaiveTime::from_hms_opt(3, 4, 5).unwrap(),
        jclock: civil::time(3, 4, 5, 0),
    };
    assert_eq!(db.fetch_all_as::<Locals>(sql, ()).await.unwrap(), [expected(), expected()]);
    let row = db.fetch_one(sql, ()).await.unwrap().unwrap();
    assert_eq!(row.get::<NaiveDateTime>("c").unwrap(), expected().c);
    assert_eq!(row.get::<civil::DateTime>("j").unwrap(), expected().j);
    assert_eq!(row.get::<NaiveTime>("clock").unwrap(), expected().clock);
    assert_eq!(row.get::<civil::Time>("jclock").unwrap(), expected().jclock);
    assert_eq!(db.fetch_all_as::<DateTime<Utc>>("SELECT at FROM t", ()).await.unwrap(), [utc(AT, 0); 2]);
    assert_eq!(db.fetch_all_as::<(i64, Timestamp)>("SELECT id, at FROM t", ()).await.unwrap().len(), 2);
    let clock: NaiveTime = db.fetch_value("SELECT '03:04'", ()).await.unwrap().unwrap();
    assert_eq!(clock, NaiveTime::from_hms_opt(3, 4, 0).unwrap());
    let minute: NaiveDateTime = db.fetch_value("SELECT '2026-01-02T03:04'", ()).await.unwrap().unwrap();
    assert_eq!(minute, day.and_hms_opt(3, 4, 0).unwrap());
    let midnight: DateTime<Utc> = db.fetch_value("SELECT date('2026-01-02')", ()).await.unwrap().unwrap();
    assert_eq!(midnight, day.and_hms_opt(0, 0, 0).unwrap().and_utc());
}

#[tokio::test]
async fn what_would_lose_something_is_refused_with_the_way_out() {
    let db = memory().await;
    for sql in ["SELECT '2026-01-02T03:04:05Z'", "SELECT '2026-01-02 03:04:05+02:00'"] {
        let error = db.fetch_value::<NaiveDateTime>(sql, ()).await.unwrap_err();
        assert!(error.to_string().contains("read it as a type that has one"), "{error}");
        assert!(db.fetch_value::<civil::DateTime>(sql, ()).await.is_err());
        assert!(db.fetch_one_as::<NaiveDateTime>(sql, ()).await.is_err());
    }
    assert!(db.fetch_value::<NaiveDate>("SELECT '2026-01-02 03:04:05'", ()).await.is_err());
    assert!(db.fetch_value::<NaiveTime>("SELECT '2026-01-02 03:04:05'", ()).await.is_err());
    for sql in ["SELECT '2026-01-02 03:04:05'", "SELECT '2026-01-02T03:04:05Z'"] {
        assert!(db.fetch_one_as::<NaiveDate>(sql, ()).await.is_err());
        assert!(db.fetch_one_as::<NaiveTime>(sql, ()).await.is_err());
        assert!(db.fetch_value::<civil::Date>(sql, ()).await.is_err());
        assert!(db.fetch_one_as::<civil::Date>(sql, ()).await.is_err(), "{sql}");
        assert!(db.fetch_one_as::<civil::Time>(sql, ()).await.is_err(), "{sql}");
    }
    for sql in ["SELECT 'hunter2' AS a", "SELECT x'00'", "SELECT '2026-02-30 00:00:00'", "SELECT 1e300", "SELECT NULL"]
    {
        let error = db.fetch_value::<DateTime<Utc>>(sql, ()).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type), "{sql}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(db.fetch_value::<Timestamp>(sql, ()).await.is_err(), "{sql}");
    }
}

proptest! {
    #[test]
    fn text_order_is_time_order_and_everything_comes_back(
        (a, an) in (-62_167_219_200_i64..253_402_300_799, 0..1_000_000_000_u32),
        (near, bn) in (-2_i64..3, 0..1_000_000_000_u32),
    ) {
        let (a, b) = (utc(a, an), utc((a + near).clamp(-62_167_219_200, 253_402_300_799), bn));
        prop_assert_eq!(text(a).cmp(&text(b)), a.cmp(&b));
        prop_assert_eq!(text(a.naive_utc()).cmp(&text(b.naive_utc())), a.cmp(&b));
        prop_assert_eq!(text(a.time()).cmp(&text(b.time())), a.time().cmp(&b.time()));
        prop_assert_eq!(text(a.date_naive()).cmp(&text(b.date_naive())), a.date_naive().cmp(&b.date_naive()));
        for time in [a, b] {
            let stored = Value::Text(text(time));
            prop_assert_eq!(DateTime::<Utc>::from_value(stored.as_ref()).unwrap(), time);
            let stamp = Timestamp::from_value(stored.as_ref());
            if time < utc(253_402_207_200, 0) {
                let stamp = stamp.unwrap();
                prop_assert_eq!((stamp.as_second(), text(stamp)), (time.timestamp() + i64::from(time.timestamp() < 0 && time.timestamp_subsec_nanos() > 0), text(time)));
            }
            let earlier = Value::Text(time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true));
            prop_assert_eq!(DateTime::<Utc>::from_value(earlier.as_ref()).unwrap(), time);
            let naive = Value::Text(time.naive_utc().format("%Y-%m-%dT%H:%M:%S%.f").to_string());
            prop_assert_eq!(NaiveDateTime::from_value(naive.as_ref()).unwrap(), time.naive_utc());
        }
        prop_assert!(a + TimeDelta::nanoseconds(1) > a);
    }
}

/// The recipe that docs/values.md gives for this kind of column.
fn recipe(of: &str) -> String {
    let page = include_str!("../docs/values.md");
    let (_, rest) = page.split_once(&format!("-- {of}\n")).expect("the page has it");
    rest.split_once(';').expect("its end").0.replace("events", "t")
}

#[tokio::test]
async fn the_recipes_bring_columns_of_earlier_builds_into_order() {
    let old =
        ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.5Z", "2026-01-02T03:04:05.123Z", "2026-01-02T03:04:05.123456Z"];
    let kept = ["2026-01-02 03:04:05.000000001Z", "2026-01-02T03:04:05+01:00", "note"];
    let db = filled(old.into_iter().chain(kept)).await;
    db.execute("INSERT INTO t (at) VALUES (NULL)", ()).await.unwrap();
    let changed = db.execute(&recipe("points in time"), ()).await.unwrap().rows_affected;
    assert_eq!(changed, 3, "what has more than milliseconds is left as it is");
    for (nano, id) in [(0, 1), (500_000_000, 2), (123_000_000, 3)] {
        let found: Vec<i64> = db.fetch_all_as("SELECT id FROM t WHERE at = $1", (utc(AT, nano),)).await.unwrap();
        assert_eq!(found, [id]);
    }
    let texts: Vec<String> =
        db.fetch_all_as("SELECT at FROM t WHERE id IN (4, 5, 6, 7) ORDER BY id", ()).await.unwrap();
    assert_eq!(texts, [&old[3..], &kept].concat());

    let old = ["2026-01-02T03:04:05", "2026-01-02T03:04:05.25", "2026-01-02T03:04:05.000001"];
    let db = filled(old.into_iter().chain(["2026-01-02 03:04:06.000000000", "2026-01-02T03:04:05Z"])).await;
    assert_eq!(db.execute(&recipe("local times"), ()).await.unwrap().rows_affected, 2);
    let local = utc(AT, 250_000_000).naive_utc();
    assert_eq!(db.fetch_all_as::<i64>("SELECT id FROM t WHERE at = $1", (local,)).await.unwrap(), [2]);
    let texts: Vec<String> = db.fetch_all_as("SELECT at FROM t WHERE id IN (3, 4, 5) ORDER BY id", ()).await.unwrap();
    assert_eq!(texts, [old[2], "2026-01-02 03:04:06.000000000", "2026-01-02T03:04:05Z"]);
}
