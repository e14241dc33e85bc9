//! Every one-liner on every handle, and what comes back.
#![cfg(feature = "sqlite")]

mod common;

use std::collections::BTreeMap;

use common::{Home, Kind, kinds, memory};
use futures_util::TryStreamExt;
use serde::Deserialize;
use strongroom::engine::Changes;
use strongroom::{AsyncDatabase, ErrorKind, Reason, Value};

const SCHEMA: &str = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, age INTEGER)";

#[derive(Debug, Deserialize, PartialEq)]
struct User {
    id: i64,
    name: String,
    age: Option<u8>,
}

/// The same calls on a handle of any type; a macro, because the handles share no trait.
macro_rules! every_call {
    ($handle:expr, $first:literal) => {{
        let names = [format!("n{}", $first), format!("n{}", $first + 1), format!("n{}", $first + 2)];
        let added = $handle.execute("INSERT INTO users (name, age) VALUES ($1, $2)", (&names[0], 30)).await.unwrap();
        assert_eq!((added.rows_affected, added.last_insert_id.is_some()), (1, true));
        let id = added.last_insert_id.unwrap();
        let more = names[1..].iter().map(|name| (name, None::<i64>));
        let many = $handle.execute_many("INSERT INTO users (name, age) VALUES ($1, $2)", more).await.unwrap();
        assert_eq!((many.rows_affected, many.last_insert_id), (2, Some(id + 2)));
        let user: User = $handle.fetch_one_as("SELECT * FROM users WHERE id = $1", (id,)).await.unwrap().unwrap();
        assert_eq!(user, User { id, name: names[0].clone(), age: Some(30) });
        let row = $handle.fetch_one("SELECT name FROM users WHERE id = $1", (id + 1,)).await.unwrap().unwrap();
        assert_eq!(row.get::<String>("name").unwrap(), names[1]);
        let none = $handle.fetch_one("SELECT name FROM users WHERE id = -1", ()).await.unwrap();
        assert!(none.is_none());
        let rows = $handle.fetch_all("SELECT id, name FROM users WHERE id >= $1 ORDER BY id", (id,)).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.get::<String>(1).unwrap()).collect::<Vec<_>>(), names);
        let users: Vec<User> = $handle.fetch_all_as("SELECT * FROM users WHERE id >= $1", (id,)).await.unwrap();
        assert_eq!(users.len(), 3);
        let age: Option<Option<i64>> =
            $handle.fetch_value("SELECT age FROM users WHERE id = $1", (id + 2,)).await.unwrap();
        assert_eq!(age, Some(None));
        let ids: Vec<i64> = $handle
            .fetch_stream("SELECT id FROM users WHERE id >= $1 ORDER BY id", (id,))
            .map_ok(|row| row.get::<i64>(0).unwrap())
            .try_collect()
            .await
            .unwrap();
        assert_eq!(ids, [id, id + 1, id + 2]);
        assert!($handle.table_exists("users").await.unwrap() && $handle.table_exists("USERS").await.unwrap());
        assert!(!$handle.table_exists("nobody").await.unwrap());
        $handle.execute_script("CREATE VIEW v AS SELECT 1; SELECT * FROM v; DROP VIEW v; -- done").await.unwrap();
    }};
}

#[tokio::test]
async fn every_call_works_on_the_database_a_transaction_a_savepoint_and_a_raw_connection() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(SCHEMA).await.unwrap();
        every_call!(db, 0);
        let mut tx = db.begin().await.unwrap();
        every_call!(tx, 10);
        let mut nested = tx.begin().await.unwrap();
        every_call!(nested, 20);
        nested.commit().await.unwrap();
        tx.commit().await.unwrap();
        let mut conn = db.connection().await.unwrap();
        every_call!(conn, 30);
        drop(conn);
        assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM users", ()).await.unwrap(), Some(12), "{kind:?}");
    }
}

#[tokio::test]
async fn a_reading_connection_reads_and_refuses_to_write() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(SCHEMA).await.unwrap();
        db.execute("INSERT INTO users (name) VALUES ('a')", ()).await.unwrap();
        let mut reader = db.read_connection().await.unwrap();
        assert_eq!(reader.fetch_value::<String>("SELECT name FROM users", ()).await.unwrap().unwrap(), "a");
        assert!(reader.table_exists("users").await.unwrap());
        let error = reader.execute("DELETE FROM users", ()).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Connection, Reason::NotWritable), "{error}");
        reader.execute_many("DELETE FROM users WHERE id = $1", [(1,)]).await.unwrap_err();
        db.execute("DELETE FROM users", ()).await.expect("a reader in use holds up no writer");
    }
}

async fn changes(db: &AsyncDatabase, sql: &str) -> (u64, Option<i64>) {
    let Changes { rows_affected, last_insert_id, .. } = db.execute(sql, ()).await.unwrap();
    (rows_affected, last_insert_id)
}

#[tokio::test]
async fn changes_belong_to_the_statement_and_to_no_earlier_one() {
    let db = memory().await;
    assert_eq!(changes(&db, "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER UNIQUE, x)").await, (0, None));
    assert_eq!(changes(&db, "INSERT INTO t (n) VALUES (1), (2), (3)").await, (3, Some(3)));
    assert_eq!(changes(&db, "CREATE TABLE other AS SELECT * FROM t").await, (0, None));
    assert_eq!(changes(&db, "SELECT * FROM t").await, (0, None));
    assert_eq!(changes(&db, "PRAGMA user_version = 1").await, (0, None));
    assert_eq!(changes(&db, "INSERT OR IGNORE INTO t (n) VALUES (1)").await, (0, None));
    assert_eq!(changes(&db, "INSERT OR IGNORE INTO t (n) VALUES (1), (4)").await, (1, Some(4)));
    assert_eq!(changes(&db, "UPDATE t SET x = 1 WHERE n < 3").await, (2, None));
    assert_eq!(changes(&db, "UPDATE t SET x = 1 WHERE n > 99").await, (0, None));
    assert_eq!(changes(&db, "CREATE INDEX i ON t (id)").await, (0, None));
    assert_eq!(changes(&db, "ALTER TABLE t DROP COLUMN x").await.0, 0);
    assert_eq!(changes(&db, "ALTER TABLE t ADD COLUMN y").await, (0, None));
    assert_eq!(changes(&db, "DELETE FROM t").await, (4, None));
    assert_eq!(changes(&db, "INSERT INTO t (y) VALUES (1), (2)").await.0, 2);
    assert_eq!(changes(&db, "DROP INDEX i").await, (0, None));
    assert_eq!(changes(&db, "DROP TABLE t").await, (0, None));
}

#[tokio::test]
async fn rows_that_triggers_change_are_not_counted_and_give_no_identity() {
    let db = memory().await;
    db.execute_script(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n); CREATE TABLE log (id INTEGER PRIMARY KEY, what);
         CREATE TRIGGER gone AFTER DELETE ON t BEGIN INSERT INTO log VALUES (77, 'gone'); END",
    )
    .await
    .unwrap();
    assert_eq!(changes(&db, "INSERT INTO t (n) VALUES (1)").await, (1, Some(1)));
    assert_eq!(changes(&db, "DELETE FROM t").await, (1, None), "it deleted, and inserted nothing of its own");
}

#[tokio::test]
async fn a_writing_statement_gives_its_rows_through_fetch_and_really_writes() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(SCHEMA).await.unwrap();
        let sql = "INSERT INTO users (name) VALUES ($1) RETURNING id, name";
        let row = db.fetch_one(sql, ("a",)).await.unwrap().unwrap();
        assert_eq!((row.get::<i64>("id").unwrap(), row.get::<String>("name").unwrap()), (1, "a".to_owned()));
        assert_eq!(db.fetch_value::<i64>(sql, ("b",)).await.unwrap(), Some(2));
        assert_eq!(db.fetch_one_as::<(i64, String)>(sql, ("c",)).await.unwrap(), Some((3, "c".into())));
        let rows = db.fetch_all("UPDATE users SET age = id RETURNING age", ()).await.unwrap();
        assert_eq!((rows.len(), rows.changes().rows_affected, rows.changes().last_insert_id), (3, 3, None));
        let deleted: Vec<i64> = db.fetch_all_as("DELETE FROM users RETURNING id", ()).await.unwrap();
        assert_eq!(deleted.len(), 3);
        assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM users", ()).await.unwrap(), Some(0), "{kind:?}");
        assert_eq!(db.fetch_value::<i64>("INSERT INTO users (name) VALUES ('d')", ()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn columns_that_share_a_name_all_survive() {
    let db = memory().await;
    let row = db.fetch_one("SELECT 1 AS x, 2 AS x, 3 AS y, 4 AS \"\"", ()).await.unwrap().unwrap();
    assert_eq!(row.columns().iter().map(|name| &**name).collect::<Vec<_>>(), ["x", "x", "y", ""]);
    let values: Vec<i64> = (0..4).map(|index| row.get(index).unwrap()).collect();
    assert_eq!(values, [1, 2, 3, 4]);
    assert_eq!(row.get::<i64>("x").unwrap(), 1, "by name: the first");
    assert_eq!(db.fetch_one_as::<(i64, i64)>("SELECT 1 AS x, 2 AS x", ()).await.unwrap(), Some((1, 2)));
    let error = row.get::<i64>("z").unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Query, Reason::NoSuchColumn));
    assert!(error.to_string().contains("x, x, y"), "{error}");
}

#[tokio::test]
async fn a_number_that_a_float_of_32_bits_cannot_hold_is_refused() {
    let db = memory().await;
    for (sql, fits) in [
        ("SELECT 1e300", false),
        ("SELECT -1e39", false),
        ("SELECT 16777217", false),
        ("SELECT 16777216", true),
        ("SELECT 0.1", true),
        ("SELECT 9e999", true),
    ] {
        let row = db.fetch_one(sql, ()).await.unwrap().unwrap();
        assert_eq!((row.get::<f32>(0).is_ok(), row.decode::<f32>().is_ok()), (fits, fits), "{sql}");
        assert_eq!(row.decode::<(Option<f32>,)>().is_ok(), fits, "{sql}");
        assert!(row.get::<f64>(0).is_ok(), "{sql}");
    }
}

#[tokio::test]
async fn a_character_is_bound_and_read() {
    let db = memory().await;
    assert_eq!(db.fetch_value::<char>("SELECT $1", ('\u{1F980}',)).await.unwrap(), Some('\u{1F980}'));
    assert_eq!(db.fetch_value::<Option<char>>("SELECT NULL", ()).await.unwrap(), Some(None));
    for sql in ["SELECT 'ab'", "SELECT ''", "SELECT 1"] {
        let error = db.fetch_value::<char>(sql, ()).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type), "{sql}");
    }
}

#[tokio::test]
async fn null_is_an_error_unless_it_was_expected() {
    let db = memory().await;
    let error = db.fetch_value::<String>("SELECT NULL", ()).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type));
    assert!(error.to_string().contains("Option"), "{error}");
    assert_eq!(db.fetch_value::<Option<String>>("SELECT NULL", ()).await.unwrap(), Some(None));
    assert_eq!(db.fetch_value::<Option<String>>("SELECT 1 WHERE 0", ()).await.unwrap(), None);
    assert_eq!(db.fetch_value::<Value>("SELECT NULL", ()).await.unwrap(), Some(Value::Null));
    let error = db.fetch_one_as::<i64>("SELECT NULL", ()).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type), "{error}");
    assert_eq!(db.fetch_one_as::<Option<i64>>("SELECT NULL", ()).await.unwrap(), Some(None));
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Colour {
    Red,
    Green,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Identity(u32);

#[derive(Debug, Deserialize, PartialEq)]
struct Everything {
    id: Identity,
    flag: bool,
    off: bool,
    ratio: f64,
    whole: f32,
    colour: Colour,
    missing: Option<Colour>,
    bytes: Vec<u8>,
    letter: char,
    #[serde(default)]
    absent: i64,
}

#[tokio::test]
async fn serde_reads_structs_tuples_scalars_enums_options_newtypes_and_bytes() {
    let db = memory().await;
    let sql = "SELECT 7 AS id, 1 AS flag, 0 AS off, 0.5 AS ratio, 2 AS whole, 'green' AS colour, NULL AS missing,
               x'000102' AS bytes, 'é' AS letter, 'ignored' AS extra";
    let everything: Everything = db.fetch_one_as(sql, ()).await.unwrap().unwrap();
    let expected = Everything {
        id: Identity(7),
        flag: true,
        off: false,
        ratio: 0.5,
        whole: 2.0,
        colour: Colour::Green,
        missing: None,
        bytes: vec![0, 1, 2],
        letter: 'é',
        absent: 0,
    };
    assert_eq!(everything, expected);
    assert_eq!(db.fetch_one_as::<Identity>("SELECT 5", ()).await.unwrap(), Some(Identity(5)));
    assert_eq!(db.fetch_all_as::<Colour>("VALUES ('red'), ('green')", ()).await.unwrap(), [Colour::Red, Colour::Green]);
    let map: BTreeMap<String, i64> = db.fetch_one_as("SELECT 1 AS a, 2 AS b", ()).await.unwrap().unwrap();
    assert_eq!(map.into_iter().collect::<Vec<_>>(), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    let pair: Option<(i64, Option<String>)> = db.fetch_one_as("SELECT 1, NULL", ()).await.unwrap();
    assert_eq!(pair, Some((1, None)));
}

#[tokio::test]
async fn serde_refuses_what_does_not_fit_without_quoting_the_value() {
    let db = memory().await;
    let wrong = [
        db.fetch_one_as::<u8>("SELECT 256", ()).await.unwrap_err(),
        db.fetch_one_as::<u64>("SELECT -1", ()).await.unwrap_err(),
        db.fetch_one_as::<bool>("SELECT 2", ()).await.unwrap_err(),
        db.fetch_one_as::<Colour>("SELECT 'top secret'", ()).await.unwrap_err(),
        db.fetch_one_as::<i64>("SELECT 'top secret'", ()).await.unwrap_err(),
        db.fetch_one_as::<(i64, i64)>("SELECT 1", ()).await.unwrap_err(),
        db.fetch_one_as::<f64>("SELECT 9007199254740993", ()).await.unwrap_err(),
        db.fetch_one_as::<User>("SELECT 1 AS id, 'a' AS name, 2 AS id", ()).await.unwrap_err(),
    ];
    for error in wrong {
        assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type), "{error}");
        assert!(!format!("{error:?}").contains("top secret"), "{error:?}");
    }
    let error = db.fetch_one_as::<User>("SELECT 1 AS id", ()).await.unwrap_err();
    assert!(error.to_string().contains("name"), "the missing field is named: {error}");
}
