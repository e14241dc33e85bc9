//! Answers that cannot be read, statements that are stopped after they have committed something, and texts that cannot be
//! sent: what is told of them, and that the session is whole afterwards.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use std::time::Duration;

use common::{Server, server};
use futures_util::StreamExt as _;
use strongroom::postgres::PostgresConnector;
use strongroom::{AsyncDatabase, Connection as _, ErrorKind, Reason};

async fn one_session(connector: PostgresConnector) -> AsyncDatabase<PostgresConnector> {
    AsyncDatabase::with_connector(connector).pool_max(1).open().await.unwrap()
}

async fn count(db: &AsyncDatabase<PostgresConnector>) -> i64 {
    db.fetch_value("SELECT count(*) FROM t", ()).await.unwrap().unwrap()
}

const SESSION: &str = "SELECT cast(pg_backend_pid() AS bigint)";

fn texts(server: &Server) -> PostgresConnector {
    server.connector().statement_cache(0)
}

#[tokio::test]
async fn a_write_whose_rows_cannot_be_read_says_that_it_has_taken_effect() {
    let Some(server) = server() else { return };
    let db = one_session(texts(&server)).await;
    db.execute_script("CREATE TABLE t (x inet)").await.unwrap();
    let session: Option<i64> = db.fetch_value(SESSION, ()).await.unwrap();
    let insert = "INSERT INTO t VALUES ('10.0.0.1'), ('10.0.0.2') RETURNING x";
    for (round, call) in ["fetch_one", "fetch_all", "fetch_value"].into_iter().enumerate() {
        let error = match call {
            "fetch_one" => db.fetch_one(insert, ()).await.map(drop),
            "fetch_all" => db.fetch_all(insert, ()).await.map(drop),
            _ => db.fetch_value::<String>(insert, ()).await.map(drop),
        };
        let error = error.unwrap_err();
        assert!(error.to_string().contains("cast it to text"), "{call}: {error}");
        assert!(error.to_string().contains("taken effect"), "{call}: {error}");
        assert_eq!(count(&db).await, 2 * (i64::try_from(round).unwrap() + 1), "{call}");
    }
    // A read has nothing to tell of that, and leaves the session free at once.
    let error = db.fetch_all("SELECT x FROM t, generate_series(1, 20000)", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Query, Reason::Type), "{error}");
    assert!(!error.to_string().contains("taken effect"), "{error}");
    assert_eq!(db.fetch_value::<i64>(SESSION, ()).await.unwrap(), session, "the session was not lost");
}

#[tokio::test]
async fn a_procedure_that_was_stopped_between_its_commits_is_not_called_undone() {
    let Some(server) = server() else { return };
    for bound_by_server in [false, true] {
        let mut connector = server.connector();
        if bound_by_server {
            connector = connector.setting("statement_timeout", "700");
        }
        let db = one_session(connector).await;
        db.execute_script(
            "DROP TABLE IF EXISTS t;
             CREATE TABLE t (n int);
             CREATE OR REPLACE PROCEDURE work() LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO t VALUES (1); COMMIT; PERFORM pg_sleep(60); END $$",
        )
        .await
        .unwrap();
        let hasty = db.with_timeout(Duration::from_millis(if bound_by_server { 30_000 } else { 700 }));
        let error = hasty.execute("CALL work()", ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        assert_eq!(count(&db).await, 1);
        // What commits nothing on its way is undone, and said to be.
        let error = hasty.execute("INSERT INTO t SELECT 2 FROM pg_sleep(60)", ()).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Timeout, Reason::RolledBack), "{error}");
        assert_eq!(count(&db).await, 1);
    }
}

#[tokio::test]
async fn the_driver_is_lent_without_what_was_left_of_a_stream_or_a_bulk_insert() {
    let Some(server) = server() else { return };
    let db = one_session(server.connector()).await;
    db.execute_script("CREATE TABLE t (n int)").await.unwrap();
    let mut raw = db.connection().await.unwrap();
    {
        let mut rows = raw.fetch_stream("SELECT n, repeat('x', 1000) FROM generate_series(1, 100000) n", ());
        assert!(rows.next().await.unwrap().is_ok());
    }
    let asked = tokio::time::timeout(Duration::from_secs(20), raw.native().query_one("SELECT 40 + 2", &[])).await;
    assert_eq!(asked.expect("it has an answer").unwrap().get::<_, i32>(0), 42);

    raw.execute_script("BEGIN").await.ok();
    let sets = (0..100_000).map(|n| (n,));
    let begun = tokio::time::timeout(Duration::from_millis(5), raw.execute_many("INSERT INTO t VALUES ($1)", sets));
    assert!(begun.await.is_err(), "it was dropped on its way");
    let asked = tokio::time::timeout(Duration::from_secs(20), raw.native().query("SELECT 1", &[])).await;
    asked.expect("it has an answer").ok();
}

#[tokio::test]
async fn a_text_that_cannot_be_sent_costs_no_session() {
    let Some(server) = server() else { return };
    for connector in [server.connector(), texts(&server)] {
        let db = one_session(connector).await;
        let session: Option<i64> = db.fetch_value(SESSION, ()).await.unwrap();
        for sql in ["SELECT 'a\0b'", "INSERT INTO t VALUES ('\0')", "\0"] {
            let error = db.execute(sql, ()).await.unwrap_err();
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Query, Reason::Syntax), "{sql:?}: {error}");
            assert!(error.to_string().contains("NUL"), "{error}");
            let error = db.execute_script(sql).await.unwrap_err();
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Query, Reason::Syntax), "{sql:?}: {error}");
        }
        assert_eq!(db.fetch_value::<i64>(SESSION, ()).await.unwrap(), session, "the session was not lost");
    }
}
