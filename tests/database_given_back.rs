//! When a call has answered, its connection is given back: nothing counts as in use.
#![cfg(feature = "sqlite")]

mod common;
#[path = "common/given_back.rs"]
mod given_back;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use common::{Home, Kind, with_table};
use given_back::{INSERT, idle, refused};
use strongroom::AsyncDatabase;
use strongroom::database::CheckDepth;

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

async fn call_all(db: &AsyncDatabase) {
    given_back::call_all(db).await;
    db.execute_many(INSERT, (0..300).map(|n| (if n < 200 { "1" } else { "x" },))).await.ok();
    idle(db, "execute_many that may fail");
    db.interact(|c| c.execute(INSERT, (1,))).await.unwrap();
    idle(db, "interact");
    db.read_interact(|c| c.query_row("SELECT 1", (), |row| row.get::<_, i64>(0))).await.unwrap();
    idle(db, "read_interact");
    db.try_interact(move |_| Err::<(), _>(refused())).await.unwrap_err();
    idle(db, "interact that fails");
    db.explain("SELECT n FROM t", ()).await.unwrap();
    idle(db, "explain");
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
