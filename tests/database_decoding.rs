//! Rows go into the caller's types while their statement runs: what comes out, and what a failure there leaves behind.
#![cfg(feature = "sqlite")]

mod common;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use common::{Home, Kind};
use futures_util::FutureExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use strongroom::sqlcipher::Tuning;
use strongroom::{AsyncDatabase, Reason};
use tokio::time::timeout;

const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, size REAL, raw BLOB, done INTEGER, at TEXT);
    WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 3000)
    INSERT INTO t SELECT i, 'name ' || i, i / 4.0, randomblob(i % 9), i % 2, '2026-01-02 03:04:05' FROM n";
/// Endless, and from the thousandth row on no number.
const ENDLESS: &str = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n)
    SELECT CASE WHEN i < 1000 THEN i ELSE 'much' END FROM n";

/// A database that runs short statements on the caller's task, and one that runs everything on threads.
async fn homes() -> [(Home, AsyncDatabase); 2] {
    let open = async |inline| {
        let home = Home::new(Kind::PlainFile);
        let tuning = Tuning::default().inline_reads(inline).inline_writes(inline);
        let db = home.builder().tuning(tuning).open().await.unwrap();
        db.execute_script(SCHEMA).await.unwrap();
        (home, db)
    };
    [open(true).await, open(false).await]
}

#[derive(Debug, Deserialize, PartialEq)]
struct Item {
    id: u32,
    name: Option<String>,
    size: f32,
    raw: Vec<u8>,
    done: bool,
    at: chrono::NaiveDateTime,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Flat {
    id: i64,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Rest {
    done: bool,
    at: chrono::NaiveDateTime,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Either {
    Number(i64),
    Text(String),
}

/// Decodes what a statement gives on both ways, several times, because a statement that is known runs otherwise.
async fn same<T: DeserializeOwned + Debug + PartialEq + Send + 'static>(db: &AsyncDatabase, sql: &str) {
    for _ in 0..3 {
        let collected = db.fetch_all(sql, ()).await.unwrap();
        let (before, now) = (collected.decode::<T>(), db.fetch_all_as::<T>(sql, ()).await);
        let told = |error: strongroom::Error| (error.to_string(), error.kind(), error.reason(), error.phase());
        assert_eq!(now.map_err(told), before.map_err(told), "{sql}");
        let first = collected.first().map(|row| row.decode::<T>()).transpose();
        assert_eq!(db.fetch_one_as::<T>(sql, ()).await.map_err(told), first.map_err(told), "{sql}");
    }
}

#[tokio::test]
async fn typed_calls_give_what_collected_rows_would_decode_to() {
    for (_home, db) in homes().await {
        for limit in ["LIMIT 0", "LIMIT 1", "LIMIT 150", ""] {
            same::<Item>(&db, &format!("SELECT * FROM t {limit}")).await;
            same::<Flat>(&db, &format!("SELECT id, done, at FROM t {limit}")).await;
            same::<(i64, String, f64)>(&db, &format!("SELECT id, name, size FROM t {limit}")).await;
            same::<BTreeMap<String, Option<f64>>>(&db, &format!("SELECT id, size, NULL AS n FROM t {limit}")).await;
            same::<Option<bool>>(&db, &format!("SELECT nullif(done, 0) FROM t {limit}")).await;
            same::<Either>(&db, &format!("SELECT iif(done, id, name) FROM t {limit}")).await;
            // Wider than what has room without memory of its own.
            same::<[f64; 20]>(&db, &format!("SELECT {} FROM t {limit}", ["size"; 20].join(", "))).await;
            // These do not fit.
            same::<u8>(&db, &format!("SELECT id + 100 FROM t {limit}")).await;
            same::<(i64, i64)>(&db, &format!("SELECT id, name FROM t {limit}")).await;
            same::<(i64, i64)>(&db, &format!("SELECT id FROM t {limit}")).await;
            same::<Item>(&db, &format!("SELECT id, name, id FROM t {limit}")).await;
        }
    }
}

#[tokio::test]
async fn a_text_that_is_none_fails_the_statement_also_where_nobody_reads_it() {
    for (_home, db) in homes().await {
        let sql = "SELECT 1 AS id, CAST(x'ff' AS TEXT) AS broken, 0 AS done, '2026-01-02' AS at";
        let collected = db.fetch_all(sql, ()).await.unwrap_err().to_string();
        assert_eq!(db.fetch_all_as::<Flat>(sql, ()).await.unwrap_err().to_string(), collected);
        assert_eq!(db.fetch_value::<i64>(sql, ()).await.unwrap_err().to_string(), collected);
    }
}

#[tokio::test]
async fn a_statement_that_reads_ends_at_the_first_row_that_does_not_fit() {
    for (_home, db) in homes().await {
        let limit = Duration::from_secs(30);
        let misfit = timeout(limit, db.fetch_all_as::<(i64,)>(ENDLESS, ())).await.expect("it ends").unwrap_err();
        assert_eq!(misfit.reason(), Reason::Type, "{misfit}");
        assert_eq!(timeout(limit, db.fetch_one_as::<i64>(ENDLESS, ())).await.expect("it ends").unwrap(), Some(1));
        let mut raw = db.connection().await.unwrap();
        let misfit = timeout(limit, raw.fetch_all_as::<i64>(ENDLESS, ())).await.expect("it ends").unwrap_err();
        assert_eq!(misfit.reason(), Reason::Type, "{misfit}");
    }
}

#[tokio::test]
async fn a_row_that_does_not_fit_costs_neither_a_transaction_nor_what_was_written() {
    for (_home, db) in homes().await {
        let connections = db.stats().total_opened;
        let write = "INSERT INTO t (name) VALUES ('a'), ('b'), ('c') RETURNING name";
        assert_eq!(db.fetch_all_as::<i64>(write, ()).await.unwrap_err().reason(), Reason::Type);
        assert_eq!(db.fetch_value::<i64>(write, ()).await.unwrap_err().reason(), Reason::Type);
        let mut tx = db.begin().await.unwrap();
        assert_eq!(tx.fetch_all_as::<i64>("SELECT name FROM t", ()).await.unwrap_err().reason(), Reason::Type);
        assert_eq!(tx.fetch_all_as::<i64>(write, ()).await.unwrap_err().reason(), Reason::Type);
        assert_eq!(tx.fetch_value::<i64>(write, ()).await.unwrap_err().reason(), Reason::Type);
        tx.commit().await.unwrap();
        assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(3012));
        assert!(db.stats().total_opened <= connections + 1, "{:?}", db.stats());
    }
}

/// Panics when it is read.
#[derive(Debug)]
struct Bomb;

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: Deserializer<'de>>(row: D) -> Result<Self, D::Error> {
        if i64::deserialize(row)? < 500 {
            return Ok(Self);
        }
        panic!("the caller's own")
    }
}

#[tokio::test]
async fn a_panic_of_the_callers_decoding_goes_to_the_caller_and_costs_nothing_else() {
    for (_home, db) in homes().await {
        let mut tx = db.begin().await.unwrap();
        tx.execute("DELETE FROM t WHERE id > 600", ()).await.unwrap();
        for sql in ["SELECT id FROM t", "SELECT id FROM t WHERE id = 500", "UPDATE t SET size = 0 RETURNING id"] {
            let panic = AssertUnwindSafe(tx.fetch_all_as::<Bomb>(sql, ())).catch_unwind().await.unwrap_err();
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"the caller's own"), "{sql}");
        }
        tx.commit().await.unwrap();
        let created = db.stats().total_opened;
        for sql in ["SELECT id FROM t", "SELECT id FROM t WHERE id = 500", "UPDATE t SET size = 1 RETURNING id"] {
            let panic = AssertUnwindSafe(db.fetch_all_as::<Bomb>(sql, ())).catch_unwind().await.unwrap_err();
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"the caller's own"), "{sql}");
        }
        assert_eq!(db.fetch_all_as::<(f64,)>("SELECT DISTINCT size FROM t", ()).await.unwrap(), [(1.0,)]);
        assert!(db.stats().total_opened <= created + 1, "{:?}", db.stats());
    }
}
