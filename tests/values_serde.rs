//! Rows into maps, flattened structs and enums of serde: what serde keeps before it knows the types, and names that
//! repeat.
#![cfg(all(feature = "chrono", feature = "uuid", feature = "sqlite"))]

mod common;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDateTime, Utc};
use common::{kinds, memory};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use strongroom::{AsyncDatabase, ErrorKind, Reason, Result, Row};
use uuid::Uuid;

const TYPE: (ErrorKind, Reason) = (ErrorKind::Query, Reason::Type);

async fn row(db: &AsyncDatabase, sql: &str) -> Row {
    db.fetch_one(sql, ()).await.unwrap().unwrap()
}

#[derive(Debug, Deserialize, PartialEq)]
struct Flags {
    done: bool,
    hidden: Option<bool>,
    count: u8,
    small: i8,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Task {
    id: i64,
    #[serde(flatten)]
    flags: Flags,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "kind")]
enum Tagged {
    Flag { on: bool, level: i64 },
    Count { level: i64 },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Untagged {
    Flag { on: bool, level: i64 },
    Name { name: String },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Dynamic {
    Truth(bool),
    Integer(i64),
    Text(String),
}

#[tokio::test]
async fn a_bool_on_an_integer_column_is_read_within_flatten_and_every_kind_of_enum() {
    let db = memory().await;
    db.execute("CREATE TABLE t (id INTEGER, done INTEGER, hidden INTEGER, count INTEGER, small INTEGER)", ())
        .await
        .unwrap();
    db.execute("INSERT INTO t VALUES (1, 1, NULL, 1, 0), (0, 0, 1, 0, 1), (7, 1, 0, 255, -128)", ()).await.unwrap();
    let task = |id, done, hidden, count, small| Task { id, flags: Flags { done, hidden, count, small } };
    let tasks: Vec<Task> = db.fetch_all_as("SELECT * FROM t", ()).await.unwrap();
    let expected = [task(1, true, None, 1, 0), task(0, false, Some(true), 0, 1), task(7, true, Some(false), 255, -128)];
    assert_eq!(tasks, expected);

    let sql =
        "SELECT 'Flag' AS kind, 1 AS level, 1 AS \"on\" UNION ALL SELECT 'Count', 1, 1 UNION ALL SELECT 'Flag', 0, 0";
    let tagged: Vec<Tagged> = db.fetch_all_as(sql, ()).await.unwrap();
    let flag = |on, level| Tagged::Flag { on, level };
    assert_eq!(tagged, [flag(true, 1), Tagged::Count { level: 1 }, flag(false, 0)]);

    let untagged: Untagged = row(&db, "SELECT 1 AS level, 0 AS \"on\"").await.decode().unwrap();
    assert_eq!(untagged, Untagged::Flag { on: false, level: 1 });
    let untagged: Untagged = row(&db, "SELECT 'a' AS name, 1 AS \"on\"").await.decode().unwrap();
    assert_eq!(untagged, Untagged::Name { name: "a".into() });

    // Where an integer fits too, it stays one.
    let values: HashMap<String, Dynamic> = row(&db, "SELECT 1 AS a, 2 AS b, 'x' AS c").await.decode().unwrap();
    assert_eq!(values["a"], Dynamic::Integer(1));
    assert_eq!((&values["b"], &values["c"]), (&Dynamic::Integer(2), &Dynamic::Text("x".into())));
    let scalars: Vec<Dynamic> = db.fetch_all_as("SELECT 1 UNION ALL SELECT 'x'", ()).await.unwrap();
    assert_eq!(scalars, [Dynamic::Integer(1), Dynamic::Text("x".into())]);
    let object: serde_json::Value = row(&db, "SELECT 1 AS a").await.decode().unwrap();
    assert_eq!(object, serde_json::json!({"a": 1}));
    let _ = Dynamic::Truth(true);
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", content = "value")]
enum Adjacent {
    Flag(Option<bool>),
    Count(i64),
    At(DateTime<Utc>),
    Nothing,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Around {
    id: i64,
    #[serde(flatten)]
    inner: Adjacent,
}

#[tokio::test]
async fn an_enum_with_its_tag_and_its_value_in_two_columns_is_read_alone_and_within_flatten() {
    let db = memory().await;
    let at = DateTime::from_timestamp(1_767_323_045, 0).unwrap();
    for (value, expected) in [
        ("'Flag' AS kind, 1 AS value", Adjacent::Flag(Some(true))),
        ("0 AS value, 'Flag' AS kind", Adjacent::Flag(Some(false))),
        ("'Flag' AS kind, NULL AS value", Adjacent::Flag(None)),
        ("'Count' AS kind, 1 AS value", Adjacent::Count(1)),
        ("0 AS value, 'Count' AS kind", Adjacent::Count(0)),
        ("'At' AS kind, '2026-01-02 03:04:05' AS value", Adjacent::At(at)),
        ("1767323045 AS value, 'At' AS kind", Adjacent::At(at)),
        ("'At' AS kind, 1 AS value", Adjacent::At(DateTime::from_timestamp(1, 0).unwrap())),
        ("'Nothing' AS kind", Adjacent::Nothing),
        ("NULL AS value, 'Nothing' AS kind", Adjacent::Nothing),
    ] {
        let alone: Adjacent = row(&db, &format!("SELECT {value}")).await.decode().unwrap();
        let around: Around = row(&db, &format!("SELECT 1 AS id, {value}")).await.decode().unwrap();
        assert_eq!((around.id, &around.inner, &alone), (1, &expected, &expected), "{value}");
    }
    let sql = "SELECT 'Flag' AS kind, 1 AS value UNION ALL SELECT 'Count', 1 UNION ALL SELECT 'At', 0";
    let all: Vec<Adjacent> = db.fetch_all_as(sql, ()).await.unwrap();
    assert_eq!(all, [Adjacent::Flag(Some(true)), Adjacent::Count(1), Adjacent::At(DateTime::UNIX_EPOCH)]);
    let error = row(&db, "SELECT 'Flag' AS kind, 2 AS value").await.decode::<Adjacent>().unwrap_err();
    assert_eq!(kinds(&error), TYPE);
}

#[tokio::test]
async fn what_is_no_truth_value_is_refused_within_flatten_too() {
    let db = memory().await;
    for sql in [
        "SELECT 1 AS id, 2 AS done, 1 AS hidden, 1 AS count, 1 AS small",
        "SELECT 1 AS id, 1 AS done, 1 AS hidden, 256 AS count, 1 AS small",
        "SELECT 1 AS id, 'yes' AS done, 1 AS hidden, 1 AS count, 1 AS small",
        "SELECT 1 AS id, 1 AS done",
    ] {
        let error = row(&db, sql).await.decode::<Task>().unwrap_err();
        assert_eq!(kinds(&error), TYPE, "{sql}: {error}");
    }
}

#[derive(Debug, Deserialize, PartialEq)]
struct Newtype(bool);

#[derive(Debug, Deserialize, PartialEq)]
struct Rest {
    flag: Newtype,
    letter: char,
    ratio: f64,
    narrow: f32,
    whole: f64,
    bytes: Vec<u8>,
    key: [u8; 2],
    missing: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Outer {
    id: i64,
    bytes_before: Vec<u8>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Stamps {
    done: bool,
    at: DateTime<Utc>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Local {
    at: NaiveDateTime,
    key: Uuid,
}

#[derive(Debug, Deserialize, PartialEq)]
struct With<T> {
    id: i64,
    seen: DateTime<Utc>,
    #[serde(flatten)]
    rest: T,
}

#[tokio::test]
async fn every_type_is_read_within_flatten_as_outside_of_it() {
    let db = memory().await;
    let sql = "SELECT 1 AS id, x'01' AS bytes_before, 1 AS flag, 'c' AS letter, 1 AS ratio, 0.5 AS narrow, 3 AS whole, \
               x'00FF' AS bytes, x'0102' AS key, NULL AS missing";
    let rest = Rest {
        flag: Newtype(true),
        letter: 'c',
        ratio: 1.0,
        narrow: 0.5,
        whole: 3.0,
        bytes: vec![0, 255],
        key: [1, 2],
        missing: None,
    };
    let outer: Outer = row(&db, sql).await.decode().unwrap();
    assert_eq!(outer, Outer { id: 1, bytes_before: vec![1], rest });

    let at: DateTime<Utc> = "2026-01-02T03:04:05Z".parse().unwrap();
    for done in ["1 AS done, '2026-01-02 03:04:05' AS at", "'2026-01-02 03:04:05' AS at, 1 AS done"] {
        let sql = format!("SELECT {done}, '2026-01-02 03:04:05' AS seen, 0 AS id");
        let found: With<Stamps> = row(&db, &sql).await.decode().unwrap();
        assert_eq!(found, With { id: 0, seen: at, rest: Stamps { done: true, at } });
    }
    let sql = "SELECT 1 AS id, '2026-01-02 03:04:05' AS at, $1 AS key, '2026-01-02T03:04:05Z' AS seen";
    let key = Uuid::from_u128(0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c8);
    for row in [db.fetch_one(sql, (key,)).await, db.fetch_one(sql, (key.as_bytes().as_slice(),)).await] {
        let found: With<Local> = row.unwrap().unwrap().decode().unwrap();
        assert_eq!(found, With { id: 1, seen: at, rest: Local { at: at.naive_utc(), key } });
    }
    let texts: With<HashMap<String, String>> =
        row(&db, "SELECT 1 AS id, '2026-01-02 03:04:05' AS seen, '2026-01-02 03:04:05' AS a").await.decode().unwrap();
    assert_eq!(texts.rest["a"], "2026-01-02 03:04:05", "a text stays as it is");
}

fn refused<T: DeserializeOwned + std::fmt::Debug>(row: &Row, what: &str) {
    let error = row.decode::<T>().unwrap_err();
    assert_eq!(kinds(&error), TYPE, "{what}: {error}");
    assert!(error.to_string().contains("id"), "{what}: {error}");
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "only its shape counts")]
struct Ids {
    id: i64,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "only its shape counts")]
struct Flattened {
    name: String,
    #[serde(flatten)]
    rest: HashMap<String, i64>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Named {
    name: String,
}

#[tokio::test]
async fn two_columns_of_one_name_are_refused_where_one_would_be_lost() {
    let db = memory().await;
    let twice = row(&db, "SELECT 1 AS id, 'a' AS name, 2 AS id").await;
    refused::<HashMap<String, serde_json::Value>>(&twice, "HashMap");
    refused::<BTreeMap<String, serde_json::Value>>(&twice, "BTreeMap");
    refused::<serde_json::Map<String, serde_json::Value>>(&twice, "serde_json::Map");
    refused::<serde_json::Value>(&twice, "serde_json::Value");
    refused::<Ids>(&twice, "a struct");
    refused::<Flattened>(&twice, "flatten");
    let error = twice.decode::<HashMap<String, serde_json::Value>>().unwrap_err();
    assert!(
        error.to_string().ends_with("the row has two columns id; give one of them another name with AS"),
        "{error}"
    );

    let equal = row(&db, "SELECT 1 AS id, 'a' AS name, 1 AS id").await;
    refused::<HashMap<String, serde_json::Value>>(&equal, "equal values");
    assert_eq!(twice.decode::<Named>().unwrap(), Named { name: "a".into() }, "nobody asked for it");
    assert_eq!(twice.decode::<(i64, String, i64)>().unwrap(), (1, "a".into(), 2));
    let cases: HashMap<String, i64> = row(&db, "SELECT 1 AS id, 2 AS ID").await.decode().unwrap();
    assert_eq!((cases["id"], cases["ID"]), (1, 2), "names differ by case");
    let all: Result<Vec<HashMap<String, i64>>> =
        db.fetch_all_as("SELECT a.id, b.id FROM (SELECT 1 AS id) a, (SELECT 2 AS id) b", ()).await;
    assert_eq!(kinds(&all.unwrap_err()), TYPE);
}

#[derive(Debug, Deserialize, PartialEq)]
struct Keyed {
    key: Uuid,
}

#[tokio::test]
async fn a_uuid_is_read_from_its_bytes_and_from_every_text_form() {
    let db = memory().await;
    let key = Uuid::from_u128(0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c8);
    let texts =
        [key.hyphenated().to_string(), key.simple().to_string(), key.urn().to_string(), key.braced().to_string()];
    for text in texts.iter().cloned().chain(texts.iter().take(2).map(|text| text.to_uppercase())) {
        assert_eq!(db.fetch_value("SELECT $1", (&text,)).await.unwrap(), Some(key), "{text}");
        let found: Option<Keyed> = db.fetch_one_as("SELECT $1 AS key", (&text,)).await.unwrap();
        assert_eq!(found, Some(Keyed { key }), "{text}");
    }
    let bytes = key.as_bytes().as_slice();
    assert_eq!(db.fetch_value("SELECT $1", (bytes,)).await.unwrap(), Some(key));
    assert_eq!(db.fetch_value::<Option<Uuid>>("SELECT $1", (bytes,)).await.unwrap(), Some(Some(key)));
    assert_eq!(db.fetch_value::<Option<Uuid>>("SELECT NULL", ()).await.unwrap(), Some(None));
    assert_eq!(db.fetch_one_as::<Keyed>("SELECT $1 AS key", (bytes,)).await.unwrap(), Some(Keyed { key }));
    for sql in ["SELECT x'00'", "SELECT zeroblob(17)", "SELECT zeroblob(0)", "SELECT 'secret' AS a", "SELECT 1"] {
        let error = db.fetch_value::<Uuid>(sql, ()).await.unwrap_err();
        assert_eq!(kinds(&error), TYPE, "{sql}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
