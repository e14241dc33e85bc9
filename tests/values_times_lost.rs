//! Times that would lose an offset, a day or a time of day: refused by `get`, by tuples and by structs alike.
#![cfg(all(feature = "chrono", feature = "jiff", feature = "jiff1", feature = "time", feature = "sqlite"))]

mod common;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use common::{kinds, memory};
use jiff::civil;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use strongroom::values::FromValue;
use strongroom::{AsyncDatabase, ErrorKind, Reason};
use time::{Date, PrimitiveDateTime, Time};

const WITH_OFFSET: [&str; 9] = [
    "2026-01-02 03:04:05+02:00",
    "2026-01-02T03:04:05+02:00",
    "2026-01-02T03:04:05-08",
    "2026-01-02 03:04:05 +00:00",
    "2026-01-02 03:04:05+00:00",
    "2026-01-02 03:04:05Z",
    "2026-01-02T03:04:05.5Z",
    "2026-01-02 03:04:05.000000000Z",
    "2026-01-02 03:04:05 UTC",
];

/// jiff reads these, `get` does not.
const WITH_ZONE: [&str; 3] =
    ["2026-01-02T03:04:05+02:00[Europe/Helsinki]", "2026-01-02T03:04:05[Europe/Helsinki]", "20260102T030405+0200"];

const LOCAL: [&str; 3] = ["2026-01-02 03:04:05", "2026-01-02T03:04:05", "2026-01-02 03:04:05.000000000"];

#[derive(Debug, Deserialize)]
struct Field<T> {
    at: T,
    maybe: Option<T>,
}

async fn refused<T: FromValue + DeserializeOwned + std::fmt::Debug + Send + 'static>(db: &AsyncDatabase, text: &str) {
    let row = db.fetch_one("SELECT $1 AS at, $1 AS maybe", (text,)).await.unwrap().unwrap();
    for error in [
        row.get::<T>("at").unwrap_err(),
        row.get::<Option<T>>("at").unwrap_err(),
        row.decode::<T>().unwrap_err(),
        row.decode::<(T, String)>().unwrap_err(),
        row.decode::<Field<T>>().unwrap_err(),
        db.fetch_one_as::<T>("SELECT $1", (text,)).await.unwrap_err(),
        db.fetch_one_as::<Field<T>>("SELECT NULL AS maybe, $1 AS at", (text,)).await.unwrap_err(),
    ] {
        assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type), "{text}: {error}");
        assert!(!error.to_string().contains(text), "{error}");
    }
}

async fn read<T>(db: &AsyncDatabase, text: &str, expected: T)
where
    T: FromValue + DeserializeOwned + std::fmt::Debug + PartialEq + Send + 'static,
{
    let row = db.fetch_one("SELECT $1 AS at, $1 AS maybe", (text,)).await.unwrap().unwrap();
    assert_eq!(row.get::<T>("at").unwrap(), expected, "{text}");
    assert_eq!(row.decode::<(T, String)>().unwrap().0, expected, "{text}");
    let field: Field<T> = row.decode().unwrap();
    assert_eq!((&field.at, field.maybe.as_ref()), (&expected, Some(&expected)), "{text}");
}

#[tokio::test]
async fn a_text_with_an_offset_is_no_local_time_wherever_it_is_read() {
    let db = memory().await;
    for text in WITH_OFFSET.iter().chain(&WITH_ZONE) {
        refused::<civil::DateTime>(&db, text).await;
        refused::<jiff1::civil::DateTime>(&db, text).await;
        refused::<NaiveDateTime>(&db, text).await;
        refused::<PrimitiveDateTime>(&db, text).await;
    }
    let day = NaiveDate::from_ymd_opt(2026, 1, 2).unwrap();
    let (date, clock) = (Date::from_ordinal_date(2026, 2).unwrap(), Time::from_hms(3, 4, 5).unwrap());
    for text in LOCAL {
        read(&db, text, civil::datetime(2026, 1, 2, 3, 4, 5, 0)).await;
        read(&db, text, jiff1::civil::datetime(2026, 1, 2, 3, 4, 5, 0)).await;
        read(&db, text, day.and_hms_opt(3, 4, 5).unwrap()).await;
        read(&db, text, PrimitiveDateTime::new(date, clock)).await;
    }
}

#[tokio::test]
async fn a_text_with_day_and_time_of_day_is_neither_wherever_it_is_read() {
    let db = memory().await;
    for text in WITH_OFFSET.iter().chain(&WITH_ZONE).chain(&LOCAL) {
        refused::<civil::Date>(&db, text).await;
        refused::<civil::Time>(&db, text).await;
        refused::<jiff1::civil::Date>(&db, text).await;
        refused::<jiff1::civil::Time>(&db, text).await;
        refused::<NaiveDate>(&db, text).await;
        refused::<NaiveTime>(&db, text).await;
        refused::<Date>(&db, text).await;
        refused::<Time>(&db, text).await;
    }
    read(&db, "2026-01-02", civil::date(2026, 1, 2)).await;
    read(&db, "2026-01-02", jiff1::civil::date(2026, 1, 2)).await;
    read(&db, "-000001-01-01", civil::date(-1, 1, 1)).await;
    read(&db, "03:04:05.5", civil::time(3, 4, 5, 500_000_000)).await;
    read(&db, "03:04", jiff1::civil::time(3, 4, 0, 0)).await;
}

#[derive(Debug, Deserialize)]
struct Around<T> {
    id: i64,
    #[serde(flatten)]
    rest: Field<T>,
}

async fn refused_within_flatten<T: DeserializeOwned + std::fmt::Debug + Send + 'static>(
    db: &AsyncDatabase,
    text: &str,
) {
    let sql = "SELECT 1 AS id, $1 AS at, NULL AS maybe";
    let error = db.fetch_one_as::<Around<T>>(sql, (text,)).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type), "{text}: {error}");
}

/// What jiff's types drop there is told in docs/values.md: of what serde has kept nobody hears who takes it.
#[tokio::test]
async fn within_flatten_the_same_holds_but_for_jiff_and_there_for_times_in_utc() {
    let db = memory().await;
    for text in WITH_OFFSET.iter().chain(&WITH_ZONE) {
        refused_within_flatten::<NaiveDateTime>(&db, text).await;
        refused_within_flatten::<PrimitiveDateTime>(&db, text).await;
    }
    for text in WITH_OFFSET.iter().chain(&WITH_ZONE).chain(&LOCAL) {
        refused_within_flatten::<NaiveDate>(&db, text).await;
        refused_within_flatten::<NaiveTime>(&db, text).await;
        refused_within_flatten::<Date>(&db, text).await;
        refused_within_flatten::<Time>(&db, text).await;
    }
    for text in ["2026-01-02 03:04:05Z", "2026-01-02T03:04:05.5Z", "2026-01-02 03:04:05.000000000Z"] {
        refused_within_flatten::<civil::DateTime>(&db, text).await;
        refused_within_flatten::<civil::Date>(&db, text).await;
        refused_within_flatten::<civil::Time>(&db, text).await;
        refused_within_flatten::<jiff1::civil::DateTime>(&db, text).await;
        refused_within_flatten::<jiff1::civil::Date>(&db, text).await;
        refused_within_flatten::<jiff1::civil::Time>(&db, text).await;
    }
    for text in LOCAL {
        let sql = "SELECT 1 AS id, $1 AS at, NULL AS maybe";
        let around: Around<civil::DateTime> = db.fetch_one_as(sql, (text,)).await.unwrap().unwrap();
        assert_eq!((around.id, around.rest.at), (1, civil::datetime(2026, 1, 2, 3, 4, 5, 0)));
        assert!(around.rest.maybe.is_none());
    }
}
