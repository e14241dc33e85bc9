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
