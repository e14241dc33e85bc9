//! Statements that were prepared before somebody changed what they are about.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use common::{run_sql, script, server, value};
use strongroom::engine::{Statement, TransactionMode};
use strongroom::postgres::PostgresConnection;
use strongroom::values::{IntoParams, ParamSets};
use strongroom::{AsyncDatabase, Connection, Connector, ErrorKind, Result};

/// Prepares `INSERT INTO m` for a column of type `old`, lets another session make it `new`, and inserts `given`: what
/// PostgreSQL then stores, and what it stores for a statement that it never saw before.
async fn both<T: Clone>(
    connection: &mut PostgresConnection,
    beside: &mut PostgresConnection,
    (old, new): (&str, &str),
    first: T,
    given: T,
) -> (String, String)
where
    (T,): IntoParams,
{
    script(beside, &format!("DROP TABLE IF EXISTS m; CREATE TABLE m (id int, at {old})")).await;
    let insert = "INSERT INTO m VALUES (1, $1)";
    run_sql(connection, insert, (first,)).await.unwrap();
    script(beside, &format!("TRUNCATE m; ALTER TABLE m ALTER at TYPE {new} USING NULL")).await;
    run_sql(connection, insert, (given.clone(),)).await.unwrap();
    // The text differs, so it is prepared now.
    run_sql(connection, "INSERT INTO m (id, at) VALUES (2, $1) -- anew", (given,)).await.unwrap();
    // Another text each time: a changed result is another matter.
    let stored = |id| format!("SELECT cast(at AS text) FROM m WHERE id = {id}");
    (value(beside, &stored(1)).await, value(beside, &stored(2)).await)
}

#[tokio::test]
async fn a_statement_older_than_its_column_stores_what_a_new_one_would() {
    let Some(server) = server() else { return };
    for zone in ["America/New_York", "UTC"] {
        let connector = server.connector().setting("TimeZone", zone);
        let mut connection = connector.connect(strongroom::engine::Access::Write).await.unwrap();
        let mut beside = connector.connect(strongroom::engine::Access::Write).await.unwrap();
        let (utc, local, far) = ("2026-11-27T12:00:00Z", "2026-11-27T12:00:00", "2026-11-27T12:00:00+05:00");
        let cases = [
            (("timestamp", "timestamptz"), local, utc),
            (("timestamp", "timestamptz"), local, far),
            (("timestamp", "timestamptz"), local, "2026-11-27 12:00 Europe/Paris"),
            (("timestamptz", "timestamp"), utc, utc),
            (("timestamptz", "timestamp"), utc, far),
            (("timestamptz", "timestamp"), utc, "2026-03-08T02:30:00"),
            (("date", "timestamp"), "2026-11-27", local),
            (("date", "timestamptz"), "2026-11-27", utc),
            (("timestamp(0)", "timestamp"), local, "2026-11-27T12:00:00.25"),
            (("time", "timetz"), "12:00:00", "12:00:00+02"),
            (("time", "interval"), "12:00:00", "36:00:00"),
            (("interval", "text"), "1 day", "24 hours"),
            (("real", "text"), "1.5", "0.10"),
            (("char(5)", "text"), "ab", "ab   "),
            (("varchar(2)", "text"), "ab", "abc"),
            (("jsonb", "json"), "{}", "{\"b\": 1, \"a\": 2, \"b\": 3}"),
            (("json", "jsonb"), "{}", "{\"b\": 1, \"a\": 2, \"b\": 3}"),
            (("jsonb", "text"), "{}", "{\"b\": 1,   \"a\": 2}"),
            (("inet", "text"), "10.0.0.1", "10.0.0.1/32"),
            (("int4", "text"), "7", "007"),
            (("int4", "numeric"), "7", "7.50"),
            (("numeric", "double precision"), "7.5", "0.1"),
            (("bool", "text"), "true", "yes"),
            (("uuid", "text"), "67e55044-10b1-426f-9247-bb680e5fe0c8", "67E55044-10B1-426F-9247-BB680E5FE0C8"),
        ];
        for (types, first, given) in cases {
            let (kept, right) = both(&mut connection, &mut beside, types, first, given).await;
            assert_eq!(kept, right, "{types:?} with {given:?} in {zone}");
        }
        for (types, first, given) in [(("real", "double precision"), 0.5, 0.1), (("real", "numeric"), 0.5, 0.1)] {
            let (kept, right) = both(&mut connection, &mut beside, types, first, given).await;
            assert_eq!(kept, right, "{types:?} with {given:?}");
        }
        for types in [("int2", "int8"), ("int4", "int8"), ("int4", "double precision"), ("int8", "numeric")] {
            let (kept, right) = both(&mut connection, &mut beside, types, 7_i64, 1_i64 << 40).await;
            assert_eq!(kept, right, "{types:?}");
        }
    }
}

#[tokio::test]
async fn a_number_whose_column_became_exact_keeps_all_its_digits() {
    let Some(server) = server() else { return };
    let (mut connection, mut beside) = (server.connect().await, server.connect().await);
    let insert = "INSERT INTO m VALUES ($1)";
    for count in [1, 100] {
        script(&mut beside, "DROP TABLE IF EXISTS m; CREATE TABLE m (a double precision)").await;
        let sets = || {
            let mut sets = ParamSets::new();
            (0..count).for_each(|_| (0.1 + 0.2,).append_to(&mut sets).unwrap());
            sets
        };
        connection.run_many(insert.into(), sets()).await.unwrap();
        script(&mut beside, "TRUNCATE m; ALTER TABLE m ALTER a TYPE numeric").await;
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        tokio::time::resume();
        connection.run_many(insert.into(), sets()).await.unwrap();
        run_sql(&mut connection, insert, (0.1 + 0.2,)).await.unwrap();
        let stored = "SELECT string_agg(DISTINCT CAST(a AS text), ' ') FROM m";
        assert_eq!(value::<String>(&mut beside, stored).await, "0.30000000000000004", "{count}");
    }
}

#[tokio::test]
async fn a_time_zone_set_later_counts() {
    let Some(server) = server() else { return };
    let connector = server.connector().setting("TimeZone", "UTC");
    let mut connection = connector.connect(strongroom::engine::Access::Write).await.unwrap();
    let mut beside = connector.connect(strongroom::engine::Access::Write).await.unwrap();
    run_sql(&mut connection, "SET TIME ZONE 'America/New_York'", ()).await.unwrap();
    let utc = "2026-11-27T12:00:00Z";
    let (kept, right) = both(&mut connection, &mut beside, ("timestamptz", "timestamp"), utc, utc).await;
    assert_eq!(kept, right);
}

#[tokio::test]
async fn a_table_found_elsewhere_and_a_function_made_anew_count_too() {
    let Some(server) = server() else { return };
    let connector = server.connector().setting("TimeZone", "America/New_York");
    let mut connection = connector.connect(strongroom::engine::Access::Write).await.unwrap();
    script(
        &mut connection,
        "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.m (at timestamp); CREATE TABLE b.m (at timestamptz);
         CREATE FUNCTION f(timestamp) RETURNS text LANGUAGE sql AS 'SELECT CAST($1 AS text)'; SET search_path = a, public",
    )
    .await;
    let (insert, call) = ("INSERT INTO m VALUES ($1)", "SELECT f($1)");
    let utc = "2026-11-27T12:00:00Z";
    run_sql(&mut connection, insert, (utc,)).await.unwrap();
    run_sql(&mut connection, call, (utc,)).await.unwrap();
    script(
        &mut connection,
        "SET search_path = b, public; DROP FUNCTION f(timestamp);
         CREATE FUNCTION f(timestamptz) RETURNS text LANGUAGE sql AS 'SELECT CAST($1 AS text)'",
    )
    .await;
    run_sql(&mut connection, insert, (utc,)).await.unwrap();
    assert_eq!(value::<String>(&mut connection, "SELECT at FROM b.m").await, utc);
    let rows = run_sql(&mut connection, call, (utc,)).await.unwrap();
    assert_eq!(rows.first().unwrap().get::<String>(0).unwrap(), "2026-11-27 07:00:00-05");
}

#[tokio::test]
async fn many_rows_for_a_column_of_another_type_lose_nothing() {
    let Some(server) = server() else { return };
    let connector = server.connector().setting("TimeZone", "America/New_York");
    let db = AsyncDatabase::with_connector(connector.clone()).pool_max(1).open().await.unwrap();
    let mut beside = connector.connect(strongroom::engine::Access::Write).await.unwrap();
    for count in [3, 100] {
        script(&mut beside, "DROP TABLE IF EXISTS m; CREATE TABLE m (at timestamp, r real)").await;
        for insert in ["INSERT INTO m VALUES ($1, $2)", "INSERT INTO m SELECT $1, $2"] {
            let sets = |at: &'static str, real: f64| (0..count).map(move |_| (at, real));
            db.execute_many(insert, sets("2026-11-27T12:00:00", 0.5)).await.unwrap();
            script(&mut beside, "TRUNCATE m; ALTER TABLE m ALTER at TYPE timestamptz, ALTER r TYPE double precision")
                .await;
            db.execute_many(insert, sets("2026-11-27T12:00:00Z", 0.1)).await.unwrap();
            let right: i64 = value(
                &mut beside,
                "SELECT count(*) FROM m WHERE at = '2026-11-27T12:00:00Z' AND r = cast('0.1' AS double precision)",
            )
            .await;
            assert_eq!(right, count, "{insert}");
            script(&mut beside, "TRUNCATE m; ALTER TABLE m ALTER at TYPE timestamp, ALTER r TYPE real").await;
        }
    }
}

#[tokio::test]
async fn many_rows_outside_a_transaction_lose_nothing_either() {
    let Some(server) = server() else { return };
    let (mut connection, mut beside) = (server.connect().await, server.connect().await);
    script(&mut beside, "CREATE TABLE m (r real)").await;
    let sets = |real: f64| {
        let mut sets = ParamSets::new();
        for _ in 0..100 {
            (real,).append_to(&mut sets).unwrap();
        }
        sets
    };
    let insert = "INSERT INTO m VALUES ($1)";
    connection.run_many(insert.into(), sets(0.5)).await.unwrap();
    script(&mut beside, "TRUNCATE m; ALTER TABLE m ALTER r TYPE double precision").await;
    connection.run_many(insert.into(), sets(0.1)).await.unwrap();
    let right = "SELECT count(*) FROM m WHERE r = cast('0.1' AS double precision)";
    assert_eq!(value::<i64>(&mut beside, right).await, 100);
}

#[tokio::test]
async fn what_commits_on_its_way_is_not_run_twice_unasked() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    let body = "BEGIN INSERT INTO paid VALUES (1); COMMIT; PERFORM CAST((SELECT x FROM bad) AS int); END";
    script(
        &mut connection,
        &format!(
            "CREATE TABLE paid (n int); CREATE TABLE bad (x text); INSERT INTO bad VALUES ('1');
             CREATE PROCEDURE pay() LANGUAGE plpgsql AS $${body}$$"
        ),
    )
    .await;
    for sql in ["CALL pay()", " /* now */ call pay()", &format!("DO $${body}$$")] {
        script(&mut connection, "TRUNCATE paid; UPDATE bad SET x = '1'").await;
        run_sql(&mut connection, sql, ()).await.unwrap();
        script(&mut connection, "UPDATE bad SET x = 'z'").await;
        let error = run_sql(&mut connection, sql, ()).await.unwrap_err();
        assert!(error.to_string().contains("22P02"), "{error}");
        assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM paid").await, 2, "{sql}");
        script(&mut connection, "UPDATE bad SET x = '1'").await;
        run_sql(&mut connection, sql, ()).await.unwrap();
        assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM paid").await, 3, "{sql}");
    }

    // An index that could not be built stays behind as invalid, and its name is taken.
    let index = "CREATE INDEX CONCURRENTLY i ON bad (CAST(x AS int))";
    run_sql(&mut connection, index, ()).await.unwrap();
    script(&mut connection, "DROP INDEX i; UPDATE bad SET x = 'z'").await;
    let error = run_sql(&mut connection, index, ()).await.unwrap_err();
    assert!(error.to_string().contains("22P02"), "{error}");
}

/// All rows of a stream, and how many columns each has.
async fn streamed(connection: &mut PostgresConnection, sql: &str, params: impl IntoParams) -> Result<(usize, usize)> {
    connection.run_stream(Statement::new(sql, params)?, 2).await?;
    let (mut rows, mut columns) = (0, 0);
    while let Some(chunk) = connection.next_chunk().await? {
        (rows, columns) = (rows + chunk.len(), chunk.columns().len());
    }
    Ok((rows, columns))
}

#[tokio::test]
async fn a_stream_older_than_its_table_is_prepared_again() {
    let Some(server) = server() else { return };
    let (mut connection, mut beside) = (server.connect().await, server.connect().await);
    script(&mut beside, "CREATE TABLE m (a int); INSERT INTO m VALUES (1), (2), (3)").await;
    let all = "SELECT * FROM m WHERE a < $1";
    assert_eq!(streamed(&mut connection, all, (9,)).await.unwrap(), (3, 1));
    script(&mut beside, "ALTER TABLE m ADD b text").await;
    assert_eq!(streamed(&mut connection, all, (9,)).await.unwrap(), (3, 2));
    run_sql(&mut connection, "DEALLOCATE ALL", ()).await.unwrap();
    assert_eq!(streamed(&mut connection, all, (9,)).await.unwrap(), (3, 2));

    // Inside a transaction it is too late; the whole of it may be run again.
    script(&mut beside, "ALTER TABLE m ADD c text").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    let error = streamed(&mut connection, all, (9,)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Serialization, true), "{error}");
    connection.rollback().await.unwrap();
    connection.begin(TransactionMode::WRITE).await.unwrap();
    assert_eq!(streamed(&mut connection, all, (9,)).await.unwrap(), (3, 3));
    connection.commit().await.unwrap();

    // What is wrong anew stays wrong, and is told as it is.
    script(&mut beside, "DROP TABLE m").await;
    let error = streamed(&mut connection, all, (9,)).await.unwrap_err();
    assert!(error.to_string().contains("42P01"), "{error}");
}

#[tokio::test]
async fn many_rows_for_a_table_that_was_changed_fail_at_most_once() {
    let Some(server) = server() else { return };
    let (mut connection, mut beside) = (server.connect().await, server.connect().await);
    let sets = |count: usize| {
        let mut sets = ParamSets::new();
        (0..count).for_each(|_| ("{}",).append_to(&mut sets).unwrap());
        sets
    };
    let to_jsonb = "ALTER TABLE m ALTER a TYPE jsonb USING CAST(a AS jsonb)";
    let cases = [
        ("INSERT INTO m SELECT $1", 3, to_jsonb, Some("42804")),
        ("INSERT INTO m SELECT $1", 100, to_jsonb, Some("42804")),
        ("INSERT INTO m VALUES ($1) -- few", 3, to_jsonb, Some("42804")),
        ("INSERT INTO m VALUES ($1) -- many", 100, "ALTER TABLE m RENAME a TO b", None),
    ];
    for (insert, count, change, state) in cases {
        script(&mut beside, "DROP TABLE IF EXISTS m; CREATE TABLE m (a text)").await;
        let mut codes = Vec::new();
        for round in 0..4 {
            if round == 1 {
                script(&mut beside, change).await;
            }
            connection.begin(TransactionMode::WRITE).await.unwrap();
            match connection.run_many(insert.into(), sets(count)).await {
                Ok(_) => connection.commit().await.unwrap(),
                Err(error) => {
                    codes.push(error.to_string());
                    connection.rollback().await.unwrap();
                }
            }
        }
        match state {
            Some(state) => assert!(matches!(&codes[..], [only] if only.contains(state)), "{insert}: {codes:?}"),
            None => assert!(codes.is_empty(), "{insert}: {codes:?}"),
        }
    }

    let insert = "INSERT INTO m (b) SELECT $1";
    connection.run_many(insert.into(), sets(3)).await.unwrap();
    run_sql(&mut connection, "DEALLOCATE ALL", ()).await.unwrap();
    connection.begin(TransactionMode::WRITE).await.unwrap();
    let error = connection.run_many(insert.into(), sets(3)).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Serialization, true), "{error}");
    connection.rollback().await.unwrap();
    connection.run_many(insert.into(), sets(3)).await.unwrap();
}

#[tokio::test]
async fn what_is_not_supported_is_not_taken_for_a_changed_table() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    let made = "CREATE TABLE c (a int); INSERT INTO c VALUES (1); \
        CREATE FUNCTION f(n bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN \
        IF n > 1 THEN RAISE feature_not_supported; END IF; RETURN n; END $$";
    script(&mut connection, made).await;
    for inside in [false, true] {
        if inside {
            connection.begin(TransactionMode::WRITE).await.unwrap();
        }
        run_sql(&mut connection, "SELECT f($1)", (1,)).await.unwrap();
        let error = run_sql(&mut connection, "SELECT f($1)", (2,)).await.unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unsupported, false), "{error}");
    }
    connection.rollback().await.unwrap();
    // What is one.
    run_sql(&mut connection, "SELECT * FROM c", ()).await.unwrap();
    script(&mut connection, "ALTER TABLE c ADD COLUMN b int").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    let error = run_sql(&mut connection, "SELECT * FROM c", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Serialization, true), "{error}");
}
