//! `Json<T>` and `serde_json::Value`.
#![cfg(all(feature = "json", feature = "sqlite"))]

mod common;

use common::{kinds, memory};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use strongroom::values::ValueRef;
use strongroom::values::{FromValue, IntoValue};
use strongroom::{ErrorKind, Json, Reason};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Settings {
    dark: bool,
    tags: Vec<String>,
    big: u64,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Account {
    id: i64,
    settings: Json<Settings>,
    maybe: Option<Json<Settings>>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Rest {
    extra: Option<String>,
}

fn settings() -> Settings {
    Settings { dark: true, tags: vec!["a\"\n".into()], big: u64::MAX }
}

#[tokio::test]
async fn json_goes_there_and_back_by_name_in_structs_and_through_sql() {
    let db = memory().await;
    let stored = "SELECT 1 AS id, $1 AS settings, NULL AS maybe, NULL AS extra";
    let row = db.fetch_one(stored, (Json(settings()),)).await.unwrap().unwrap();
    assert_eq!(row.get::<Json<Settings>>("settings").unwrap().0, settings());
    assert_eq!(row.get::<Option<Json<Settings>>>("maybe").unwrap(), None);
    let expected = Account { id: 1, settings: Json(settings()), maybe: None, rest: Rest { extra: None } };
    assert_eq!(row.decode::<Account>().unwrap(), expected);
    let pair: (i64, Json<Settings>, Option<Json<i64>>, Option<i64>) = row.decode().unwrap();
    assert_eq!(pair.1.0, settings());
    let all: Vec<Json<Vec<i64>>> = db.fetch_all_as("SELECT json_array(1, 2)", ()).await.unwrap();
    assert_eq!(all, [Json(vec![1, 2])]);
    let tag: String = db.fetch_value("SELECT $1 ->> '$.tags[0]'", (Json(&settings()),)).await.unwrap().unwrap();
    assert_eq!(tag, "a\"\n");

    let value = serde_json::json!({"a": [1, 2.5, null, "x"]});
    assert_eq!(db.fetch_value("SELECT $1", (value.clone(),)).await.unwrap(), Some(value.clone()));
    let number: serde_json::Value =
        db.fetch_value("SELECT json_extract($1, '$.a[0]')", (value,)).await.unwrap().unwrap();
    assert_eq!(number, 1);
    let twice = serde_json::to_string(&Json(settings())).unwrap();
    assert_eq!(twice, serde_json::to_string(&settings()).unwrap(), "elsewhere it is what is in it");
    assert_eq!(serde_json::from_str::<Json<Settings>>(&twice).unwrap().0, settings());
}

#[tokio::test]
async fn what_is_no_json_of_the_type_is_refused_without_its_text() {
    let db = memory().await;
    for sql in
        ["SELECT 'hunter2' AS a", "SELECT '{\"dark\": \"hunter2\"}' AS a", "SELECT x'00' AS a", "SELECT NULL AS a"]
    {
        let row = db.fetch_one(sql, ()).await.unwrap().unwrap();
        for error in [
            row.get::<Json<Settings>>(0).unwrap_err(),
            row.decode::<(Json<Settings>,)>().unwrap_err(),
            row.decode::<Json<Settings>>().unwrap_err(),
        ] {
            assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type), "{sql}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
    let map = std::collections::HashMap::from([(vec![1], 2)]);
    let error = Json(map).into_value().unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type));
}

#[tokio::test]
async fn a_float_that_is_no_number_is_refused_and_not_written_as_null() {
    #[derive(Clone, Serialize)]
    enum Shape {
        Unit,
        Newtype(Option<f32>),
        Tuple(i64, f64),
        Struct { a: f64, b: Option<i64> },
    }
    #[derive(Clone, Serialize)]
    struct Newtype(f64);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        #[allow(clippy::cast_possible_truncation, reason = "it stays what it is")]
        let narrow = bad as f32;
        for refused in [
            Json(bad).into_value(),
            Json(vec![1.0, bad]).into_value(),
            Json((1, bad)).into_value(),
            Json(Newtype(bad)).into_value(),
            Json(Some(bad)).into_value(),
            Json(std::collections::BTreeMap::from([("a", bad)])).into_value(),
            Json(vec![Shape::Unit, Shape::Newtype(Some(narrow))]).into_value(),
            Json(Shape::Tuple(1, bad)).into_value(),
            Json(Shape::Struct { a: bad, b: None }).into_value(),
        ] {
            let error = refused.unwrap_err();
            assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type), "{error}");
            assert!(error.to_string().contains("no numbers"), "{error}");
        }
    }
    // What is `null` because nothing is there, or only looks like it, is written.
    let fine = Json((None::<f64>, "null", Shape::Struct { a: 1.0, b: None }, Shape::Newtype(None), ()));
    let text = r#"[null,"null",{"Struct":{"a":1.0,"b":null}},{"Newtype":null},null]"#;
    assert_eq!(fine.into_value().unwrap(), text.into_value().unwrap());
    let db = memory().await;
    for sql in ["SELECT 9e999 AS x", "SELECT -9e999 AS x"] {
        let row = db.fetch_one(sql, ()).await.unwrap().unwrap();
        for error in [
            row.decode::<std::collections::HashMap<String, serde_json::Value>>().unwrap_err(),
            row.decode::<serde_json::Map<String, serde_json::Value>>().unwrap_err(),
            row.decode::<Vec<serde_json::Value>>().unwrap_err(),
            row.get::<serde_json::Value>(0).unwrap_err(),
        ] {
            assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type), "{error}");
        }
    }
}

#[tokio::test]
async fn a_real_is_one_in_json_too() {
    let db = memory().await;
    for (sql, expected) in [("SELECT 2.0 AS x", 2.0), ("SELECT 1e300 AS x", 1e300), ("SELECT -0.5 AS x", -0.5)] {
        let row = db.fetch_one(sql, ()).await.unwrap().unwrap();
        let value: serde_json::Value = row.get(0).unwrap();
        let map: std::collections::HashMap<String, serde_json::Value> = row.decode().unwrap();
        assert_eq!((value.as_f64(), value.is_f64(), &value), (Some(expected), true, &map["x"]), "{sql}");
    }
}

proptest! {
    #[test]
    fn any_value_goes_there_and_back(tags in proptest::collection::vec(any::<String>(), 0..4), dark: bool, big: u64) {
        let settings = Settings { dark, tags, big };
        let stored = Json(&settings).into_value().unwrap();
        prop_assert_eq!(Json::<Settings>::from_value(stored.as_ref()).unwrap().0, settings);
    }

    #[test]
    fn any_text_is_read_or_refused(text: String) {
        let _ = Json::<Settings>::from_value(ValueRef::Text(&text));
    }
}
