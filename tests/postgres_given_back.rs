//! On PostgreSQL, too: when a call has answered, its connection is given back.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use common::server;
use futures_util::{StreamExt as _, TryStreamExt as _};
use strongroom::database::TransactionOptions;
use strongroom::postgres::PostgresConnector;
use strongroom::{AsyncDatabase, Error, ErrorKind};

const INSERT: &str = "INSERT INTO t (n) VALUES ($1)";
const UPSERT: &str = "INSERT INTO t (n) VALUES ($1) ON CONFLICT DO NOTHING";

fn idle(db: &AsyncDatabase<PostgresConnector>, after: &str) {
    let stats = db.stats();
    assert_eq!((stats.active_connections, stats.waiting), (0, 0), "after {after}: {stats:?}");
    assert_eq!(stats.total_acquired, stats.total_released, "after {after}: {stats:?}");
}

async fn call_all(db: &AsyncDatabase<PostgresConnector>) {
    db.execute(INSERT, (1,)).await.unwrap();
    idle(db, "execute");
    db.execute("nonsense", ()).await.unwrap_err();
    idle(db, "a statement that fails");
    db.fetch_one("SELECT n FROM t", ()).await.unwrap();
    idle(db, "fetch_one");
    db.fetch_all("SELECT n FROM t", ()).await.unwrap();
    idle(db, "fetch_all");
    db.fetch_all("INSERT INTO t (n) VALUES (1) RETURNING n", ()).await.unwrap();
    idle(db, "a write with rows");
    for sql in [INSERT, UPSERT] {
        db.execute_many(sql, (0..300).map(|n| (n,))).await.unwrap();
        idle(db, "execute_many");
        db.execute_many(sql, (0..300).map(|n| ((n < 200).then_some(n),))).await.unwrap_err();
        idle(db, "execute_many that fails");
    }
    db.execute_script("DELETE FROM t WHERE n > 100; SELECT 1").await.unwrap();
    idle(db, "execute_script");
    db.transaction(async |tx| tx.execute(INSERT, (1,)).await).await.unwrap();
    idle(db, "transaction");
    let refused = Error::new(ErrorKind::Query, "no");
    db.transaction(async move |tx| tx.execute(INSERT, (1,)).await.and(Err::<(), _>(refused))).await.unwrap_err();
    idle(db, "a transaction that is rolled back");
    db.transaction_with(TransactionOptions::new(), async |tx| tx.execute(INSERT, (1,)).await).await.unwrap();
    idle(db, "transaction_with");
    let mut tx = db.begin().await.unwrap();
    tx.execute(INSERT, (1,)).await.unwrap();
    tx.commit().await.unwrap();
    idle(db, "commit");
    db.begin().await.unwrap().rollback().await.unwrap();
    idle(db, "rollback");
    db.fetch_stream("SELECT n FROM t", ()).try_collect::<Vec<_>>().await.unwrap();
    idle(db, "a stream");
    let mut rows = db.fetch_stream("SELECT n FROM t LIMIT 2", ());
    while rows.next().await.is_some() {}
    idle(db, "a stream that has ended and is still there");
    drop(rows);
    db.fetch_stream("SELECT nothing", ()).try_collect::<Vec<_>>().await.unwrap_err();
    idle(db, "a stream that fails");
    db.table_exists("t").await.unwrap();
    idle(db, "table_exists");
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
