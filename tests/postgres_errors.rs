//! Errors of the server: kind, reason, whether to try again, and nothing of the user's data in them.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use std::error::Error as _;
use std::time::Duration;

use common::{run_sql, script, server, value};
use strongroom::ErrorKind as K;
use strongroom::Reason as R;
use strongroom::engine::{Access, Resource, ResourceState, TransactionMode};
use strongroom::postgres::{PostgresConnection, ServerError};
use strongroom::{Connection, Connector, Error, ErrorKind};

async fn fails(connection: &mut PostgresConnection, sql: &str) -> Error {
    run_sql(connection, sql, ()).await.expect_err(sql)
}

#[tokio::test]
async fn each_failure_has_its_kind_and_reason() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(
        &mut connection,
        "CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1); \
         CREATE TABLE t (a int UNIQUE, b int NOT NULL, c int CHECK (c > 0), d int REFERENCES p); \
         INSERT INTO t VALUES (1, 1, 1, 1); \
         CREATE FUNCTION loud() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'so it is'; END $$",
    )
    .await;
    let cases = [
        ("INSERT INTO t VALUES (1, 1, 1, 1)", K::Constraint, R::Unique),
        ("INSERT INTO t VALUES (2, NULL, 1, 1)", K::Constraint, R::NotNull),
        ("INSERT INTO t VALUES (2, 1, 0, 1)", K::Constraint, R::Check),
        ("INSERT INTO t VALUES (2, 1, 1, 2)", K::Constraint, R::ForeignKey),
        ("SELEC 1", K::Query, R::Syntax),
        ("SELECT * FROM nowhere", K::Query, R::Syntax),
        ("SELECT 1; SELECT 2", K::Query, R::Syntax),
        ("SELECT lower(1)", K::Query, R::Type),
        ("SELECT cast('x' AS int)", K::Query, R::Type),
        ("SELECT 1/0", K::Query, R::Type),
        ("SELECT loud()", K::Query, R::Unspecified),
        ("COPY t FROM STDIN", K::Query, R::Control),
    ];
    for (sql, kind, reason) in cases {
        let error = fails(&mut connection, sql).await;
        assert_eq!((error.kind(), error.reason(), error.is_transient()), (kind, reason, false), "{sql}: {error}");
    }
    assert_eq!(connection.state(), ResourceState::Idle);
    assert_eq!(fails(&mut connection, "SELECT loud()").await.to_string(), "so it is (P0001)");
}

#[tokio::test]
async fn the_source_tells_constraint_and_table_and_no_values() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE users (name text CONSTRAINT one_name UNIQUE)").await;
    run_sql(&mut connection, "INSERT INTO users VALUES ($1)", ("hunter2",)).await.unwrap();
    let error = run_sql(&mut connection, "INSERT INTO users VALUES ($1)", ("hunter2",)).await.unwrap_err();
    let source = error.source().and_then(|source| source.downcast_ref::<ServerError>()).unwrap();
    assert_eq!((source.sqlstate(), source.constraint(), source.table()), ("23505", Some("one_name"), Some("users")));
    assert_eq!(error.to_string(), "duplicate key value violates unique constraint \"one_name\" (23505)");
    assert!(!format!("{error:?}{source:?}{source}").contains("hunter2"));
    for sql in ["SELECT cast(cast($1 AS text) AS int)", "SELECT cast(cast($1 AS text) AS timestamp)"] {
        let error = run_sql(&mut connection, sql, ("hunter2",)).await.unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn a_value_with_quotes_of_its_own_is_not_told_either() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (id uuid, at date)").await;
    let secrets =
        ["{\"password\":\"hunter2\"}", "hunter2\"hunter2", "\"hunter2", "it's hunter2", "»hunter2«", "“ hunter2 ”"];
    let cases = [
        ("INSERT INTO t (id) VALUES ($1)", "22P02"),
        ("INSERT INTO t (at) VALUES ($1)", "22007"),
        ("SELECT cast(cast($1 AS text) AS bigint)", "22P02"),
        ("SELECT cast(cast($1 AS text) AS boolean)", "22P02"),
        ("SELECT to_tsquery('simple', '& ' || $1)", "42601"),
        ("SELECT cast('? ' || $1 AS jsonpath)", "42601"),
        ("SELECT extract(epoch from cast(cast($1 AS text) AS interval))", "22007"),
    ];
    for secret in secrets {
        for (sql, state) in cases {
            let error = run_sql(&mut connection, sql, (secret,)).await.unwrap_err();
            assert!(!format!("{error:?}{error}").contains("hunter2"), "{error:?}");
            assert!(error.to_string().contains(&format!("({state})")), "{error}");
        }
    }
    for sql in ["SELECT cast($1 AS int2)", "SELECT cast($1 AS int4)"] {
        let error = run_sql(&mut connection, sql, (7_012_345_678_i64,)).await.unwrap_err();
        assert!(!format!("{error:?}{error}").contains("7012345678"), "{error:?}");
    }
    // The text of the statement is no secret.
    let error = fails(&mut connection, "SELECT 1 FROMM \"here\"").await;
    assert_eq!(error.to_string().split(';').next(), Some("syntax error at or near \"\"here\"\" (42601)"));
}

#[tokio::test]
async fn locks_are_busy_and_deadlocks_are_serialization_errors() {
    let Some(server) = server() else { return };
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    script(&mut one, "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)").await;
    one.begin(TransactionMode::WRITE).await.unwrap();
    run_sql(&mut one, "UPDATE t SET a = a WHERE a = 1", ()).await.unwrap();
    let error = fails(&mut two, "SELECT * FROM t WHERE a = 1 FOR UPDATE NOWAIT").await;
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Busy, true));

    two.begin(TransactionMode::WRITE).await.unwrap();
    run_sql(&mut two, "UPDATE t SET a = a WHERE a = 2", ()).await.unwrap();
    let (first, second) = tokio::join!(
        run_sql(&mut one, "UPDATE t SET a = a WHERE a = 2", ()),
        run_sql(&mut two, "UPDATE t SET a = a WHERE a = 1", ()),
    );
    let error = first.err().or(second.err()).expect("one of them is the victim");
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Serialization, true));
}

#[tokio::test]
async fn a_session_the_server_ends_is_broken_and_what_it_did_is_known_where_it_can_be() {
    let Some(server) = server() else { return };
    let mut other = server.connect().await;
    script(&mut other, "CREATE TABLE t (a int)").await;
    let cases = [
        ("SELECT pg_sleep(30)", false, ErrorKind::Connection),
        ("INSERT INTO t SELECT 1 FROM (SELECT pg_sleep(30)) s", false, ErrorKind::OutcomeUnknown),
        ("INSERT INTO t SELECT 1 FROM (SELECT pg_sleep(30)) s", true, ErrorKind::Connection),
    ];
    for (sql, in_transaction, kind) in cases {
        let mut connection = server.connect().await;
        if in_transaction {
            connection.begin(TransactionMode::WRITE).await.unwrap();
        }
        let kill = async {
            let running = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                           WHERE query LIKE '%pg_sleep(30)%' AND wait_event = 'PgSleep'";
            while value::<i64>(&mut other, running).await == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let (outcome, ()) = tokio::join!(run_sql(&mut connection, sql, ()), kill);
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (kind, kind == ErrorKind::Connection), "{sql}: {error}");
        assert_eq!(connection.state(), ResourceState::Broken);
    }
}

#[tokio::test]
async fn a_script_whose_session_ends_may_have_been_done() {
    let Some(server) = server() else { return };
    let (mut connection, mut other) = (server.connect().await, server.connect().await);
    let kill = async {
        let running = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                       WHERE query LIKE '%pg_sleep(30)%' AND state = 'active' AND pid <> pg_backend_pid()";
        while value::<i64>(&mut other, running).await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (outcome, ()) = tokio::join!(connection.run_script("SELECT pg_sleep(30)".into()), kill);
    let error = outcome.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::OutcomeUnknown, false), "{error}");
}

#[tokio::test]
async fn a_statement_prepared_before_its_table_changed_is_prepared_again() {
    let Some(server) = server() else { return };
    let (mut connection, mut other) = (server.connect().await, server.connect().await);
    script(&mut other, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    let all = "SELECT * FROM t WHERE a = $1";
    assert_eq!(run_sql(&mut connection, all, (1,)).await.unwrap().columns().len(), 1);
    script(&mut other, "ALTER TABLE t ADD COLUMN b text; ALTER TABLE t ALTER a TYPE bigint").await;
    assert_eq!(run_sql(&mut connection, all, (1,)).await.unwrap().columns().len(), 2);

    // Inside a transaction it is too late; the whole of it may be run again.
    script(&mut other, "ALTER TABLE t ADD COLUMN c int").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    let error = run_sql(&mut connection, all, (1,)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Serialization, true));
    connection.rollback().await.unwrap();
    connection.begin(TransactionMode::WRITE).await.unwrap();
    assert_eq!(run_sql(&mut connection, all, (1,)).await.unwrap().columns().len(), 3);
    connection.commit().await.unwrap();

    run_sql(&mut connection, "DEALLOCATE ALL", ()).await.unwrap();
    assert_eq!(run_sql(&mut connection, all, (1,)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn prepared_statements_leave_when_others_come() {
    let Some(server) = server() else { return };
    let mut connection = server.connector().statement_cache(5).connect(Access::Write).await.unwrap();
    for number in 0..40 {
        run_sql(&mut connection, &format!("SELECT {number}"), ()).await.unwrap();
        run_sql(&mut connection, "SELECT 'often'", ()).await.unwrap();
    }
    let rows = run_sql(&mut connection, "SELECT statement FROM pg_prepared_statements", ()).await.unwrap();
    let kept: Vec<String> = rows.iter().map(|row| row.get(0).unwrap()).collect();
    assert!(kept.len() <= 6 && kept.iter().any(|sql| sql == "SELECT 'often'"), "{kept:?}");
}

#[tokio::test]
async fn tables_are_found_by_name_view_or_schema() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(
        &mut connection,
        "CREATE TABLE Users (a int); CREATE VIEW v AS SELECT 1; CREATE SCHEMA s; CREATE TABLE s.hidden (a int); \
         CREATE TABLE \"Odd one\" (a int); CREATE INDEX i ON users (a)",
    )
    .await;
    for (name, there) in [("users", true), ("Users", true), ("v", true), ("s.hidden", true), ("hidden", false)] {
        assert_eq!(connection.table_exists(name).await.unwrap(), there, "{name}");
    }
    for (name, there) in [("Odd one", true), ("odd one", false), ("i", false), ("'; DROP TABLE users", false)] {
        assert_eq!(connection.table_exists(name).await.unwrap(), there, "{name}");
    }
}

#[tokio::test]
async fn only_what_was_changed_counts_as_changed() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2), (3)").await;
    let cases = [
        ("SELECT * FROM t", 0, 3),
        ("UPDATE t SET a = a + 1", 3, 0),
        ("UPDATE t SET a = a + 1 RETURNING a", 3, 3),
        ("WITH x AS (SELECT 1) SELECT * FROM t", 0, 3),
        ("WITH x AS (SELECT 9 AS a) INSERT INTO t SELECT a FROM x", 1, 0),
        ("DELETE FROM t WHERE a = 9", 1, 0),
        ("CREATE TABLE u (a int)", 0, 0),
        ("", 0, 0),
    ];
    for (sql, changed, rows) in cases {
        let result = run_sql(&mut connection, sql, ()).await.unwrap();
        assert_eq!((result.changes().rows_affected, result.len()), (changed, rows), "{sql}");
    }
}

#[tokio::test]
async fn what_the_server_s_own_limit_stops_is_a_timeout_and_what_somebody_stops_is_cancelled() {
    let Some(server) = server() else { return };
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    script(&mut one, "CREATE TABLE t (a int); SET statement_timeout = '50ms'").await;
    for sql in ["SELECT pg_sleep(30)", "INSERT INTO t SELECT 1 FROM pg_sleep(30)"] {
        let error = fails(&mut one, sql).await;
        let told = (error.kind(), error.reason(), error.is_transient());
        assert_eq!(told, (ErrorKind::Timeout, R::RolledBack, false), "{error}");
        assert!(error.to_string().contains("statement_timeout"), "{error}");
    }
    let error = one.run_script("SELECT pg_sleep(30)".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");

    script(&mut one, "SET statement_timeout = 0; SET lock_timeout = '50ms'").await;
    two.begin(TransactionMode::WRITE).await.unwrap();
    run_sql(&mut two, "LOCK TABLE t", ()).await.unwrap();
    let error = fails(&mut one, "SELECT * FROM t").await;
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Busy, true), "{error}");
    two.rollback().await.unwrap();

    let session: i64 = value(&mut one, "SELECT cast(pg_backend_pid() AS bigint)").await;
    let stop = async {
        let running = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {session} AND wait_event = 'PgSleep'");
        while value::<i64>(&mut two, &running).await == 0 {}
        assert!(value::<bool>(&mut two, &format!("SELECT pg_cancel_backend({session})")).await);
    };
    let (error, ()) = tokio::join!(fails(&mut one, "SELECT pg_sleep(29)"), stop);
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
}
