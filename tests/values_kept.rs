//! What serde keeps before it knows the types, as in `flatten` and enums: nothing is spelled anew that a type takes as it
//! is stored, and everything is read in the form that its type reads.
#![cfg(all(feature = "chrono", feature = "jiff", feature = "time", feature = "sqlite", feature = "json"))]

mod common;

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use common::{kinds, memory};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use strongroom::{ErrorKind, Reason, Row};

const TYPE: (ErrorKind, Reason) = (ErrorKind::Query, Reason::Type);

async fn row(sql: &str) -> Row {
    memory().await.fetch_one(sql, ()).await.unwrap().unwrap()
}

#[derive(Debug, Deserialize, PartialEq)]
struct Outer<T> {
    id: i64,
    #[serde(flatten)]
    rest: T,
}

async fn rest<T: DeserializeOwned>(columns: &str) -> T {
    let sql = format!("SELECT 7 AS id, {columns}");
    let outer: Outer<T> = row(&sql).await.decode().unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(outer.id, 7);
    outer.rest
}

#[derive(Debug, Deserialize, PartialEq)]
struct Texts {
    day: String,
    clock: String,
    stamp: String,
    bytes: Vec<u8>,
    at: NaiveDateTime,
}

const DAY: &str = "'2026-01-02' AS day, '09:30' AS clock, '2026-01-02T03:04:05+02:00' AS stamp";

#[tokio::test]
async fn texts_stay_as_they_are_beside_what_is_read_in_another_form() {
    let at = NaiveDate::from_ymd_opt(2026, 1, 2).unwrap().and_hms_opt(3, 4, 5).unwrap();
    let columns = [DAY, "x'00ff' AS bytes", "'2026-01-02 03:04:05' AS at"];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let found: Texts = rest(&order.map(|index| columns[index]).join(", ")).await;
        let stamp = "2026-01-02T03:04:05+02:00".to_owned();
        let expected = Texts { day: "2026-01-02".into(), clock: "09:30".into(), stamp, bytes: vec![0, 255], at };
        assert_eq!(found, expected, "{order:?}");
    }
}

#[derive(Debug, Deserialize, PartialEq)]
struct Sorts {
    local: NaiveDateTime,
    day: NaiveDate,
    clock: NaiveTime,
    utc: DateTime<Utc>,
    stamp: jiff::Timestamp,
    civil: jiff::civil::DateTime,
    with_offset: time::OffsetDateTime,
    plain: time::PrimitiveDateTime,
    missing: Option<NaiveDateTime>,
    bytes: Vec<u8>,
    done: bool,
}

#[tokio::test]
async fn every_sort_of_time_is_read_beside_every_other() {
    let form = "'2026-01-02 03:04:05'";
    let columns = [
        "'2026-01-02 03:04:05.000000000' AS local".to_owned(),
        "'2026-01-02' AS day".into(),
        "'03:04:05.000000000' AS clock".into(),
        format!("{form} AS utc"),
        format!("{form} AS stamp"),
        format!("{form} AS civil"),
        "'2026-01-02 03:04:05.000000000Z' AS with_offset".into(),
        format!("{form} AS plain"),
        "NULL AS missing".into(),
        "x'01' AS bytes".into(),
        "1 AS done".into(),
    ];
    let at = NaiveDate::from_ymd_opt(2026, 1, 2).unwrap().and_hms_opt(3, 4, 5).unwrap();
    for turn in 0..columns.len() {
        let mut turned = columns.clone();
        turned.rotate_left(turn);
        let found: Sorts = rest(&turned.join(", ")).await;
        assert_eq!(
            (found.local, found.day, found.clock, found.utc),
            (at, at.date(), at.time(), at.and_utc()),
            "{turn}"
        );
        assert_eq!(found.stamp.as_second(), at.and_utc().timestamp());
        assert_eq!(found.civil, jiff::civil::date(2026, 1, 2).at(3, 4, 5, 0));
        assert_eq!(found.with_offset.unix_timestamp(), at.and_utc().timestamp());
        assert_eq!(found.plain.assume_utc(), found.with_offset);
        assert_eq!((found.missing, found.bytes, found.done), (None, vec![1], true));
    }
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "kind")]
enum Tagged {
    At { v: NaiveDateTime, b: Vec<u8> },
    Name { v: String, b: Vec<u8> },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Untagged {
    Both { a: NaiveDateTime, c: i64 },
    Late { a: String, b: NaiveDateTime },
}

#[tokio::test]
async fn what_one_row_needed_is_not_done_to_a_text_of_the_next() {
    let db = memory().await;
    let text = "2026-01-02 03:04";
    let at = NaiveDate::from_ymd_opt(2026, 1, 2).unwrap().and_hms_opt(3, 4, 0).unwrap();
    let one = |kind: &str| format!("SELECT '{kind}' AS kind, '{text}' AS v, x'01' AS b");
    let sql = [one("At"), one("Name"), one("At"), one("Name")].join(" UNION ALL ");
    let found: Vec<Tagged> = db.fetch_all_as(&sql, ()).await.unwrap();
    let (time, name) = (Tagged::At { v: at, b: vec![1] }, Tagged::Name { v: text.into(), b: vec![1] });
    assert_eq!(found.iter().collect::<Vec<_>>(), [&time, &name, &time, &name]);
    let late: Untagged = row(&format!("SELECT '{text}' AS a, '{text}' AS b")).await.decode().unwrap();
    assert_eq!(late, Untagged::Late { a: text.into(), b: at });
    let both: Untagged = row(&format!("SELECT '{text}' AS a, 7 AS c")).await.decode().unwrap();
    assert_eq!(both, Untagged::Both { a: at, c: 7 });
}

#[tokio::test]
async fn what_no_form_makes_fit_is_refused() {
    for columns in ["'hunter2' AS at", "x'01' AS at", "'2026-01-02' AS at", "'03:04:05' AS at"] {
        #[derive(Debug, Deserialize)]
        #[allow(dead_code, reason = "it is never made")]
        struct Inner {
            at: NaiveDateTime,
        }
        let outcome = row(&format!("SELECT 1 AS id, {columns}")).await.decode::<Outer<Inner>>();
        match columns {
            "'2026-01-02' AS at" => drop(outcome.unwrap()),
            _ => assert_eq!(kinds(&outcome.unwrap_err()), TYPE, "{columns}"),
        }
    }
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "it is never made")]
struct Direct<T> {
    secret: T,
}

struct Own;

impl<'de> Deserialize<'de> for Own {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Err(serde::de::Error::custom(format!("no such currency: `{text}`")))
    }
}

#[tokio::test]
async fn no_type_quotes_a_text_in_an_error() {
    fn said<T: DeserializeOwned>(row: &Row) -> String {
        let Err(error) = row.decode::<T>() else { panic!("decoded") };
        assert_eq!(kinds(&error), TYPE);
        format!("{error} {error:?}")
    }
    for text in ["2026-01-02T03:04:05Z hunter2", "hunter2", "x1"] {
        let alone = row(&format!("SELECT '{text}' AS secret")).await;
        let inside = row(&format!("SELECT 1 AS id, '{text}' AS secret")).await;
        for words in [
            said::<Direct<jiff::Timestamp>>(&alone),
            said::<Direct<jiff::civil::Date>>(&alone),
            said::<Direct<DateTime<Utc>>>(&alone),
            said::<Direct<time::OffsetDateTime>>(&alone),
            said::<Direct<uuid::Uuid>>(&alone),
            said::<Outer<Direct<jiff::Timestamp>>>(&inside),
            said::<HashMap<String, jiff::Timestamp>>(&alone),
            said::<(jiff::Timestamp,)>(&alone),
            said::<jiff::Timestamp>(&alone),
        ] {
            assert!(!words.contains("hunter") && !words.contains("x1"), "{words}");
        }
        let Err(own) = alone.decode::<Direct<Own>>() else { panic!("decoded") };
        assert!(!own.to_string().contains(text), "{own}");
        assert!(own.to_string().contains("column secret"), "{own}");
    }
    let Err(own) = row("SELECT 'quite another' AS secret").await.decode::<Direct<std::net::IpAddr>>() else {
        panic!("decoded")
    };
    assert!(own.to_string().contains("invalid IP address"), "words that quote nothing are kept: {own}");
}

#[tokio::test]
async fn digits_that_a_time_cannot_hold_are_refused() {
    let fine = row("SELECT '2026-01-02T03:04:05.1234567891Z' AS secret").await;
    assert_eq!(kinds(&fine.get::<DateTime<Utc>>(0).unwrap_err()), TYPE);
    assert_eq!(kinds(&fine.decode::<Direct<DateTime<Utc>>>().unwrap_err()), TYPE);
    assert_eq!(kinds(&fine.decode::<Direct<jiff::Timestamp>>().unwrap_err()), TYPE);
    let nine = row("SELECT '2026-01-02T03:04:05.123456789Z' AS secret").await;
    assert_eq!(nine.get::<DateTime<Utc>>(0).unwrap().timestamp_subsec_nanos(), 123_456_789);
    nine.decode::<Direct<DateTime<Utc>>>().unwrap();
}
