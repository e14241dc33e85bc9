//! A server that allows fewer connections than the pool.
#![cfg(all(feature = "postgres", target_os = "linux"))]
#![allow(clippy::large_futures, reason = "a test may have a large stack")]

#[path = "common/postgres.rs"]
mod common;

use common::{PASSWORD, script, server, server_with};
use futures_util::future::join_all;
use strongroom::engine::Access;
use strongroom::{AsyncDatabase, Connector, ErrorKind};

#[tokio::test]
async fn calls_share_the_connections_that_the_server_allows() {
    let Some(server) = server() else { return };
    let limits = format!(
        "CREATE ROLE one LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 1;
         CREATE ROLE many LOGIN PASSWORD '{PASSWORD}';
         CREATE DATABASE two CONNECTION LIMIT 2;"
    );
    let mut admin = server.connect().await;
    for statement in limits.split_inclusive(';') {
        script(&mut admin, statement).await;
    }
    for (user, database, most) in [("one", "postgres", 1), ("many", "two", 2)] {
        let connector = server.connector().user(user).database(database);
        let db = AsyncDatabase::with_connector(connector).pool_max(4).open().await.unwrap();
        let outcomes = join_all((0..4).map(|_| db.fetch_all("SELECT pg_sleep(0.3)", ()))).await;
        for outcome in outcomes {
            outcome.unwrap();
        }
        assert_eq!(db.stats().total_opened, most, "{user}");
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn the_error_of_a_full_server_stands_in_the_troubleshooting_page() {
    let Some(server) = server_with("max_connections = 2\nsuperuser_reserved_connections = 0") else { return };
    let _both = (server.connect().await, server.connect().await);
    let error = server.connector().connect(Access::Write).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Connection && error.is_transient());
    let text = error.to_string().replace(&format!("127.0.0.1:{}", server.port), "db1.internal:5432");
    assert!(include_str!("../docs/troubleshooting.md").contains(&format!("```text\n{text}\n```")), "{text}");
}
