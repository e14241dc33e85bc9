//! On PostgreSQL, too: when a call has answered, its connection is given back.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;
#[path = "common/given_back.rs"]
mod given_back;

use common::server;
use given_back::{INSERT, idle};
use strongroom::AsyncDatabase;
use strongroom::postgres::PostgresConnector;

const UPSERT: &str = "INSERT INTO t (n) VALUES ($1) ON CONFLICT DO NOTHING";

async fn call_all(db: &AsyncDatabase<PostgresConnector>) {
    given_back::call_all(db).await;
    for sql in [INSERT, UPSERT] {
        db.execute_many(sql, (0..300).map(|n| (n,))).await.unwrap();
        idle(db, "execute_many");
        db.execute_many(sql, (0..300).map(|n| ((n < 200).then_some(n),))).await.unwrap_err();
        idle(db, "execute_many that fails");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_in_use_after_any_call_has_answered() {
    let Some(server) = server() else { return };
    for cached in [100, 0] {
        let connector = server.connector().statement_cache(cached);
        let db = AsyncDatabase::with_connector(connector).pool_max(3).open().await.unwrap();
        db.execute_script("DROP TABLE IF EXISTS t; CREATE TABLE t (n bigint NOT NULL)").await.unwrap();
        for _round in 0..10 {
            call_all(&db).await;
        }
        for _round in 0..30 {
            let calls = (0..8).map(|number| {
                let db = db.clone();
                tokio::spawn(async move {
                    match number % 4 {
                        0 => db.transaction(async |tx| tx.execute(INSERT, (1,)).await).await.map(drop),
                        1 => db.execute_many(INSERT, (0..50).map(|n| (n,))).await.map(drop),
                        2 => db.fetch_all("SELECT n FROM t LIMIT 5", ()).await.map(drop),
                        _ => db.execute(INSERT, (1,)).await.map(drop),
                    }
                })
            });
            for call in futures_util::future::join_all(calls.collect::<Vec<_>>()).await {
                call.unwrap().unwrap();
            }
            idle(&db, "all");
        }
        db.close().await.unwrap();
    }
}
