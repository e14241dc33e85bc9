//! `serde_json::Value` in structs, tuples and maps.
#![cfg(all(feature = "json", feature = "sqlite"))]

mod common;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use common::{kinds, memory};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use strongroom::engine::Params;
use strongroom::values::IntoValue;
use strongroom::{ErrorKind, Json, Reason, named};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Document<T = Value> {
    j: T,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Newtype(Value);

/// What `named` binds for a field.
fn bound(source: impl Serialize) -> strongroom::Value {
    match named(source).unwrap() {
        Params::Fields(fields) => fields.iter().next().expect("it can be bound").1.clone(),
        other => panic!("{other:?}"),
    }
}

fn values() -> [Value; 9] {
    let object = json!({"a": [1, 2.5, null, "x"], "b": {}});
    [json!("5"), json!("x"), json!(""), json!(5), json!(0), json!(true), json!(null), json!([1, "a"]), object]
}

#[tokio::test]
async fn a_json_value_is_stored_and_read_in_a_struct_as_it_is_alone() {
    let db = memory().await;
    for value in values() {
        let alone = value.clone().into_value().unwrap();
        assert_eq!(bound(Document { j: &value }), alone);
        assert_eq!(bound(Document { j: Some(&value) }), alone);
        assert_eq!(bound(Document { j: Box::new(Some(value.clone())) }), alone);
        assert_eq!(bound(Document { j: Cow::Borrowed(&value) }), alone);
        assert_eq!(bound(Document { j: Newtype(value.clone()) }), alone);

        let document = Document { j: value.clone() };
        let row = db.fetch_one("SELECT :j AS j", named(&document)).await.unwrap().unwrap();
        assert_eq!(row.get::<strongroom::Value>("j").unwrap(), alone, "{value}");
        assert_eq!(row.get::<Value>("j").unwrap(), value);
        assert_eq!(row.decode::<Document>().unwrap(), document);
        assert_eq!(row.decode::<Document<Option<Value>>>().unwrap().j.as_ref(), Some(&value));
        assert_eq!(row.decode::<Document<Newtype>>().unwrap().j.0, value);
        assert_eq!(row.decode::<(Box<Value>,)>().unwrap().0, value.clone().into());
        assert_eq!(row.decode::<Document<Json<Value>>>().unwrap().j.0, value);
        assert_eq!(db.fetch_all_as::<Document>("SELECT $1 AS j", (&*alone_text(&alone),)).await.unwrap(), [document]);
    }
    assert_eq!(bound(Document { j: None::<Value> }), strongroom::Value::Null);
    assert_eq!(db.fetch_one_as("SELECT NULL AS j", ()).await.unwrap(), Some(Document { j: None::<Value> }));
}

fn alone_text(value: &strongroom::Value) -> String {
    match value {
        strongroom::Value::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_get_reads_as_a_json_value_or_refuses_structs_and_tuples_do_too() {
    let db = memory().await;
    for sql in ["'{\"a\":1}'", "'5'", "' [1] '", "'\"2026-01-02\"'", "1", "0", "-7", "0.5", "1e300"] {
        let row = db.fetch_one(&format!("SELECT {sql} AS j"), ()).await.unwrap().unwrap();
        let expected = row.get::<Value>("j").unwrap();
        assert_eq!(row.decode::<Document>().unwrap().j, expected, "{sql}");
        assert_eq!(row.decode::<(Value,)>().unwrap().0, expected, "{sql}");
    }
    for sql in ["'hunter2'", "'{'", "'1 2'", "''", "'2026-01-02'", "x'31'", "NULL", "9e999"] {
        let row = db.fetch_one(&format!("SELECT {sql} AS j"), ()).await.unwrap().unwrap();
        for error in [
            row.get::<Value>("j").unwrap_err(),
            row.decode::<Document>().unwrap_err(),
            row.decode::<(Value,)>().unwrap_err(),
        ] {
            assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type), "{sql}: {error}");
            assert!(!error.to_string().contains("hunter2") && error.to_string().contains('j'), "{error}");
        }
    }
}

#[tokio::test]
async fn a_map_of_json_values_is_what_the_columns_are() {
    let db = memory().await;
    let columns = json!({"text": "5", "object": "{\"a\":1}", "number": 5, "real": 0.5, "null": null});
    let sql = "SELECT :text AS text, :object AS object, :number AS number, :real AS real, :null AS \"null\"";
    let map: Map<String, Value> = columns.as_object().unwrap().clone();
    let hash: HashMap<String, Value> = map.clone().into_iter().collect();
    let borrowed: BTreeMap<&str, &Value> = map.iter().map(|(name, value)| (&**name, value)).collect();
    let maybe: HashMap<&str, Option<&Value>> = map.iter().map(|(name, value)| (&**name, Some(value))).collect();
    let around = Around { id: 7, rest: hash.clone() };
    let types = "SELECT typeof(:text) || ' ' || typeof(:object) || ' ' || typeof(:number) || ' ' || typeof(:null)";
    for params in [named(&columns), named(&map), named(&hash), named(&borrowed), named(&maybe), named(&around)] {
        let params = params.unwrap();
        let types: Option<String> = db.fetch_value(types, params.clone()).await.unwrap();
        assert_eq!(types.unwrap(), "text text integer null");
        let row = db.fetch_one(sql, params).await.unwrap().unwrap();
        assert_eq!(row.get::<String>("text").unwrap(), "5");
        assert_eq!(row.decode::<Value>().unwrap(), columns);
        assert_eq!(row.decode::<Map<String, Value>>().unwrap(), map);
        assert_eq!(row.decode::<HashMap<String, Value>>().unwrap(), hash);
        assert_eq!(row.decode::<HashMap<String, Option<Value>>>().unwrap()["text"], Some(json!("5")));
        assert_eq!(row.decode::<Vec<Value>>().unwrap()[1], "{\"a\":1}");
    }
    let row = db.fetch_one(&format!("{sql}, :id AS id"), named(&around)).await.unwrap().unwrap();
    assert_eq!(row.decode::<Around<HashMap<String, Value>>>().unwrap(), around);
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Around<T> {
    id: i64,
    #[serde(flatten)]
    rest: T,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Beside<T> {
    j: T,
    #[serde(flatten)]
    rest: HashMap<String, i64>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind")]
enum Tagged {
    Document { j: Json<Value>, maybe: Option<Json<Vec<i64>>>, text: Json<String> },
}

#[tokio::test]
async fn with_flatten_a_json_value_is_refused_by_named_and_json_goes_there_and_back() {
    let db = memory().await;
    let refused = [
        named(Around { id: 1, rest: Document { j: json!("5") } }),
        named(Around { id: 1, rest: Document { j: Some(json!("5")) } }),
        named(Beside { j: json!({"a": 1}), rest: HashMap::new() }),
    ];
    for params in refused {
        let error = db.fetch_all("SELECT :j", params.unwrap()).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Parameters));
        assert!(error.to_string().contains("declare it as Json<serde_json::Value>"), "{error}");
    }
    for value in values() {
        let within = Around { id: 1, rest: Document { j: Json(value.clone()) } };
        let row = db.fetch_one("SELECT :id AS id, :j AS j", named(&within)).await.unwrap().unwrap();
        assert_eq!(row.get::<Value>("j").unwrap(), value);
        assert_eq!(row.decode::<Around<Document<Json<Value>>>>().unwrap(), within);
        assert_eq!(
            row.decode::<Beside<Value>>().unwrap(),
            Beside { j: value.clone(), rest: [("id".into(), 1)].into() }
        );
        let sql = "SELECT $1 AS j, '[1]' AS maybe, '\"x\"' AS text, 'Document' AS kind";
        let tagged: Option<Tagged> = db.fetch_one_as(sql, (Json(&value),)).await.unwrap();
        let expected = Tagged::Document { j: Json(value), maybe: Some(Json(vec![1])), text: Json("x".into()) };
        assert_eq!(tagged, Some(expected));
    }
    for sql in ["SELECT 1 AS id, 1 AS j", "SELECT 1 AS id, 1.0 AS j", "SELECT 1 AS id, '1.0' AS j"] {
        let number: Around<Document<Json<f64>>> = db.fetch_one_as(sql, ()).await.unwrap().unwrap();
        assert_eq!(number.rest.j, Json(1.0), "{sql}");
    }
    let error =
        db.fetch_one_as::<Around<Document<Json<Value>>>>("SELECT 1 AS id, 'hunter2' AS j", ()).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type));
    assert!(!error.to_string().contains("hunter2"), "{error}");
    // Elsewhere a text is a text.
    let text = r#"{"id": 1, "j": "[1]"}"#;
    assert_eq!(serde_json::from_str::<Around<Document<Json<String>>>>(text).unwrap().rest.j.0, "[1]");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e300..1e300_f64).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_value_goes_there_and_back_in_a_struct(value in any_json()) {
        let alone = value.clone().into_value().unwrap();
        prop_assert_eq!(bound(Document { j: &value }), alone.clone());
        let mut builder = strongroom::engine::RowsBuilder::new(["j"]);
        builder.push(alone.as_ref());
        let row = builder.finish().first().unwrap();
        prop_assert_eq!(row.decode::<Document>().unwrap().j, value.clone());
        prop_assert_eq!(row.get::<Value>("j").unwrap(), value);
    }
}
