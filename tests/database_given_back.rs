//! When a call has answered, its connection is given back: nothing counts as in use.
#![cfg(feature = "sqlite")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use common::{Home, Kind, with_table};
use futures_util::{StreamExt as _, TryStreamExt as _};
use strongroom::database::{CheckDepth, TransactionOptions};
use strongroom::{AsyncDatabase, Error, ErrorKind};

const INSERT: &str = "INSERT INTO t (n) VALUES ($1)";

/// Threads that take the processors from everybody else, until this is dropped.
struct Busy(Arc<AtomicBool>, Vec<thread::JoinHandle<()>>);

impl Busy {
    fn begin() -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let spin = |ends: Arc<AtomicBool>| {
            move || {
                while !ends.load(Relaxed) {
                    std::hint::spin_loop();
                }
            }
        };
        let threads = (0..4).map(|_| thread::spawn(spin(Arc::clone(&ends)))).collect();
        Self(ends, threads)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        self.1.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

fn idle(db: &AsyncDatabase, after: &str) {
    let stats = db.stats();
    assert_eq!((stats.active_connections, stats.waiting), (0, 0), "after {after}: {stats:?}");
    assert_eq!(stats.total_acquired, stats.total_released, "after {after}: {stats:?}");
}

async fn call_all(db: &AsyncDatabase) {
    let own = || Error::new(ErrorKind::Query, "no");
    db.execute(INSERT, (1,)).await.unwrap();
    idle(db, "execute");
    db.execute("nonsense", ()).await.unwrap_err();
    idle(db, "a write that fails");
    db.fetch_one("SELECT n FROM t", ()).await.unwrap();
    idle(db, "fetch_one");
    db.fetch_all("INSERT INTO t (n) VALUES (1) RETURNING n", ()).await.unwrap();
    idle(db, "a write with rows");
    db.execute_many(INSERT, (0..300).map(|n| (n,))).await.unwrap();
    idle(db, "execute_many");
    db.execute_many(INSERT, (0..300).map(|n| (if n < 200 { "1" } else { "x" },))).await.ok();
    idle(db, "execute_many that may fail");
    db.execute_script("DELETE FROM t WHERE n > 100; SELECT 1").await.unwrap();
    idle(db, "execute_script");
    db.transaction(async |tx| tx.execute(INSERT, (1,)).await).await.unwrap();
    idle(db, "transaction");
    db.transaction(async |tx| tx.execute(INSERT, (1,)).await.and(Err::<(), _>(own()))).await.unwrap_err();
    idle(db, "a transaction that is rolled back");
    db.transaction_with(TransactionOptions::new(), async |tx| tx.execute(INSERT, (1,)).await).await.unwrap();
    idle(db, "transaction_with");
    let mut tx = db.begin().await.unwrap();
    tx.execute(INSERT, (1,)).await.unwrap();
    tx.commit().await.unwrap();
    idle(db, "commit");
    let mut tx = db.begin().await.unwrap();
    tx.execute(INSERT, (1,)).await.unwrap();
    tx.rollback().await.unwrap();
    idle(db, "rollback");
    db.fetch_stream("SELECT n FROM t", ()).try_collect::<Vec<_>>().await.unwrap();
    idle(db, "a stream");
    let mut rows = db.fetch_stream("SELECT n FROM t LIMIT 2", ());
    while rows.next().await.is_some() {}
    idle(db, "a stream that has ended and is still there");
    drop(rows);
    db.fetch_stream("SELECT nothing", ()).try_collect::<Vec<_>>().await.unwrap_err();
    idle(db, "a stream that fails");
    db.interact(|c| c.execute(INSERT, (1,))).await.unwrap();
    idle(db, "interact");
    db.read_interact(|c| c.query_row("SELECT 1", (), |row| row.get::<_, i64>(0))).await.unwrap();
    idle(db, "read_interact");
    db.try_interact(move |_| Err::<(), _>(own())).await.unwrap_err();
    idle(db, "interact that fails");
    db.explain("SELECT n FROM t", ()).await.unwrap();
    idle(db, "explain");
    db.table_exists("t").await.unwrap();
    idle(db, "table_exists");
    db.optimize().await.unwrap();
    idle(db, "optimize");
    db.checkpoint().await.ok();
    idle(db, "checkpoint");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_in_use_after_any_call_has_answered() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.builder().pool_max(3).open().await.unwrap();
        with_table(&db).await;
        let busy = Busy::begin();
        for _round in 0..12 {
            call_all(&db).await;
        }
        drop(busy);
        assert!(db.check(CheckDepth::Quick).await.unwrap().is_ok());
        idle(&db, "check");
        if kind.is_file() {
            db.backup_to(home.directory.path().join("copy.db")).await.unwrap();
            idle(&db, "backup_to");
        }
        db.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_in_use_after_writes_that_went_together_have_answered() {
    for kind in [Kind::PlainFile, Kind::KeyedFile] {
        let home = Home::new(kind);
        let db = home.builder().pool_max(3).open().await.unwrap();
        with_table(&db).await;
        for _round in 0..40 {
            let calls = (0..8).map(|number| {
                let db = db.clone();
                tokio::spawn(async move {
                    match number % 4 {
                        0 => db.transaction(async |tx| tx.execute(INSERT, (1,)).await).await.map(drop),
                        1 => db.execute_many(INSERT, (0..50).map(|n| (n,))).await.map(drop),
                        2 => db.interact(|c| c.execute(INSERT, (1,))).await.map(drop),
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
