//! A session in which a statement has left something is lent to nobody else.
#![cfg(all(feature = "postgres", target_os = "linux"))]
#![allow(clippy::large_futures, reason = "a test may have a large stack")]

#[path = "common/postgres.rs"]
mod common;

use common::{run_sql, script, server};
use futures_util::{FutureExt as _, TryStreamExt as _};
use strongroom::engine::{Resource as _, ResourceState, TransactionMode};
use strongroom::postgres::PostgresConnector;
use strongroom::{AsyncDatabase, Connection as _};

type Database = AsyncDatabase<PostgresConnector>;

async fn open(server: &common::Server, cached: usize) -> Database {
    let connector = server.connector().statement_cache(cached);
    let db = AsyncDatabase::with_connector(connector).pool_max(1).open().await.unwrap();
    db.execute_script("CREATE TABLE IF NOT EXISTS temp (temp int, temporary int)").await.unwrap();
    db
}

/// Which session the next borrower has.
async fn session(db: &Database) -> i64 {
    db.fetch_value("SELECT cast(pg_backend_pid() AS bigint)", ()).await.unwrap().unwrap()
}

/// What the next borrower finds: temporary tables, and a setting of its own.
async fn found(db: &Database) -> (i64, String) {
    let tables = "SELECT count(*) FROM pg_class WHERE pg_table_is_visible(oid) AND relpersistence = 't' \
                  AND relkind IN ('r', 'v', 'S')";
    let setting = "SELECT coalesce(current_setting('app.tenant', true), '')";
    let (tables, setting) = (db.fetch_value(tables, ()).await, db.fetch_value(setting, ()).await);
    (tables.unwrap().unwrap(), setting.unwrap().unwrap())
}

/// Nothing of anybody else.
fn nothing() -> (i64, String) {
    (0, String::new())
}

const LEAVES: &[&str] = &[
    "CREATE TEMP TABLE t (a int)",
    "create local temporary table t as select 1 as a",
    "CREATE OR REPLACE TEMP VIEW t AS SELECT 1 AS a",
    "CREATE TEMP SEQUENCE t",
    "CREATE TABLE pg_temp.t (a int)",
    "SELECT 1 AS a INTO TEMP t",
    "SELECT set_config('app.tenant', 'seven', false)",
    "SELECT pg_catalog.set_config('app.tenant', 'seven', NOT true)",
    "WITH s AS (SELECT set_config('app.tenant', 'seven', false) AS a) SELECT * FROM s, set_config('a.b', '', true)",
];

const LEAVES_NOTHING: &[&str] = &[
    "SELECT temp, temporary FROM temp",
    "INSERT INTO temp (temp) VALUES (1)",
    "CREATE TABLE IF NOT EXISTS another (temp int)",
    "SELECT set_config('app.tenant', 'seven', true)",
    "SELECT 'CREATE TEMP TABLE t (a int)', 'set_config(a, b, false)'",
    "CREATE TEMP TABLE t (a int) ON COMMIT DROP",
];

#[tokio::test]
async fn what_a_statement_leaves_in_its_session_is_met_by_nobody() {
    let Some(server) = server() else { return };
    for cached in [100, 0] {
        for sql in LEAVES {
            let db = open(&server, cached).await;
            let before = session(&db).await;
            db.execute(sql, ()).await.unwrap();
            assert_eq!(found(&db).await, nothing(), "{sql}");
            assert_ne!(session(&db).await, before, "{sql}");
            db.fetch_all(sql, ()).await.unwrap();
            assert_eq!(found(&db).await, nothing(), "fetch_all: {sql}");
            db.fetch_stream(sql, ()).try_collect::<Vec<_>>().await.unwrap();
            assert_eq!(found(&db).await, nothing(), "fetch_stream: {sql}");
            db.transaction(async |tx| tx.execute(sql, ()).await).await.unwrap();
            assert_eq!(found(&db).await, nothing(), "transaction: {sql}");
            db.execute_script(sql).await.unwrap();
            assert_eq!(found(&db).await, nothing(), "script: {sql}");
            db.close().await.unwrap();
        }
        let db = open(&server, cached).await;
        let many = "SELECT set_config('app.tenant', $1, false)";
        db.execute_many(many, [("seven",), ("eight",)]).await.unwrap();
        assert_eq!(found(&db).await, nothing());
    }
}

#[tokio::test]
async fn a_session_in_which_nothing_is_left_is_kept() {
    let Some(server) = server() else { return };
    for cached in [100, 0] {
        let db = open(&server, cached).await;
        let before = session(&db).await;
        for sql in LEAVES_NOTHING {
            db.execute(sql, ()).await.unwrap();
            db.fetch_stream(sql, ()).try_collect::<Vec<_>>().await.unwrap();
            db.transaction(async |tx| tx.execute(sql, ()).await).await.unwrap();
            db.execute_script(sql).await.unwrap();
            assert_eq!((session(&db).await, found(&db).await), (before, nothing()), "{sql}");
        }
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_call_that_was_dropped_may_have_altered_its_session() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "SELECT 1").await;
    for sql in ["SET work_mem = '1MB'", "SELECT set_config('app.tenant', 'seven', false)"] {
        for in_transaction in [false, true] {
            run_sql(&mut connection, sql, ()).await.unwrap();
            // Whatever comes next asks first whether warnings are still heard.
            run_sql(&mut connection, "SELECT 1", ()).await.unwrap();
            connection.baseline();
            if in_transaction {
                connection.begin(TransactionMode::WRITE).await.unwrap();
            }
            assert!(run_sql(&mut connection, sql, ()).now_or_never().is_none());
            connection.reset().await.unwrap();
            assert_eq!(connection.state(), ResourceState::Altered, "{sql}");
        }
    }
}
