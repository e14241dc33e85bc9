//! Columns and parameters of types that are not built in, which the driver would look up in the middle of a call.
#![cfg(all(feature = "postgres", target_os = "linux"))]
#![allow(clippy::large_futures, reason = "a test may have a large stack")]

#[path = "common/postgres.rs"]
mod common;

use std::time::Duration;

use common::{run_sql, script, server};
use futures_util::TryStreamExt;
use strongroom::engine::{Access, Resource as _, ResourceState, Statement, TransactionMode};
use strongroom::{AsyncDatabase, Connection, Connector, ErrorKind, Reason, Value};

const TYPES: &str = "CREATE TYPE mood AS ENUM ('sad', 'so so', 'glad');
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN feeling AS mood;
    CREATE DOMAIN number AS int8 CHECK (VALUE > 0);
    CREATE TABLE t (id int8, m mood, f feeling, n number, ms mood[], fs feeling[], p pair);
    INSERT INTO t SELECT g, 'glad', 'sad', g, '{sad,NULL,\"so so\"}', '{glad}', ROW(g, 'x')::pair
        FROM generate_series(1, 30000) g;";

/// A call that waits for an answer that never comes fails here.
async fn in_time<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), call).await.expect("the answer comes")
}

#[tokio::test]
async fn any_number_of_rows_with_types_of_the_user_is_read_with_and_without_a_statement_cache() {
    let Some(server) = server() else { return };
    script(&mut server.connect().await, TYPES).await;
    let sql = "SELECT m, f, n, ms, fs FROM t ORDER BY id";
    let wanted = ["glad", "sad", "30000", "{sad,NULL,\"so so\"}", "{glad}"];
    for cached in [256, 0] {
        let connector = server.connector().statement_cache(cached);
        let db = AsyncDatabase::with_connector(connector).pool_max(1).open().await.unwrap();
        for _ in 0..2 {
            let rows = in_time(db.fetch_all(sql, ())).await.unwrap();
            let last = rows.iter().last().unwrap();
            let read: Vec<String> = last.iter().map(|(_, value)| value.to_string()).collect();
            assert_eq!((rows.len(), read), (30_000, wanted.map(str::to_owned).to_vec()), "{cached}");
            let number = last.iter().nth(2).unwrap().1.to_owned();
            assert_eq!(number, Value::Integer(30_000));
            let moods: Vec<(String, Option<i64>)> =
                in_time(db.fetch_all_as("SELECT m, CASE WHEN id > 1 THEN n END FROM t ORDER BY id", ())).await.unwrap();
            assert_eq!((&moods[0], moods.len()), (&("glad".to_owned(), None), 30_000));
        }
    }
}

#[tokio::test]
async fn a_stream_without_a_statement_cache_knows_the_types_before_its_first_row() {
    let Some(server) = server() else { return };
    let mut connection = server.connector().statement_cache(0).connect(Access::Write).await.unwrap();
    script(&mut connection, TYPES).await;
    for inside in [false, true] {
        if inside {
            connection.begin(TransactionMode::WRITE).await.unwrap();
        }
        // A value of a known type in a place that takes any.
        let streamed = Statement::new("SELECT ms, m, to_json($1) FROM t WHERE id <= $2", (true, 20_000)).unwrap();
        in_time(connection.run_stream(streamed, 1000)).await.unwrap();
        let mut count = 0;
        while let Some(rows) = in_time(connection.next_chunk()).await.unwrap() {
            assert_eq!(rows.first().unwrap().get::<String>(1).unwrap(), "glad");
            count += rows.len();
        }
        assert_eq!(count, 20_000);
        if inside {
            connection.commit().await.unwrap();
        }
    }
    let written = Statement::new("INSERT INTO t (m) VALUES ('sad'), ('sad') RETURNING m", ()).unwrap();
    in_time(connection.run_stream(written, 10)).await.unwrap();
    assert_eq!(connection.next_chunk().await.unwrap().unwrap().len(), 2);
    let count: i64 = common::value(&mut connection, "SELECT count(*) FROM t WHERE m = 'sad'").await;
    assert_eq!(count, 2, "it is written once");
}

#[tokio::test]
async fn rows_of_a_type_that_is_not_read_are_an_error_and_the_session_goes_on() {
    let Some(server) = server() else { return };
    let mut connection = server.connector().statement_cache(0).connect(Access::Write).await.unwrap();
    script(&mut connection, TYPES).await;
    for sql in ["SELECT p FROM t", "SELECT t FROM t", "SELECT a FROM pg_attribute a"] {
        let error = in_time(run_sql(&mut connection, sql, ())).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Query, Reason::Type), "{sql}: {error}");
    }
    let rows = run_sql(&mut connection, "SELECT m FROM t WHERE id = 7", ()).await.unwrap();
    assert_eq!(rows.first().unwrap().get::<String>(0).unwrap(), "glad");
}

#[tokio::test]
async fn what_the_driver_had_prepared_may_be_discarded() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, TYPES).await;
    run_sql(&mut connection, "SELECT m FROM t LIMIT 1", ()).await.unwrap();
    for discard in ["DISCARD ALL", "DEALLOCATE ALL"] {
        run_sql(&mut connection, discard, ()).await.unwrap();
        for sql in ["SELECT f, fs FROM t LIMIT 1", "SELECT p FROM t LIMIT 1", "SELECT ms FROM t LIMIT 1"] {
            run_sql(&mut connection, sql, ()).await.unwrap();
        }
        script(&mut connection, "CREATE TYPE color AS ENUM ('red'); CREATE TABLE c (c color)").await;
        run_sql(&mut connection, "INSERT INTO c VALUES ($1)", ("red",)).await.unwrap();
        run_sql(&mut connection, "SELECT c FROM c", ()).await.unwrap();
        script(&mut connection, "DROP TABLE c; DROP TYPE color").await;
    }
}

#[tokio::test]
async fn the_driver_s_own_client_is_told_the_types_as_they_are() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, TYPES).await;
    run_sql(&mut connection, "SELECT m FROM t LIMIT 1", ()).await.unwrap();
    let rows = connection.native().query("SELECT m, p FROM t WHERE m = $1 LIMIT 1", &[&Mood]).await.unwrap();
    let names: Vec<_> = rows[0].columns().iter().map(|column| column.type_().name()).collect();
    assert_eq!(names, ["mood", "pair"]);
    let rows = run_sql(&mut connection, "SELECT ms FROM t LIMIT 1", ()).await.unwrap();
    assert_eq!(rows.first().unwrap().get::<String>(0).unwrap(), "{sad,NULL,\"so so\"}");
}

#[derive(Debug)]
struct Mood;

impl tokio_postgres::types::ToSql for Mood {
    fn to_sql(
        &self,
        _: &tokio_postgres::types::Type,
        out: &mut bytes::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(b"glad");
        Ok(tokio_postgres::types::IsNull::No)
    }

    fn accepts(ty: &tokio_postgres::types::Type) -> bool {
        ty.name() == "mood"
    }

    tokio_postgres::types::to_sql_checked!();
}

#[tokio::test]
async fn many_sets_bind_to_types_of_the_user() {
    let Some(server) = server() else { return };
    script(&mut server.connect().await, TYPES).await;
    for cached in [256, 0] {
        let connector = server.connector().statement_cache(cached);
        let db = AsyncDatabase::with_connector(connector).pool_max(1).open().await.unwrap();
        let insert = "INSERT INTO t (id, m, f, n, ms) VALUES ($1, $2, $3, $4, $5)";
        let sets = (0..500).map(|id| (-1 - id, "so so", "glad", 1 + id, strongroom::list(["sad", "so so"])));
        assert_eq!(db.execute_many(insert, sets).await.unwrap().rows_affected, 500);
        let update = "UPDATE t SET m = $1 WHERE id = $2";
        assert_eq!(db.execute_many(update, (0..50).map(|id| ("sad", -1 - id))).await.unwrap().rows_affected, 50);
        let read: Vec<(String, i64, String)> =
            db.fetch_all_as("SELECT m, n, ms FROM t WHERE id IN (-1, -500) ORDER BY id", ()).await.unwrap();
        assert_eq!(read[0], ("so so".to_owned(), 500, "{sad,\"so so\"}".to_owned()));
        assert_eq!(read[1], ("sad".to_owned(), 1, "{sad,\"so so\"}".to_owned()));
        let error = db.execute("UPDATE t SET n = $1 WHERE id = -1", (-5,)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Check, "{error}");
        let streamed: Vec<String> = db
            .fetch_stream("SELECT m FROM t WHERE m = $1", ("so so",))
            .and_then(async |row| row.get::<String>(0))
            .try_collect()
            .await
            .unwrap();
        assert_eq!(streamed.len(), 450);
        db.execute("DELETE FROM t WHERE id < 0", ()).await.unwrap();
    }
}

#[tokio::test]
async fn a_question_about_types_that_is_dropped_leaves_no_transaction_behind() {
    let Some(server) = server() else { return };
    let connector = server.connector().statement_cache(0);
    let mut connection = connector.connect(Access::Write).await.unwrap();
    script(&mut connection, TYPES).await;
    let (mut dropped, mut done) = (0, 0);
    for micros in (0..4000).step_by(60) {
        // A type that is new is asked for each time.
        script(&mut connection, "DROP TABLE IF EXISTS s; DROP TYPE IF EXISTS fresh; CREATE TYPE fresh AS ENUM ('a')")
            .await;
        script(&mut connection, "CREATE TABLE s (f fresh); INSERT INTO s VALUES ('a')").await;
        let stream = connection.run_stream(Statement::new("SELECT f FROM s", ()).unwrap(), 10);
        match tokio::time::timeout(Duration::from_micros(micros), stream).await {
            Err(_) => dropped += 1,
            Ok(opened) => (opened.unwrap(), done += 1).0,
        }
        run_sql(&mut connection, "INSERT INTO s VALUES ('a')", ())
            .await
            .unwrap_or_else(|error| panic!("{micros}: {error}"));
        assert_eq!(connection.state(), ResourceState::Idle, "{micros}");
    }
    assert!(dropped > 3 && done > 3, "{dropped} dropped, {done} done");
}

#[tokio::test]
async fn what_the_driver_asks_in_between_is_not_taken_for_the_parameters_of_the_statement() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    let sql = "SELECT d, datname::text FROM pg_database d WHERE datname = $1 AND datallowconn = $2";
    for _ in 0..2 {
        let rows = in_time(run_sql(&mut connection, sql, ("template1", true))).await.unwrap();
        assert_eq!(rows.len(), 1);
    }
}
