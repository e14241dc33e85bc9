//! Statements that commit on their way, and fail behind that.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use common::{run_sql, script, server, value};
use strongroom::engine::{Statement, TransactionMode};
use strongroom::postgres::PostgresConnection;
use strongroom::{Connection, Error, ErrorKind, Reason, Result};

const MADE: &str = "CREATE TABLE t (id int);
    CREATE PROCEDURE work(state text) LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO t VALUES (1); COMMIT; RAISE EXCEPTION 'later' USING ERRCODE = state; END $$;
    CREATE FUNCTION fail(state text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'at once' USING ERRCODE = state; END $$;";

/// How many rows stay behind what failed.
async fn left(connection: &mut PostgresConnection) -> i64 {
    let left = value(connection, "SELECT count(*) FROM t").await;
    script(connection, "TRUNCATE t").await;
    left
}

async fn streamed(connection: &mut PostgresConnection, sql: &str) -> Result<()> {
    connection.run_stream(Statement::new(sql, ())?, 10).await?;
    while connection.next_chunk().await?.is_some() {}
    Ok(())
}

fn assert_not_to_be_repeated(error: &Error, what: &str) {
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::OutcomeUnknown, false), "{what}: {error}");
}

#[tokio::test]
async fn what_may_be_tried_again_elsewhere_is_unknown_where_a_part_may_be_done() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, MADE).await;
    for state in ["40001", "40P01", "55P03"] {
        let call = format!("CALL work('{state}')");
        let body = format!("DO $$ BEGIN INSERT INTO t VALUES (1); COMMIT; PERFORM fail('{state}'); END $$");
        for sql in [&call, &body] {
            // The second time it was prepared before.
            for _ in 0..2 {
                let error = run_sql(&mut connection, sql, ()).await.unwrap_err();
                assert_not_to_be_repeated(&error, sql);
                assert_eq!(left(&mut connection).await, 1, "{sql}");
            }
            let error = streamed(&mut connection, sql).await.unwrap_err();
            assert_not_to_be_repeated(&error, sql);
            assert_eq!(left(&mut connection).await, 1, "{sql}");
        }
        let commits = format!("BEGIN; INSERT INTO t VALUES (1); COMMIT; SELECT fail('{state}')");
        for text in [&format!(" {call} ;"), &body, &commits] {
            let error = connection.run_script(text.as_str().into()).await.unwrap_err();
            assert_not_to_be_repeated(&error, text);
            assert_eq!(left(&mut connection).await, 1, "{text}");
        }
    }
}

#[tokio::test]
async fn where_nothing_is_left_the_error_says_so_as_ever() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, MADE).await;
    let error = run_sql(&mut connection, "INSERT INTO t VALUES (fail('40001'))", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Serialization, true), "{error}");
    for text in [
        "INSERT INTO t VALUES (1); SELECT fail('40001')",
        "BEGIN; INSERT INTO t VALUES (1); SELECT fail('40001'); COMMIT",
        "INSERT INTO t VALUES (1); DO $$ BEGIN PERFORM fail('40001'); END $$",
    ] {
        let error = connection.run_script(text.into()).await.unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Serialization, true), "{text}: {error}");
        assert_eq!(left(&mut connection).await, 0, "{text}");
    }
    connection.begin(TransactionMode::WRITE).await.unwrap();
    let within = "DO $$ BEGIN INSERT INTO t VALUES (1); PERFORM fail('40001'); END $$";
    let error = run_sql(&mut connection, within, ()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Serialization, true), "{error}");
    connection.rollback().await.unwrap();
    assert_eq!(left(&mut connection).await, 0);
    // Nobody would repeat these, and what they are is known.
    let error = run_sql(&mut connection, "CALL work('23505')", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Constraint, Reason::Unique), "{error}");
    assert!(error.advice().unwrap_or_default().contains("stays done"), "{error}");
    assert_eq!(left(&mut connection).await, 1);
}
