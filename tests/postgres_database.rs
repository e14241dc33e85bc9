//! `AsyncDatabase` on PostgreSQL: the same calls as on a file.
#![cfg(all(feature = "postgres", target_os = "linux"))]
#![allow(clippy::large_futures, reason = "a test may have a large stack")]

#[path = "common/postgres.rs"]
mod common;

use std::time::Duration;

use common::server;
use futures_util::{SinkExt, TryStreamExt};
use serde::Deserialize;
use strongroom::database::Isolation;
use strongroom::engine::TransactionMode;
use strongroom::postgres::PostgresConnector;
use strongroom::{AsyncDatabase, Connection, ErrorKind, Reason, Result, named};

async fn open(server: &common::Server, size: u32) -> AsyncDatabase<PostgresConnector> {
    let db = AsyncDatabase::with_connector(server.connector()).pool_max(size).open().await.expect("a database");
    let schema = "CREATE TABLE users (id BIGINT PRIMARY KEY, name TEXT NOT NULL, born DATE)";
    db.execute_script(schema).await.expect("a schema");
    db
}

#[derive(Debug, Deserialize, PartialEq)]
struct User {
    id: i64,
    name: String,
    born: Option<String>,
}

#[tokio::test]
async fn the_one_liners_work_as_on_a_file() {
    let Some(server) = server() else { return };
    let db = open(&server, 4).await;
    let insert = "INSERT INTO users (id, name, born) VALUES ($1, $2, $3)";
    assert_eq!(db.execute(insert, (1, "alice", Some("2000-02-29"))).await.unwrap().rows_affected, 1);
    let sets = (2..=500).map(|id| (id, format!("user {id}"), None::<String>));
    assert_eq!(db.execute_many(insert, sets).await.unwrap().rows_affected, 499);

    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM users", ()).await.unwrap(), Some(500));
    let user: Option<User> = db.fetch_one_as("SELECT * FROM users WHERE id = :id", named![id: 1]).await.unwrap();
    assert_eq!(user.unwrap(), User { id: 1, name: "alice".into(), born: Some("2000-02-29".into()) });
    assert!(db.fetch_one("SELECT * FROM users WHERE id = $1", (-1,)).await.unwrap().is_none());
    assert_eq!(db.fetch_all("SELECT name FROM users ORDER BY id LIMIT $1", (3,)).await.unwrap().len(), 3);
    assert!(db.table_exists("users").await.unwrap() && !db.table_exists("nobody").await.unwrap());
    let changed = db.execute("UPDATE users SET name = upper(name) WHERE id > $1 RETURNING id", (490,)).await.unwrap();
    assert_eq!(changed.rows_affected, 10);

    let mut rows = db.fetch_stream("SELECT id FROM users ORDER BY id", ());
    let mut sum = 0;
    while let Some(row) = rows.try_next().await.unwrap() {
        sum += row.get::<i64>(0).unwrap();
    }
    assert_eq!(sum, 500 * 501 / 2);
    drop(rows);
    let report = db.close().await.unwrap();
    assert_eq!(db.stats().total_connections, 0, "{report:?}");
}

#[tokio::test]
async fn transactions_commit_roll_back_and_nest() {
    let Some(server) = server() else { return };
    let db = open(&server, 4).await;
    let insert = "INSERT INTO users (id, name) VALUES ($1, $2)";
    db.transaction(async |tx| {
        tx.execute(insert, (1, "a")).await?;
        let nested: Result<()> = tx
            .transaction(async |tx| {
                tx.execute(insert, (2, "b")).await?;
                tx.execute(insert, (1, "again")).await?;
                Ok(())
            })
            .await;
        assert_eq!(nested.unwrap_err().reason(), Reason::Unique);
        let mut rows = tx.fetch_stream("SELECT i FROM generate_series(1, 100000) i", ());
        rows.try_next().await?;
        drop(rows);
        tx.execute(insert, (3, "c")).await.map(drop)
    })
    .await
    .unwrap();
    let swallowed = db.transaction(async |tx| {
        tx.execute(insert, (4, "d")).await?;
        let _ = tx.execute(insert, (1, "again")).await;
        Ok(())
    });
    assert_eq!(swallowed.await.unwrap_err().kind(), ErrorKind::Transaction);
    let refused = db.execute("BEGIN", ()).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Control);
    let names: Vec<String> = db.fetch_all_as("SELECT name FROM users ORDER BY id", ()).await.unwrap();
    assert_eq!(names, ["a", "c"]);
}

#[tokio::test]
async fn serialization_failures_are_told_so_that_the_whole_may_be_run_again() {
    let Some(server) = server() else { return };
    let db = open(&server, 8).await;
    db.execute("INSERT INTO users (id, name) VALUES (0, '0')", ()).await.unwrap();
    let serializable = TransactionMode::WRITE.isolation(Isolation::Serializable);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    while let Err(error) = increment(&db, serializable).await {
                        assert!(error.kind() == ErrorKind::Serialization && error.is_transient(), "{error}");
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let total: Option<String> = db.fetch_value("SELECT name FROM users", ()).await.unwrap();
    assert_eq!(total.as_deref(), Some("80"));
}

async fn increment(db: &AsyncDatabase<PostgresConnector>, mode: TransactionMode) -> Result<()> {
    let mut tx = db.begin_with(mode).await?;
    let name: Option<String> = tx.fetch_value("SELECT name FROM users WHERE id = 0", ()).await?;
    let next = name.and_then(|name| name.parse::<i64>().ok()).unwrap_or_default() + 1;
    tx.execute("UPDATE users SET name = $1 WHERE id = 0", (next.to_string(),)).await?;
    tx.commit().await
}

#[tokio::test]
async fn dropped_calls_give_their_connection_back() {
    let Some(server) = server() else { return };
    let db = open(&server, 2).await;
    for round in 0..10 {
        let sleeping = db.execute("SELECT pg_sleep(30)", ());
        tokio::time::timeout(Duration::from_millis(20), sleeping).await.unwrap_err();
        let rolled_back = db.transaction(async |tx| {
            tx.execute("INSERT INTO users (id, name) VALUES ($1, 'x')", (round,)).await?;
            tx.execute("SELECT pg_sleep(30)", ()).await.map(drop)
        });
        tokio::time::timeout(Duration::from_millis(50), rolled_back).await.unwrap_err();
    }
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM users", ()).await.unwrap(), Some(0));
    let stats = db.stats();
    assert!(stats.total_connections <= 2, "{stats:?}");
}

#[tokio::test]
async fn a_session_that_was_altered_is_not_lent_again() {
    let Some(server) = server() else { return };
    let db = open(&server, 1).await;
    let mut connection = db.connection().await.unwrap();
    connection.execute("SET application_name = 'mine alone'", ()).await.unwrap();
    drop(connection);
    let name: Option<String> = db.fetch_value("SELECT current_setting('application_name')", ()).await.unwrap();
    assert_eq!(name.as_deref(), Some("strongroom"));
    let refused = db.execute("SET application_name = 'everybody''s'", ()).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Control);
}

#[tokio::test]
async fn what_a_transaction_sets_for_itself_acts_in_it_and_ends_with_it() {
    let Some(server) = server() else { return };
    let db = open(&server, 1).await;
    db.execute_script(
        "CREATE TABLE parents (id bigint PRIMARY KEY); \
         CREATE TABLE children (parent bigint REFERENCES parents DEFERRABLE)",
    )
    .await
    .unwrap();
    let pid = async || db.fetch_value::<i64>("SELECT cast(pg_backend_pid() AS bigint)", ()).await.unwrap();
    let before = pid().await;
    for commits in [true, false] {
        let mut tx = db.begin().await.unwrap();
        tx.execute("SET LOCAL application_name = 'for now'", ()).await.unwrap();
        tx.execute("SET CONSTRAINTS ALL DEFERRED", ()).await.unwrap();
        tx.execute("INSERT INTO children VALUES ($1)", (i64::from(commits),)).await.unwrap();
        tx.execute("INSERT INTO parents VALUES ($1)", (i64::from(commits),)).await.unwrap();
        let name = tx.fetch_value::<String>("SELECT current_setting('application_name')", ()).await.unwrap();
        assert_eq!(name.as_deref(), Some("for now"));
        if commits {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }

        let name = db.fetch_value::<String>("SELECT current_setting('application_name')", ()).await.unwrap();
        assert_eq!(name.as_deref(), Some("strongroom"));
        let error = db.execute("INSERT INTO children VALUES (77)", ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Constraint, "{error}");
    }
    assert_eq!(pid().await, before, "such a session is lent again");
}

#[tokio::test]
async fn notifications_and_copy_are_reached_from_a_borrowed_connection() {
    let Some(server) = server() else { return };
    let db = open(&server, 2).await;
    let mut listener = db.connection().await.unwrap();
    let mut notifications = listener.notifications();
    listener.execute("LISTEN users", ()).await.unwrap();

    let mut writer = db.connection().await.unwrap();
    let mut sink = Box::pin(writer.native().copy_in("COPY users (id, name) FROM STDIN (FORMAT csv)").await.unwrap());
    sink.send(bytes::Bytes::from_static(b"1,alice\n2,bob\n")).await.unwrap();
    assert_eq!(sink.as_mut().finish().await.unwrap(), 2);
    writer.execute("SELECT pg_notify('users', 'two more')", ()).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(10), notifications.recv()).await.unwrap().unwrap();
    assert_eq!((heard.channel(), heard.payload()), ("users", "two more"));
    drop((listener, writer));
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM users", ()).await.unwrap(), Some(2));
    assert_eq!(db.fetch_all("SELECT pg_listening_channels()", ()).await.unwrap().len(), 0, "nobody inherits it");
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let Some(server) = server() else { return };
    let db = open(&server, 4).await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE application_name = 'strongroom' AND pid <> pg_backend_pid()";
    let mut other = server.connect().await;
    common::value::<i64>(&mut other, kill).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM users", ()).await.unwrap(), Some(0));
}

#[tokio::test]
async fn what_breaks_one_connection_takes_its_idle_siblings_along() {
    let Some(server) = server() else { return };
    let db = open(&server, 3).await;
    let sessions = async || {
        let (mut held, mut sessions) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let mut connection = db.connection().await.unwrap();
            sessions.push(connection.fetch_value::<i64>("SELECT pg_backend_pid()", ()).await.unwrap().unwrap());
            held.push(connection);
        }
        sessions
    };
    let before = sessions().await;
    // As when a primary is made a standby: its sessions live on, and can no longer write.
    let mut operator = server.connect().await;
    common::script(&mut operator, "ALTER SYSTEM SET default_transaction_read_only = on").await;
    common::value::<bool>(&mut operator, "SELECT pg_reload_conf()").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let error = db.execute("DELETE FROM users", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, Reason::NotWritable), "{error}");
    common::script(&mut operator, "SET default_transaction_read_only = off").await;
    common::script(&mut operator, "ALTER SYSTEM RESET default_transaction_read_only").await;
    common::value::<bool>(&mut operator, "SELECT pg_reload_conf()").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let after = sessions().await;
    assert!(after.iter().all(|session| !before.contains(session)), "{before:?} {after:?}");
}
