//! Parameters from the fields of a struct.
#![cfg(all(feature = "chrono", feature = "jiff", feature = "uuid", feature = "json", feature = "sqlite"))]
#![allow(clippy::needless_borrows_for_generic_args, reason = "programs go on using what they bind")]

mod common;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime, Utc};
use common::{kinds, memory};
use jiff::Timestamp;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use strongroom::engine::Params;
use strongroom::values::IntoValue;
use strongroom::{ErrorKind, Json, Reason, Value, named};
use uuid::Uuid;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Admin,
    Guest,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Id(i64);

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct User {
    id: Id,
    name: String,
    email: Option<String>,
    active: bool,
    score: f64,
    letter: char,
    picture: Vec<u8>,
    hash: [u8; 2],
    thumb: Option<Vec<u8>>,
    role: Role,
    key: Uuid,
    seen: DateTime<Utc>,
    born: NaiveDate,
    wakes: NaiveTime,
    at: Timestamp,
    tags: Json<Vec<String>>,
    extra: Json<serde_json::Value>,
}

fn user() -> User {
    User {
        id: Id(7),
        name: "alice".into(),
        email: None,
        active: true,
        score: 0.5,
        letter: 'x',
        picture: vec![],
        hash: [0, 255],
        thumb: Some(vec![1]),
        role: Role::Guest,
        key: Uuid::from_u128(1),
        seen: DateTime::from_timestamp(1_767_323_045, 500_000_000).unwrap(),
        born: NaiveDate::from_ymd_opt(2000, 2, 29).unwrap(),
        wakes: NaiveTime::from_hms_opt(6, 30, 0).unwrap(),
        at: Timestamp::new(-1, 0).unwrap(),
        tags: Json(vec!["a\"b".into()]),
        extra: Json(serde_json::json!({"deep": [1, null]})),
    }
}

const COLUMNS: &str =
    "id, name, email, active, score, letter, picture, hash, thumb, role, key, seen, born, wakes, at, tags, extra";

#[tokio::test]
async fn a_struct_goes_in_by_its_fields_and_comes_out_by_its_columns() {
    let db = memory().await;
    db.execute(&format!("CREATE TABLE users ({COLUMNS})"), ()).await.unwrap();
    let insert = format!("INSERT INTO users VALUES (:{})", COLUMNS.replace(", ", ", :"));
    db.execute(&insert, named(&user())).await.unwrap();
    let other = User { email: Some("a@b".into()), thumb: None, ..user() };
    let sets = [named(&user()), named(&other), named(user())];
    assert_eq!(db.execute_many(&insert, sets).await.unwrap().rows_affected, 3);
    let back: Vec<User> = db.fetch_all_as("SELECT * FROM users ORDER BY rowid", ()).await.unwrap();
    assert_eq!(back, [user(), user(), other, user()]);

    // Each as the same value is stored by itself.
    let row = db.fetch_one("SELECT * FROM users", ()).await.unwrap().unwrap();
    let alone = [
        ("active", user().active.into_value()),
        ("picture", user().picture.into_value()),
        ("hash", user().hash.into_value()),
        ("key", user().key.into_value()),
        ("seen", user().seen.into_value()),
        ("born", user().born.into_value()),
        ("wakes", user().wakes.into_value()),
        ("at", user().at.into_value()),
        ("tags", user().tags.into_value()),
        ("role", "guest".into_value()),
    ];
    for (column, value) in alone {
        let value = match value.unwrap() {
            Value::Bool(truth) => Value::Integer(truth.into()),
            value => value,
        };
        assert_eq!(row.get::<Value>(column).unwrap(), value, "{column}");
    }
}

#[derive(Serialize)]
struct Nested {
    id: i64,
    list: Vec<i64>,
    empty: Vec<String>,
    map: BTreeMap<String, i64>,
    inner: Id2,
    huge: u64,
    year: NaiveDate,
    bytes: Vec<u8>,
}

#[derive(Serialize)]
struct Id2 {
    id: i64,
}

fn nested() -> Nested {
    Nested {
        id: 1,
        list: vec![1],
        empty: vec![],
        map: BTreeMap::new(),
        inner: Id2 { id: 1 },
        huge: u64::MAX,
        year: NaiveDate::from_ymd_opt(12345, 1, 1).unwrap(),
        bytes: vec![],
    }
}

#[tokio::test]
async fn fields_that_the_statement_does_not_name_are_left_out_and_missing_ones_are_named() {
    let db = memory().await;
    let id: Option<i64> = db.fetch_value("SELECT :id", named(&nested())).await.unwrap();
    assert_eq!(id, Some(1), "what cannot be bound may be there");
    let ids: Option<String> = db.fetch_value("SELECT @id || :id || $1", named(&nested())).await.ok().flatten();
    assert_eq!(ids, None, "styles do not mix");
    assert_eq!(db.fetch_value("SELECT :id || @id", named(&nested())).await.unwrap(), Some("11".to_owned()));

    for (field, what) in [
        ("list", "a list"),
        ("empty", "a list"),
        ("map", "a map"),
        ("inner", "a struct"),
        ("huge", "an integer above 64 bits"),
        ("year", "a year"),
    ] {
        let error = db.fetch_all(&format!("SELECT :{field}"), named(&nested())).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Parameters), "{field}");
        let text = error.to_string();
        assert!(text.contains(&format!("field {field} is {what}")) && text.contains("Json"), "{text}");
    }
    let error = db.fetch_all("SELECT :di", named(&nested())).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Parameters));
    assert!(error.to_string().contains(":di; the fields are: id, bytes"), "{error}");
    for sql in ["SELECT $1", "SELECT ?", "SELECT 1"] {
        let error = db.fetch_all(sql, named(&nested())).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Parameters), "{sql}");
    }
    let sets = [named(Id2 { id: 1 }), named(Id2 { id: 2 }), named(&nested())];
    db.execute("CREATE TABLE t (id)", ()).await.unwrap();
    let error = db.execute_many("INSERT INTO t VALUES (:inner)", sets).await.unwrap_err();
    assert!(error.to_string().contains("set 1 of parameters"), "{error}");
    let sets = [named(Id2 { id: 1 }), named(&nested()), named(Id2 { id: 3 })];
    assert_eq!(db.execute_many("INSERT INTO t VALUES (:id)", sets).await.unwrap().rows_affected, 3);
}

#[derive(Serialize)]
struct Flattened {
    id: i64,
    #[serde(flatten)]
    rest: HashMap<String, i64>,
    #[serde(rename = "nickName")]
    nick: &'static str,
    #[serde(skip)]
    _secret: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    maybe: Option<i64>,
}

#[derive(Serialize)]
struct Wrapped(Id2);

#[tokio::test]
async fn maps_flattened_and_renamed_fields_bind_by_their_names() {
    let db = memory().await;
    let flattened =
        Flattened { id: 1, rest: HashMap::from([("a".into(), 2)]), nick: "x", _secret: "hunter2", maybe: None };
    let sql = "SELECT :id || :a || :nickName";
    assert_eq!(db.fetch_value(sql, named(&flattened)).await.unwrap(), Some("12x".to_owned()));
    assert!(db.fetch_all("SELECT :maybe", named(&flattened)).await.is_err());
    let map = BTreeMap::from([("a", 1), ("b", 2)]);
    assert_eq!(db.fetch_value("SELECT :a + :b", named(&map)).await.unwrap(), Some(3));
    assert_eq!(db.fetch_value("SELECT :id", named(Wrapped(Id2 { id: 5 }))).await.unwrap(), Some(5));
    assert_eq!(db.fetch_value("SELECT :id", named(Some(Id2 { id: 5 }))).await.unwrap(), Some(5));
    assert_eq!(db.fetch_value("SELECT :id", named(serde_json::json!({"id": 6}))).await.unwrap(), Some(6));
    for error in [
        named(1).unwrap_err(),
        named("hunter2").unwrap_err(),
        named((1, 2)).unwrap_err(),
        named(vec![1]).unwrap_err(),
        named(None::<Id2>).unwrap_err(),
        named(BTreeMap::from([(1, 2)])).unwrap_err(),
    ] {
        assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type), "{error}");
        assert!(error.to_string().contains("struct") && !error.to_string().contains("hunter2"), "{error}");
    }
    let shown = format!("{:?} {:?}", named(&flattened).unwrap(), Params::None);
    assert!(!shown.contains("hunter2") && !shown.contains('x'), "{shown}");
}

#[derive(Serialize)]
struct At<T> {
    at: T,
}

proptest! {
    #[test]
    fn a_time_is_stored_in_one_form_whether_bound_alone_or_in_a_struct(
        seconds in -62_135_596_800_i64..253_402_207_200, nano in 0..1_000_000_000_u32, east in -80_000..80_000_i32,
    ) {
        fn bound<T: Serialize>(at: T) -> Value {
            match named(At { at }).unwrap() {
                Params::Fields(fields) => fields.iter().next().unwrap().1.clone(),
                other => panic!("{other:?}"),
            }
        }
        let utc = DateTime::<Utc>::from_timestamp(seconds, nano).unwrap();
        // RFC 3339 has no seconds in an offset.
        let fixed = utc.with_timezone(&FixedOffset::east_opt(east / 60 * 60).unwrap());
        let alone = utc.into_value().unwrap();
        prop_assert_eq!(bound(utc), alone.clone());
        prop_assert_eq!(bound(fixed), alone.clone());
        prop_assert_eq!(bound(Timestamp::new(seconds, i32::try_from(nano).unwrap()).unwrap()), alone);
        prop_assert_eq!(bound(utc.naive_utc()), utc.naive_utc().into_value().unwrap());
        prop_assert_eq!(bound(utc.time()), utc.time().into_value().unwrap());
    }
}

#[tokio::test]
async fn lists_of_bytes_are_blobs_and_other_lists_are_not_whether_there_is_something_in_them() {
    #[derive(Serialize)]
    struct Lists {
        vec: Vec<u8>,
        boxed: Box<[u8]>,
        array: [u8; 2],
        maybe: Option<Vec<u8>>,
        options: Vec<Option<u8>>,
        nested: Vec<Vec<u8>>,
        words: Vec<String>,
    }
    let db = memory().await;
    let full = Lists {
        vec: vec![1],
        boxed: Box::new([1]),
        array: [1, 2],
        maybe: Some(vec![1]),
        options: vec![Some(1)],
        nested: vec![vec![1]],
        words: vec!["a".into()],
    };
    let empty = Lists {
        vec: vec![],
        boxed: Box::new([]),
        array: [0, 0],
        maybe: Some(vec![]),
        options: vec![],
        nested: vec![],
        words: vec![],
    };
    for lists in [full, empty] {
        for name in ["vec", "boxed", "array", "maybe"] {
            let found: String =
                db.fetch_value(&format!("SELECT typeof(:{name})"), named(&lists)).await.unwrap().unwrap();
            assert_eq!(found, "blob", "{name}");
        }
        for name in ["options", "nested", "words"] {
            let error = db.fetch_all(&format!("SELECT :{name}"), named(&lists)).await.unwrap_err();
            assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Parameters), "{name}: {error}");
        }
    }
}

#[tokio::test]
async fn a_text_of_a_type_of_ones_own_is_kept_unless_it_is_a_whole_time() {
    struct Clock;
    impl Serialize for Clock {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str("09:30")
        }
    }
    #[derive(Serialize)]
    struct Opens {
        at: Clock,
    }
    let found = memory().await.fetch_value::<String>("SELECT :at", named(&Opens { at: Clock })).await.unwrap();
    assert_eq!(found.as_deref(), Some("09:30"));
}
