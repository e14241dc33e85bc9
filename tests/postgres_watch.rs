//! What `watch()` promises on PostgreSQL: the result now, and again whenever it has changed; never an old one last.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use std::time::Duration;

use common::{Server, script, server, value};
use strongroom::database::WatchStream;
use strongroom::postgres::{PostgresConnection, PostgresConnector};
use strongroom::{AsyncDatabase, ErrorKind, Reason, Result};
use tokio::time::timeout;

type Database = AsyncDatabase<PostgresConnector>;

const SCHEMA: &str = "CREATE TABLE users (id bigserial PRIMARY KEY, name text NOT NULL);
     CREATE TABLE logs (line text); CREATE TABLE accounts (id int PRIMARY KEY, cents bigint NOT NULL);
     INSERT INTO accounts VALUES (1, 500), (2, 500)";

async fn open(server: &Server) -> Database {
    AsyncDatabase::with_connector(server.connector()).open().await.unwrap()
}

async fn with_schema(server: &Server) -> Database {
    let db = open(server).await;
    db.execute_script(SCHEMA).await.unwrap();
    db.install_change_feed(["users", "logs", "accounts"]).await.unwrap();
    db
}

async fn next<T>(watched: &mut WatchStream<T>) -> T {
    timeout(Duration::from_secs(20), watched.next())
        .await
        .expect("a result comes")
        .expect("the stream goes on")
        .unwrap()
}

async fn fails<T: std::fmt::Debug>(watched: &mut WatchStream<T>) -> strongroom::Error {
    timeout(Duration::from_secs(20), watched.next()).await.expect("it ends").expect("with an error").unwrap_err()
}

/// Reads on until the result is this one.
async fn comes_to<T: PartialEq + std::fmt::Debug>(watched: &mut WatchStream<Vec<T>>, last: &[T]) {
    while next(watched).await != last {}
}

async fn assert_silent<T: std::fmt::Debug>(watched: &mut WatchStream<T>) {
    let more = timeout(Duration::from_millis(100), watched.next()).await;
    assert!(more.is_err(), "nothing has changed: {more:?}");
}

async fn end_listening(beside: &mut PostgresConnection) {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE application_name = 'strongroom changes'";
    assert!(value::<i64>(beside, sql).await > 0);
}

#[tokio::test]
async fn the_result_comes_at_once_and_whenever_it_has_changed() {
    let Some(server) = server() else { return };
    let db = with_schema(&server).await;
    let mut names = db.watch_as::<String>("SELECT name FROM users WHERE id < $1 ORDER BY id", (100,));
    assert!(next(&mut names).await.is_empty());
    db.execute("INSERT INTO users VALUES (1, 'alice')", ()).await.unwrap();
    assert_eq!(next(&mut names).await, ["alice"]);
    db.transaction(async |tx| {
        tx.execute("INSERT INTO users VALUES (2, 'bob')", ()).await?;
        tx.execute("UPDATE users SET name = 'alicia' WHERE id = 1", ()).await
    })
    .await
    .unwrap();
    assert_eq!(next(&mut names).await, ["alicia", "bob"]);
    db.execute("TRUNCATE users", ()).await.unwrap();
    assert!(next(&mut names).await.is_empty());
    let rolled_back: Result<()> = db
        .transaction(async |tx| {
            tx.execute("INSERT INTO users VALUES (3, 'no')", ()).await?;
            Err(strongroom::Error::new(ErrorKind::Query, "on purpose"))
        })
        .await;
    rolled_back.unwrap_err();
    db.execute("INSERT INTO logs VALUES ('of another table')", ()).await.unwrap();
    assert_silent(&mut names).await;
    db.close().await.unwrap();
    assert!(names.next().await.is_none(), "it ends with the database");
}

#[tokio::test]
async fn tables_are_found_behind_views_functions_subqueries_and_names_in_disguise() {
    let Some(server) = server() else { return };
    let db = with_schema(&server).await;
    db.execute_script(
        "CREATE VIEW people AS SELECT id, name FROM users; CREATE VIEW named AS SELECT name FROM people;
         CREATE SCHEMA shop; CREATE TABLE shop.\"odd; name\" (a int);
         CREATE FUNCTION lines() RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT line FROM logs';
         CREATE TABLE parts (id int) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (10);
         CREATE TABLE parent (n int); CREATE TABLE child () INHERITS (parent)",
    )
    .await
    .unwrap();
    db.install_change_feed(["shop.odd; name", "parts", "parent"]).await.unwrap();
    let reads = [
        ("SELECT count(*) FROM named", "INSERT INTO users VALUES (1, 'x')"),
        ("SELECT cast(cast(EXISTS (SELECT 1 FROM logs) AS int) AS bigint)", "INSERT INTO logs VALUES ('x')"),
        ("SELECT count(*) FROM lines()", "INSERT INTO logs VALUES ('x')"),
        (
            "WITH t AS (SELECT sum(cents) AS s FROM accounts) SELECT cast(s AS bigint) FROM t",
            "UPDATE accounts SET cents = 1",
        ),
        (
            "SELECT count(*) FROM users AS logs JOIN shop.\"odd; name\" ON true",
            "INSERT INTO shop.\"odd; name\" VALUES (1)",
        ),
        (
            "SELECT /* users */ cast((SELECT count(*) FROM shop.\"odd; name\") AS bigint)",
            "DELETE FROM shop.\"odd; name\"",
        ),
        ("SELECT count(*) FROM parts", "INSERT INTO low VALUES (1)"),
        ("SELECT count(*) FROM low", "INSERT INTO parts VALUES (2)"),
        ("SELECT count(*) FROM parent", "INSERT INTO child VALUES (1)"),
        ("SELECT coalesce(max(n), 0) FROM child", "UPDATE parent SET n = 7"),
        ("(TABLE parent) ORDER BY n DESC LIMIT 1", "UPDATE child SET n = 8"),
    ];
    for (sql, write) in reads {
        let mut watched = db.watch_as::<i64>(sql, ());
        let first = next(&mut watched).await;
        db.execute(write, ()).await.unwrap();
        assert_ne!(first, next(&mut watched).await, "{sql}");
    }
}

#[tokio::test]
async fn a_statement_is_refused_that_reads_what_tells_nothing() {
    let Some(server) = server() else { return };
    let db = with_schema(&server).await;
    db.execute_script(
        "CREATE SCHEMA shop; CREATE TABLE shop.\"Orders\" (n int); CREATE VIEW both_of AS SELECT n FROM shop.\"Orders\", users;
         CREATE MATERIALIZED VIEW kept AS SELECT 1 AS n",
    )
    .await
    .unwrap();
    for (sql, names) in [
        ("SELECT n FROM shop.\"Orders\"", "install_change_feed([\"shop.Orders\"])"),
        ("SELECT n FROM both_of", "install_change_feed([\"shop.Orders\"])"),
        ("SELECT n FROM kept", "kept, a materialized view"),
        ("SELECT relname FROM pg_class", "pg_catalog.pg_class, a catalog"),
    ] {
        let error = fails(&mut db.watch(sql, ())).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{sql}: {error}");
        assert!(error.to_string().contains(names), "{error}");
    }
    for sql in [
        "INSERT INTO users VALUES (1, 'x') RETURNING id",
        "WITH w AS (DELETE FROM users RETURNING 1) SELECT * FROM w",
        "DROP TABLE users",
    ] {
        let error = fails(&mut db.watch(sql, ())).await;
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Unsupported, Reason::Control), "{sql}");
    }
    assert_eq!(fails(&mut db.watch("SELECT nothing FROM users", ())).await.kind(), ErrorKind::Query);
    // The way out is one.
    db.install_change_feed(["shop.Orders"]).await.unwrap();
    assert!(next(&mut db.watch("SELECT n FROM both_of", ())).await.is_empty());
}

#[tokio::test]
async fn a_statement_that_is_watched_fails_when_its_triggers_are_removed() {
    let Some(server) = server() else { return };
    let db = with_schema(&server).await;
    let mut users = db.watch("SELECT * FROM users", ());
    let mut logs = db.watch_as::<String>("SELECT line FROM logs", ());
    next(&mut users).await;
    next(&mut logs).await;
    db.remove_change_feed(["users"]).await.unwrap();
    let error = fails(&mut users).await;
    assert!(error.to_string().contains("install_change_feed([\"users\"])"), "{error}");
    assert!(users.next().await.is_none());
    db.execute("INSERT INTO logs VALUES ('x')", ()).await.unwrap();
    assert_eq!(next(&mut logs).await, ["x"]);
}

#[tokio::test]
async fn a_renamed_table_behind_a_view_is_watched_on() {
    let Some(server) = server() else { return };
    let db = with_schema(&server).await;
    db.execute_script("CREATE VIEW total AS SELECT count(*) AS n FROM logs").await.unwrap();
    let mut total = db.watch_as::<i64>("SELECT n FROM total", ());
    assert_eq!(next(&mut total).await, [0]);
    db.execute_script("ALTER TABLE logs RENAME TO lines; INSERT INTO lines VALUES ('x')").await.unwrap();
    assert_eq!(next(&mut total).await, [1]);
    db.execute("INSERT INTO lines VALUES ('x')", ()).await.unwrap();
    assert_eq!(next(&mut total).await, [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_comes_to_the_last_state_and_sees_no_torn_one() {
    let Some(server) = server() else { return };
    let (one, two) = (with_schema(&server).await, open(&server).await);
    let sql = "SELECT a.cents, b.cents FROM accounts a, accounts b WHERE a.id = 1 AND b.id = 2";
    let watchers: Vec<_> = [&one, &two, &one, &two]
        .into_iter()
        .map(|db| {
            let mut watched = db.watch_as::<(i64, i64)>(sql, ()).settle(Duration::ZERO);
            tokio::spawn(async move {
                loop {
                    let seen = next(&mut watched).await;
                    assert_eq!(seen[0].0 + seen[0].1, 1000, "a state between two commits");
                    if seen[0].0 == 300 {
                        return;
                    }
                }
            })
        })
        .collect();
    let writers: Vec<_> = [&one, &two]
        .map(|db| {
            let db = db.clone();
            tokio::spawn(async move {
                for n in 0..100 {
                    db.transaction(async |tx| {
                        tx.execute("UPDATE accounts SET cents = cents - 1 WHERE id = 1", ()).await?;
                        tx.execute("UPDATE accounts SET cents = cents + 1 WHERE id = 2", ()).await
                    })
                    .await
                    .unwrap();
                    if n % 10 == 0 {
                        tokio::time::sleep(Duration::from_millis(3)).await;
                    }
                }
            })
        })
        .into();
    for task in writers.into_iter().chain(watchers) {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_state_is_not_missed_however_often_the_listening_session_is_ended() {
    let Some(server) = server() else { return };
    let (db, mut beside) = (with_schema(&server).await, server.connect().await);
    let mut count = db.watch_as::<i64>("SELECT count(*) FROM logs", ());
    assert_eq!(next(&mut count).await, [0]);
    for round in 1..=25_i64 {
        if round % 3 == 0 {
            end_listening(&mut beside).await;
        }
        db.execute("INSERT INTO logs VALUES ('x')", ()).await.unwrap();
        if round % 3 == 1 {
            end_listening(&mut beside).await;
        }
        comes_to(&mut count, &[round]).await;
    }
}

#[tokio::test]
async fn a_watch_outlives_a_server_that_is_away_for_a_while() {
    let Some(server) = server() else { return };
    let db = with_schema(&server).await;
    let mut count = db.watch_as::<i64>("SELECT count(*) FROM logs", ());
    assert_eq!(next(&mut count).await, [0]);
    // All sessions end, and none is let in for a while.
    let mut beside = server.connect().await;
    script(&mut beside, "CREATE DATABASE another").await;
    let mut outside =
        strongroom::Connector::connect(&server.connector().database("another"), strongroom::engine::Access::Write)
            .await
            .unwrap();
    drop(beside);
    script(&mut outside, "ALTER DATABASE postgres ALLOW_CONNECTIONS false").await;
    end_listening(&mut outside).await;
    assert_silent(&mut count).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    script(&mut outside, "ALTER DATABASE postgres ALLOW_CONNECTIONS true").await;
    db.execute("INSERT INTO logs VALUES ('x')", ()).await.unwrap();
    comes_to(&mut count, &[1]).await;
}

#[tokio::test]
async fn a_suspended_database_lets_go_of_the_listening_session_and_watches_on_when_it_works_again() {
    let Some(server) = server() else { return };
    let (db, mut beside) = (with_schema(&server).await, server.connect().await);
    let mut count = db.watch_as::<i64>("SELECT count(*) FROM logs", ());
    assert_eq!(next(&mut count).await, [0]);
    db.suspend().await.unwrap();
    let others = "SELECT count(*) FROM pg_stat_activity \
         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    assert_silent(&mut count).await;
    assert_eq!(value::<i64>(&mut beside, others).await, 0, "sessions while it is suspended");
    script(&mut beside, "INSERT INTO logs VALUES ('meanwhile')").await;
    assert_silent(&mut count).await;
    db.execute("INSERT INTO logs VALUES ('awake')", ()).await.unwrap();
    comes_to(&mut count, &[2]).await;
    script(&mut beside, "INSERT INTO logs VALUES ('heard')").await;
    comes_to(&mut count, &[3]).await;
}
