//! One statement with many sets of parameters: as COPY where that is the same, sent ahead otherwise.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;
#[path = "common/proxy.rs"]
mod proxy;

use common::{run_sql, script, server, value};
use proptest::prelude::*;
use strongroom::engine::{Access, BulkInsert as _, Params, Resource, ResourceState, TransactionMode};
use strongroom::postgres::PostgresConnection;
use strongroom::values::IntoParams;
use strongroom::{Connection, Connector, ErrorKind, Reason, Result, Value, params};

fn numbers(count: i64) -> Vec<Params> {
    (0..count).map(|number| (number, format!("row {number}")).into_params().unwrap()).collect()
}

async fn many(connection: &mut PostgresConnection, sql: &str, sets: Vec<Params>) -> Result<u64> {
    connection.begin(TransactionMode::WRITE).await.unwrap();
    let outcome = connection.run_many(sql.into(), sets.into_iter().collect()).await;
    match &outcome {
        Ok(_) => connection.commit().await.unwrap(),
        Err(_) => connection.rollback().await.unwrap(),
    }
    outcome.map(|changes| changes.rows_affected)
}

/// Whether the statement that ran last on the connection was a COPY.
async fn copied(server: &common::Server, connection: &mut PostgresConnection, sql: &str) -> bool {
    let mut other = server.connect().await;
    let pid: i64 = value(connection, "SELECT cast(pg_backend_pid() AS bigint)").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    connection.run_many(sql.into(), numbers(100).into_iter().collect()).await.unwrap();
    let last = format!("SELECT query FROM pg_stat_activity WHERE pid = {pid}");
    let last: String = value(&mut other, &last).await;
    connection.rollback().await.unwrap();
    last.starts_with("COPY")
}

#[tokio::test]
async fn a_plain_insert_is_copied_and_anything_with_other_effects_is_not() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(
        &mut connection,
        "CREATE TABLE plain (id bigint, name text, note text DEFAULT 'none'); \
         CREATE TABLE \"Odd\" (id bigint, \"Name\" text); \
         CREATE TABLE parts (id bigint, name text) PARTITION BY HASH (id); \
         CREATE TABLE part PARTITION OF parts FOR VALUES WITH (modulus 1, remainder 0); \
         CREATE TABLE counted (id bigint, name text); \
         CREATE FUNCTION counting() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
         CREATE TRIGGER c AFTER INSERT ON counted EXECUTE FUNCTION counting(); \
         CREATE TABLE ruled (id bigint, name text); CREATE RULE r AS ON INSERT TO ruled DO ALSO SELECT 1; \
         CREATE TABLE always (id bigint GENERATED ALWAYS AS IDENTITY, n bigint, name text); \
         CREATE VIEW v AS SELECT * FROM plain",
    )
    .await;
    let cases = [
        ("INSERT INTO plain VALUES ($1, $2)", true),
        ("insert into public.PLAIN (ID, name) values ($1, $2)", true),
        ("INSERT INTO \"Odd\" (id, \"Name\") VALUES ($1, $2);", true),
        ("INSERT INTO parts VALUES ($1, $2)", true),
        ("INSERT INTO always (n, name) VALUES ($1, $2)", true),
        ("INSERT INTO plain VALUES ($1, $2) ON CONFLICT DO NOTHING", false),
        ("INSERT INTO plain VALUES ($1, lower($2))", false),
        ("INSERT INTO counted VALUES ($1, $2)", false),
        ("INSERT INTO ruled VALUES ($1, $2)", false),
        ("INSERT INTO v (id, name) VALUES ($1, $2)", false),
        ("UPDATE plain SET note = $2 WHERE id = $1", false),
    ];
    for (sql, expected) in cases {
        assert_eq!(copied(&server, &mut connection, sql).await, expected, "{sql}");
        assert_eq!(connection.state(), ResourceState::Idle);
    }
    let mut without = server.connector().bulk_copy(false).connect(Access::Write).await.unwrap();
    assert!(!copied(&server, &mut without, "INSERT INTO plain VALUES ($1, $2)").await);
    assert_eq!(many(&mut connection, "INSERT INTO plain VALUES ($1, $2)", numbers(1000)).await.unwrap(), 1000);
    assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM plain WHERE note = 'none'").await, 1000);
}

#[tokio::test]
async fn statements_sent_ahead_run_in_order_and_are_counted() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (id bigserial, number bigint, name text)").await;
    let sql = "INSERT INTO t (number, name) VALUES ($1, lower($2))";
    assert_eq!(many(&mut connection, sql, numbers(1000)).await.unwrap(), 1000);
    let disordered = "SELECT count(*) FROM t WHERE id <> number + 1";
    assert_eq!(value::<i64>(&mut connection, disordered).await, 0);
    assert_eq!(many(&mut connection, "SELECT $1 + 1, lower($2)", numbers(50)).await.unwrap(), 0);
    assert_eq!(many(&mut connection, sql, vec![]).await.unwrap(), 0);
}

#[tokio::test]
async fn one_bad_set_fails_all_in_both_ways() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (id bigint PRIMARY KEY, name text)").await;
    for sql in ["INSERT INTO t VALUES ($1, $2)", "INSERT INTO t VALUES ($1, lower($2))"] {
        let mut twice = numbers(500);
        twice.push((7, "again").into_params().unwrap());
        twice.extend(numbers(300));
        let error = many(&mut connection, sql, twice).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Constraint, Reason::Unique), "{sql}");

        let mut unfit = numbers(500);
        unfit.push(("text", "text").into_params().unwrap());
        let error = many(&mut connection, sql, unfit).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Query, Reason::Type), "{sql}");

        let mut short = numbers(500);
        short.push((1,).into_params().unwrap());
        let error = many(&mut connection, sql, short).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Parameters, "{sql}");
        assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM t").await, 0);
        assert_eq!(connection.state(), ResourceState::Idle);
    }
}

/// An update of one row for each set, which is no COPY.
const UPDATE: &str = "UPDATE t SET name = $2 WHERE id = $1 AND 1 / $1 > -2";

#[tokio::test]
async fn outside_a_transaction_the_first_set_that_fails_is_the_last_that_is_run() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(
        &mut connection,
        "CREATE TABLE t (id bigint, name text); INSERT INTO t SELECT generate_series(-9, 9), 'old'",
    )
    .await;
    let set = |number: i64| (number, "new").into_params().unwrap();
    let done = "SELECT coalesce(string_agg(cast(id AS text), ',' ORDER BY id), '') FROM t WHERE name = 'new'";
    // The server refuses to divide by zero.
    let error = connection.run_many(UPDATE.into(), [1, 2, 0, 3, 4].map(set).into_iter().collect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query, "{error}");
    assert_eq!(value::<String>(&mut connection, done).await, "1,2");
    // A value that does not fit is found before it is sent.
    let mut sets: Vec<Params> = [5, 6].map(set).into();
    sets.extend([(true, true).into_params().unwrap(), set(7)]);
    let error = connection.run_many(UPDATE.into(), sets.into_iter().collect()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Type, "{error}");
    assert_eq!(value::<String>(&mut connection, done).await, "1,2,5,6");
    assert_eq!(connection.state(), ResourceState::Idle);
    // An insert with an effect of its own, and one that answers.
    for insert in ["INSERT INTO t VALUES (1 / $1, lower($2))", "INSERT INTO t VALUES (1 / $1, $2) RETURNING id"] {
        script(&mut connection, "DELETE FROM t").await;
        let outcome = connection.run_many(insert.into(), [1, 1, 0, 1].map(set).into_iter().collect()).await;
        outcome.unwrap_err();
        assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM t").await, 2, "{insert}");
    }
}

#[tokio::test]
async fn what_was_sent_before_a_set_that_does_not_fit_is_stopped() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    let sets: strongroom::values::ParamSets =
        [params![20.0, 1].unwrap(), params![20.0, 1].unwrap(), params![true, 1].unwrap()].into_iter().collect();
    let many = connection.run_many("SELECT pg_sleep($1), cast($2 AS bigint)".into(), sets);
    let patience = std::time::Duration::from_secs(15);
    let error = tokio::time::timeout(patience, many).await.expect("nobody waits for the first").unwrap_err();
    assert_eq!(error.reason(), Reason::Type, "{error}");
    tokio::time::timeout(patience, connection.rollback()).await.expect("the first is stopped").unwrap();
    assert_eq!(connection.state(), ResourceState::Idle);
    assert_eq!(value::<i64>(&mut connection, "SELECT cast(1 AS bigint)").await, 1);
}

#[tokio::test]
async fn columns_that_changed_their_type_get_the_values_and_not_their_bytes() {
    let Some(server) = server() else { return };
    let (mut connection, mut other) = (server.connect().await, server.connect().await);
    script(&mut connection, "CREATE TABLE t (id bigint, name text)").await;
    let insert = "INSERT INTO t VALUES ($1, $2)";
    many(&mut connection, insert, numbers(100)).await.unwrap();
    // Eight bytes as before, and any text is bytes too.
    script(&mut other, "ALTER TABLE t ALTER id TYPE double precision").await;
    many(&mut connection, insert, numbers(100)).await.unwrap();
    assert_eq!(value::<i64>(&mut connection, "SELECT sum(id)::int8 FROM t").await, 2 * 4950);
    // Outside a transaction nothing holds the types still.
    connection.run_many(insert.into(), numbers(100).into_iter().collect()).await.unwrap();
    assert_eq!(value::<i64>(&mut connection, "SELECT sum(id)::int8 FROM t").await, 3 * 4950);
}

#[tokio::test]
async fn every_type_arrives_in_bulk_as_it_does_alone() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(
        &mut connection,
        "CREATE DOMAIN small AS int2 CHECK (value < 100); CREATE TYPE mood AS ENUM ('glad', 'sad'); \
         CREATE TABLE t (a bool, b int2, c int4, d int8, e float4, f float8, g varchar(9), h char(3), i name, j bytea, \
             k mood, l small, m json, n oid, o numeric, p uuid, q timestamptz, r int[], s jsonb)",
    )
    .await;
    let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let binary = params![true, 1, 2, 3, 0.5, 0.1, "g", "h", "i", vec![0_u8, 9], "sad", 7, "[1]", 8].unwrap();
    let read = params![
        true,
        1,
        2,
        3,
        0.5,
        0.1,
        "g",
        "h",
        "i",
        vec![0_u8, 9],
        "sad",
        7,
        "[1]",
        8,
        "1.50",
        uuid,
        "2024-01-02T03:04:05Z",
        "{1,NULL}",
        "{}"
    ]
    .unwrap();
    for (columns, given) in [("a, b, c, d, e, f, g, h, i, j, k, l, m, n", binary), ("*", read)] {
        let count = match &given {
            Params::Positional(values) => values.len(),
            _ => unreachable!("they are positional"),
        };
        let places: Vec<String> = (1..=count).map(|number| format!("${number}")).collect();
        let list = if columns == "*" { String::new() } else { format!("({columns})") };
        let insert = format!("INSERT INTO t {list} VALUES ({})", places.join(", "));
        connection.begin(TransactionMode::WRITE).await.unwrap();
        run_sql(&mut connection, &insert, given.clone()).await.unwrap();
        connection.run_many(insert.into(), std::iter::repeat_n(given, 40).collect()).await.unwrap();
        let distinct =
            format!("SELECT count(*) FROM (SELECT DISTINCT cast(t AS text) FROM (SELECT {columns} FROM t) AS t) AS u");
        assert_eq!(value::<i64>(&mut connection, &distinct).await, 1, "{columns}");
        connection.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_copy_leaves_nothing_behind() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (id bigint, name text)").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    let copying = connection.run_many("INSERT INTO t VALUES ($1, $2)".into(), numbers(200_000).into_iter().collect());
    tokio::time::timeout(std::time::Duration::from_millis(30), copying).await.unwrap_err();
    connection.rollback().await.unwrap();
    assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM t").await, 0);
}

const INSERT: &str = "INSERT INTO t VALUES ($1, $2)";

fn sets(numbers: std::ops::Range<i64>) -> strongroom::values::ParamSets {
    numbers.map(|number| (number, format!("row {number}")).into_params().unwrap()).collect()
}

#[tokio::test]
async fn sets_that_follow_travel_in_the_same_copy() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (id bigint PRIMARY KEY, name text)").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    let mut bulk = connection.bulk(INSERT.into()).await.unwrap();
    for first in [0, 100, 200] {
        let put_off = bulk.add(sets(first..first + 100)).await.unwrap();
        assert!(put_off.is_none());
    }
    // Few, but it is open.
    assert!(bulk.add(sets(300..301)).await.unwrap().is_none());
    assert_eq!(bulk.end().await.unwrap().rows_affected, 301);
    connection.commit().await.unwrap();
    assert_eq!(value::<i64>(&mut connection, "SELECT cast(sum(id) AS bigint) FROM t").await, 301 * 150);
    // Outside a transaction each call is one by itself.
    let changes = connection.bulk(INSERT.into()).await.unwrap().add(sets(301..401)).await.unwrap();
    assert_eq!(changes.expect("an answer").rows_affected, 100);
}

#[tokio::test]
async fn an_answer_that_was_put_off_is_still_given() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (id bigint PRIMARY KEY, name text)").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    let mut bulk = connection.bulk(INSERT.into()).await.unwrap();
    assert!(bulk.add(sets(0..100)).await.unwrap().is_none());
    assert!(bulk.add(sets(99..200)).await.unwrap().is_none());
    let error = bulk.end().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Constraint, Reason::Unique));
    assert_eq!(connection.state(), ResourceState::Failed);
    connection.rollback().await.unwrap();

    let db = strongroom::AsyncDatabase::with_connector(server.connector()).pool_max(1).open().await.unwrap();
    let twice = (0..20_000).map(|number| (number % 19_999, "row"));
    let error = db.execute_many(INSERT, twice).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Unique);
    assert!(!error.to_string().starts_with("after"), "{error}");
    assert_eq!(db.execute_many(INSERT, (0..20_000).map(|number| (number, "row"))).await.unwrap().rows_affected, 20_000);
}

#[tokio::test]
async fn a_copy_that_nobody_ends_takes_its_transaction_along() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (id bigint, name text)").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    connection.bulk(INSERT.into()).await.unwrap().add(sets(0..100)).await.unwrap();
    assert_eq!(connection.state(), ResourceState::Unknown);
    assert_eq!(connection.commit().await.unwrap_err().reason(), Reason::Doomed);

    connection.begin(TransactionMode::WRITE).await.unwrap();
    let mut bulk = connection.bulk(INSERT.into()).await.unwrap();
    bulk.add(sets(0..100)).await.unwrap();
    let more = bulk.add(sets(100..200_000));
    tokio::time::timeout(std::time::Duration::from_millis(1), more).await.unwrap_err();
    assert_eq!(bulk.end().await.unwrap_err().reason(), Reason::Doomed);
    connection.rollback().await.unwrap();
    assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM t").await, 0);
    assert_eq!(connection.state(), ResourceState::Idle);
}

#[tokio::test]
async fn values_that_only_the_server_can_read_may_come_late() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (id bigint, at date)").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    let set = |number: i64| (number, (number % 100 >= 50).then_some("2024-02-29")).into_params().unwrap();
    let mut bulk = connection.bulk(INSERT.into()).await.unwrap();
    for first in [0, 100] {
        bulk.add((first..first + 100).map(set).collect()).await.unwrap();
    }
    assert_eq!(bulk.end().await.unwrap().rows_affected, 200);
    connection.commit().await.unwrap();
    let dates = "SELECT count(*) FROM t WHERE (at = '2024-02-29') = (id % 100 >= 50) OR (at IS NULL) = (id % 100 < 50)";
    assert_eq!(value::<i64>(&mut connection, dates).await, 200);
    assert_eq!(value::<i64>(&mut connection, "SELECT count(at) FROM t").await, 100);
}

fn anything() -> impl Strategy<Value = Value> {
    let text = proptest::string::string_regex("[^\\x00]{0,20}").unwrap();
    prop_oneof![Just(Value::Null), text.prop_map(Value::Text), "[\\\\\\t\\n\\r.N]{0,6}".prop_map(Value::Text)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn what_is_copied_is_what_was_given(
        texts in proptest::collection::vec(anything(), 40..60),
        bytes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 40),
        reals in proptest::collection::vec(any::<f64>(), 40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let Some(server) = shared() else { return };
            let mut connection = server.connect().await;
            script(&mut connection, "CREATE TEMP TABLE t (id int, a text, b bytea, c float8)").await;
            let sets: Vec<Params> = (0..40)
                .map(|i| (i, texts[i].clone(), bytes[i].clone(), reals[i]).into_params().unwrap())
                .collect();
            assert_eq!(many(&mut connection, "INSERT INTO t VALUES ($1, $2, $3, $4)", sets).await.unwrap(), 40);
            let rows = run_sql(&mut connection, "SELECT a, b, c FROM t ORDER BY id", ()).await.unwrap();
            for (i, row) in rows.iter().enumerate() {
                assert_eq!(row.get::<Value>(0).unwrap(), texts[i]);
                assert_eq!(row.get::<Vec<u8>>(1).unwrap(), bytes[i]);
                assert_eq!(row.get::<f64>(2).unwrap().to_bits(), if reals[i].is_nan() { f64::NAN.to_bits() } else { reals[i].to_bits() });
            }
        });
    }
}

/// One server for all cases of a property; it ends with this program.
fn shared() -> Option<&'static common::Server> {
    static SERVER: std::sync::OnceLock<Option<common::Server>> = std::sync::OnceLock::new();
    SERVER.get_or_init(server).as_ref()
}

#[tokio::test]
async fn what_does_not_fit_without_a_statement_cache_travels_with_the_others() {
    let Some(server) = server() else { return };
    let db = strongroom::AsyncDatabase::with_connector(server.connector().statement_cache(0)).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a bigint, b text, c bytea, d numeric)").await.unwrap();
    let began = std::time::Instant::now();
    let rows = (0..20_000).map(|n| (n, n, "\\x00ff", 0.5));
    db.execute_many("INSERT INTO t VALUES ($1, $2, $3, $4)", rows).await.unwrap();
    println!("20,000 sets in {:?}", began.elapsed());
    let sql = "SELECT count(DISTINCT cast(xmin AS text)), count(*), max(b), max(encode(c, 'hex')), max(d) FROM t";
    let found: Option<(i64, i64, String, String, String)> = db.fetch_one_as(sql, ()).await.unwrap();
    assert_eq!(found, Some((1, 20_000, "9999".into(), "00ff".into(), "0.5".into())));
    let sets = (0..100).map(|n| (n, n));
    let update = "UPDATE t SET b = $2 WHERE a = $1";
    assert_eq!(db.execute_many(update, sets).await.unwrap().rows_affected, 100);
    let error = db.execute_many("INSERT INTO t (b) VALUES ($1)", (0..40).map(|n| (n == 7,))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query, "{error}");
}

#[tokio::test]
async fn without_a_statement_cache_a_bulk_insert_is_parsed_once_and_not_for_each_set() {
    let Some(server) = server() else { return };
    let proxy = proxy::Proxy::before(&server).await;
    let db = strongroom::AsyncDatabase::with_connector(proxy.connector().statement_cache(0)).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a bigint UNIQUE, b text)").await.unwrap();
    for sql in [
        "INSERT INTO t VALUES ($1, $2)",
        "INSERT INTO t VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = excluded.b",
        "INSERT INTO t (a, b) VALUES ($1 + 10000, $2) RETURNING a",
        "UPDATE t SET b = $2 WHERE a = $1",
    ] {
        let before = proxy.parses();
        let sets = (0..500).map(|n| (n, format!("row {n}")));
        assert_eq!(db.execute_many(sql, sets).await.unwrap().rows_affected, 500, "{sql}");
        let parsed = proxy.parses() - before;
        assert!((1..=4).contains(&parsed), "{sql}: parsed {parsed} times");
    }
}

/// Parsed for each chunk, of which a hundred thousand sets are six at most, and not for each set.
#[tokio::test]
async fn without_a_statement_cache_a_hundred_thousand_sets_are_parsed_a_few_times() {
    let Some(server) = server() else { return };
    let proxy = proxy::Proxy::before(&server).await;
    let db = strongroom::AsyncDatabase::with_connector(proxy.connector().statement_cache(0)).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a bigint UNIQUE, b text)").await.unwrap();
    let upsert = "INSERT INTO t VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = excluded.b";
    for (sql, count) in [("INSERT INTO t VALUES ($1, $2)", 100_000), (upsert, 40_000)] {
        let before = proxy.parses();
        let sets = (0..count).map(|n| (n, format!("row {n}")));
        assert_eq!(db.execute_many(sql, sets).await.unwrap().rows_affected, count, "{sql}");
        let parsed = proxy.parses() - before;
        assert!((1..=8).contains(&parsed), "{sql}: parsed {parsed} times");
    }
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(100_000));
}

#[tokio::test]
async fn without_a_statement_cache_sets_within_a_transaction_and_by_name_are_parsed_once_too() {
    let Some(server) = server() else { return };
    let proxy = proxy::Proxy::before(&server).await;
    let db = strongroom::AsyncDatabase::with_connector(proxy.connector().statement_cache(0)).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a bigint, b text)").await.unwrap();
    let before = proxy.parses();
    db.transaction(async |tx| {
        tx.execute_many("UPDATE t SET b = $2 WHERE a = $1", (0..500).map(|n| (n, "x"))).await?;
        let sets = (0..500).map(|n| strongroom::named![a: n, b: Option::<String>::None]);
        tx.execute_many("INSERT INTO t VALUES (:a, :b)", sets).await
    })
    .await
    .unwrap();
    let parsed = proxy.parses() - before;
    assert!((1..=10).contains(&parsed), "parsed {parsed} times");
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(500));
}
