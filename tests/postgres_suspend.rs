//! Letting go of the connections to a server for a while.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use std::time::Duration;

use common::{server, value};
use strongroom::AsyncDatabase;
use strongroom::pool::SuspendOptions;

#[tokio::test]
async fn its_connections_are_closed_and_opened_again() {
    let Some(server) = server() else { return };
    let db = AsyncDatabase::with_connector(server.connector()).pool_max(4).open().await.unwrap();
    let mut beside = server.connect().await;
    let others =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid != pg_backend_pid()";
    db.execute_script("CREATE TABLE t (n bigint)").await.unwrap();
    let held = [db.connection().await.unwrap(), db.connection().await.unwrap()];
    drop(held);
    assert!(value::<i64>(&mut beside, others).await >= 2);
    for options in [SuspendOptions::new(), SuspendOptions::new().until_resumed()] {
        db.suspend_with(options).await.unwrap();
        // The server may take a moment to notice.
        let mut left = i64::MAX;
        for _ in 0..500 {
            left = value(&mut beside, others).await;
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(left, 0, "the server has connections left");
        db.resume();
        db.execute("INSERT INTO t VALUES ($1)", (1_i64,)).await.unwrap();
    }
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(2));
}
