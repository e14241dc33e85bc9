//! One database, several runtimes: those that end, that nobody drives any more, that lack something, and none at all.
#![cfg(feature = "sqlite")]

mod common;

use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use common::{Home, Kind, with_table};
use futures_util::{StreamExt as _, TryStreamExt as _};
use strongroom::database::{BackupOptions, CheckDepth, CopyRows};
use strongroom::sqlcipher::{ReplaceOptions, SalvageOptions};
use strongroom::{
    AsyncDatabase, CommandKeySource, Error, ErrorKind, FileKeySource, KeySource as _, Pool, SqlCipherConnector,
};
use tokio::runtime::{Builder, Runtime};

const INSERT: &str = "INSERT INTO t (n) VALUES ($1)";

fn threads(count: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(count).enable_all().build().unwrap()
}

fn current() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs `test` on a thread of its own, which has to end.
fn in_time(test: impl FnOnce() + Send + 'static) {
    let (ended, has_ended) = mpsc::channel();
    let running = thread::spawn(move || {
        test();
        ended.send(()).unwrap();
    });
    match has_ended.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => running.join().unwrap(),
    }
}

async fn database(home: &Home) -> AsyncDatabase {
    let db = home.builder().pool_max(4).pool_timeout(Duration::from_secs(20)).open().await.unwrap();
    with_table(&db).await;
    db
}

/// Writes in every way until the runtime ends; what becomes of it is nobody's business.
async fn scribble(db: AsyncDatabase) {
    loop {
        db.execute(INSERT, (1,)).await.ok();
        if let Ok(mut tx) = db.begin().await {
            tx.execute(INSERT, (2,)).await.ok();
            tx.commit().await.ok();
        }
        db.execute_many(INSERT, [(3,), (4,)]).await.ok();
    }
}

#[test]
fn a_runtime_that_ends_while_its_tasks_write_ends_at_once() {
    in_time(|| {
        for kind in [Kind::PlainMemory, Kind::PlainFile] {
            let home = Home::new(kind);
            for round in 0..60 {
                let runtime = threads(2);
                let db = runtime.block_on(async {
                    let db = home.builder().pool_max(3).open().await.unwrap();
                    db.execute_script("CREATE TABLE IF NOT EXISTS t (n)").await.unwrap();
                    db
                });
                for _ in 0..8 {
                    runtime.spawn(scribble(db.clone()));
                }
                thread::sleep(Duration::from_micros(200 * (round % 10)));
                drop(runtime);
            }
        }
    });
}

#[test]
fn calls_of_a_living_runtime_work_while_others_come_and_go() {
    in_time(|| {
        for kind in [Kind::PlainMemory, Kind::PlainFile, Kind::KeyedFile] {
            let home = Home::new(kind);
            let living = threads(2);
            let db = living.block_on(database(&home));
            let calls: Vec<_> = (0..4)
                .map(|_| {
                    let db = db.clone();
                    living.spawn(async move {
                        for _ in 0..60 {
                            db.execute(INSERT, (10,)).await.unwrap();
                            let mut tx = db.begin().await.unwrap();
                            tx.execute(INSERT, (11,)).await.unwrap();
                            tx.commit().await.unwrap();
                            db.fetch_all("SELECT count(*) FROM t", ()).await.unwrap();
                            db.fetch_stream("SELECT n FROM t LIMIT 3", ()).try_collect::<Vec<_>>().await.unwrap();
                        }
                    })
                })
                .collect();
            while !calls.iter().all(tokio::task::JoinHandle::is_finished) {
                let short = threads(1);
                for _ in 0..4 {
                    short.spawn(scribble(db.clone()));
                }
                thread::sleep(Duration::from_millis(3));
                drop(short);
            }
            for call in calls {
                living.block_on(call).unwrap();
            }
            let written: Option<i64> =
                living.block_on(db.fetch_value("SELECT count(*) FROM t WHERE n >= 10", ())).unwrap();
            assert_eq!(written, Some(480), "{kind:?}");
            assert!(living.block_on(db.close()).unwrap().is_clean(), "{kind:?}");
        }
    });
}

#[test]
fn a_database_opened_on_a_runtime_that_has_ended_goes_on_on_the_next() {
    in_time(|| {
        let home = Home::new(Kind::KeyedFile);
        let db = current().block_on(database(&home));
        for _ in 0..3 {
            let runtime = current();
            runtime.block_on(async {
                let calls = (0..4).map(|_| db.execute(INSERT, (1,)));
                assert!(futures_util::future::join_all(calls).await.iter().all(Result::is_ok));
                drop(db.begin().await.unwrap());
            });
        }
        let last = current();
        assert_eq!(last.block_on(db.fetch_value::<i64>("SELECT count(*) FROM t", ())).unwrap(), Some(12));
        assert!(last.block_on(db.close()).unwrap().is_clean());
    });
}

#[test]
fn a_runtime_that_nobody_drives_any_more_keeps_no_connection_from_others() {
    in_time(|| {
        for kind in [Kind::PlainMemory, Kind::PlainFile] {
            let home = Home::new(kind);
            let (idle, living) = (current(), current());
            let db = living.block_on(database(&home));
            let begun = Instant::now();
            for _ in 0..5 {
                // The last answer comes before whoever brought it is done.
                idle.block_on(async {
                    let calls = (0..5).map(|_| db.execute(INSERT, (1,)));
                    futures_util::future::join_all(calls).await;
                });
                living.block_on(db.execute(INSERT, (2,))).unwrap();
                // Put in order by a task, which does not run here.
                idle.block_on(async {
                    let mut tx = db.begin().await.unwrap();
                    tx.execute(INSERT, (3,)).await.unwrap();
                    drop(tx);
                });
                living.block_on(async { db.begin().await.unwrap().commit().await.unwrap() });
                idle.block_on(async {
                    let mut rows = db.fetch_stream("SELECT n FROM t", ());
                    rows.next().await;
                });
                living.block_on(db.execute(INSERT, (2,))).unwrap();
            }
            assert!(begun.elapsed() < Duration::from_secs(15), "somebody waited for his limit");
            assert_eq!(living.block_on(db.fetch_value::<i64>("SELECT count(*) FROM t", ())).unwrap(), Some(35));
            assert!(living.block_on(db.close()).unwrap().is_clean(), "{kind:?}");
            drop(idle);
        }
    });
}

#[test]
fn a_runtime_with_one_thread_for_blocking_work_is_enough() {
    in_time(|| {
        let home = Home::new(Kind::PlainFile);
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let db = database(&home).await;
            db.execute_many(INSERT, (0..2000).map(|n| (n,))).await.unwrap();
            let mut rows = db.fetch_stream("SELECT n FROM t", ());
            rows.next().await.unwrap().unwrap();
            // The stream has the only thread.
            db.execute(INSERT, (1,)).await.unwrap();
            db.transaction(async |tx| tx.execute(INSERT, (2,)).await).await.unwrap();
            assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().len(), 1999);
            assert!(db.close().await.unwrap().is_clean());
        });
    });
}

#[test]
fn calls_from_every_thread_for_blocking_work_end() {
    in_time(|| {
        let home = Home::new(Kind::PlainFile);
        let runtime =
            Builder::new_multi_thread().worker_threads(1).enable_all().max_blocking_threads(2).build().unwrap();
        runtime.block_on(async {
            let db = database(&home).await;
            let calls = (0..4).map(|_| {
                let (db, runtime) = (db.clone(), tokio::runtime::Handle::current());
                tokio::task::spawn_blocking(move || {
                    runtime.block_on(db.transaction(async |tx| tx.execute(INSERT, (1,)).await))
                })
            });
            for call in futures_util::future::join_all(calls).await {
                call.unwrap().unwrap();
            }
            assert!(db.close().await.unwrap().is_clean());
        });
    });
}

fn is_refused(error: &Error, missing: &str) {
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains(missing), "{error}");
}

/// Runs a future on this thread, outside of any runtime.
fn outside<T>(work: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
        thread::park();
    }
}

/// Every call of a database and a pool.
async fn call_all(db: &AsyncDatabase, missing: &str) {
    is_refused(&db.connect().await.unwrap_err(), missing);
    is_refused(&db.execute(INSERT, (1,)).await.unwrap_err(), missing);
    is_refused(&db.fetch_all("SELECT 1", ()).await.unwrap_err(), missing);
    is_refused(&db.fetch_stream("SELECT 1", ()).try_next().await.unwrap_err(), missing);
    is_refused(&db.execute_many(INSERT, [(1,)]).await.unwrap_err(), missing);
    is_refused(&db.execute_script("SELECT 1").await.unwrap_err(), missing);
    is_refused(&db.table_exists("t").await.unwrap_err(), missing);
    is_refused(&db.begin().await.unwrap_err(), missing);
    is_refused(&db.transaction(async |tx| tx.execute(INSERT, (1,)).await).await.unwrap_err(), missing);
    is_refused(&db.connection().await.unwrap_err(), missing);
    is_refused(&db.read_connection().await.unwrap_err(), missing);
    is_refused(&db.interact(|c| c.execute("SELECT 1", ())).await.unwrap_err(), missing);
    let limited = db.with_timeout(Duration::from_secs(1));
    is_refused(&limited.execute(INSERT, (1,)).await.unwrap_err(), missing);
    is_refused(&limited.fetch_all("SELECT 1", ()).await.unwrap_err(), missing);
    is_refused(&limited.begin().await.unwrap_err(), missing);
    is_refused(&db.try_transaction(async |tx| tx.execute(INSERT, (1,)).await).await.unwrap_err(), missing);
    is_refused(&db.check(CheckDepth::Quick).await.unwrap_err(), missing);
    is_refused(&db.explain("SELECT 1", ()).await.unwrap_err(), missing);
    is_refused(&db.checkpoint().await.unwrap_err(), missing);
    is_refused(&db.vacuum().await.unwrap_err(), missing);
    is_refused(&db.optimize().await.unwrap_err(), missing);
    is_refused(&db.sizes().await.unwrap_err(), missing);
    is_refused(&db.changes().await.unwrap_err(), missing);
    is_refused(&db.watch("SELECT 1", ()).next().await.unwrap().unwrap_err(), missing);
    is_refused(&db.backup_to("no-such-copy.db").await.unwrap_err(), missing);
    let under = BackupOptions::new().key(FileKeySource::new("no-such-key"));
    is_refused(&db.backup_with("no-such-copy.db", under).await.unwrap_err(), missing);
    is_refused(&db.rekey(FileKeySource::new("no-such-key")).await.unwrap_err(), missing);
    is_refused(&db.copy_rows(db, CopyRows::of(["t"])).await.unwrap_err(), missing);
    is_refused(&db.suspend().await.unwrap_err(), missing);
    is_refused(&db.close().await.unwrap_err(), missing);
}

#[test]
fn copies_and_key_sources_outside_of_a_runtime_say_so_too() {
    let missing = "outside of a tokio runtime";
    let home = Home::new(Kind::PlainFile);
    let builder = || home.builder().key(FileKeySource::new("no-such-key"));
    is_refused(&outside(builder().restore_from("no-such-copy.db", ReplaceOptions::new())).unwrap_err(), missing);
    is_refused(&outside(builder().encrypt(ReplaceOptions::new())).unwrap_err(), missing);
    is_refused(&outside(builder().decrypt(ReplaceOptions::new())).unwrap_err(), missing);
    is_refused(&outside(builder().salvage_to("no-such-copy.db", SalvageOptions::new())).unwrap_err(), missing);
    is_refused(&outside(FileKeySource::new("no-such-key").resolve()).unwrap_err(), missing);
    is_refused(&outside(CommandKeySource::new("true").resolve()).unwrap_err(), missing);
    #[cfg(feature = "sops")]
    is_refused(&outside(strongroom::SopsKeySource::at("no-such-file.yml").resolve()).unwrap_err(), missing);
}

#[test]
fn a_call_outside_of_a_runtime_is_an_error_that_says_so() {
    let missing = "outside of a tokio runtime";
    for kind in [Kind::PlainMemory, Kind::PlainFile] {
        let home = Home::new(kind);
        is_refused(&outside(home.builder().open()).unwrap_err(), missing);
        outside(call_all(&home.builder().build(), missing));
        // Also where everything is open, and nothing would have to wait.
        let runtime = current();
        let db = runtime.block_on(database(&home));
        runtime.block_on(db.fetch_all("SELECT n FROM t", ())).unwrap();
        outside(call_all(&db, missing));
        runtime.block_on(db.execute(INSERT, (1,))).unwrap();
        assert!(runtime.block_on(db.close()).unwrap().is_clean());
    }
    let pool = Pool::builder(SqlCipherConnector::new(":memory:")).build();
    is_refused(&outside(pool.get()).unwrap_err(), missing);
    is_refused(&outside(pool.warm()).unwrap_err(), missing);
    let runtime = current();
    let lent = runtime.block_on(pool.get()).unwrap();
    let report = outside(pool.close(Duration::from_secs(1)));
    is_refused(&report.errors[0], missing);
    assert_eq!(report.abandoned, 1, "it was not waited for");
    runtime.block_on(async { drop(lent) });
}

#[test]
fn a_runtime_without_timers_is_an_error_that_says_so() {
    let home = Home::new(Kind::PlainFile);
    let bare = Builder::new_current_thread().build().unwrap();
    is_refused(&bare.block_on(home.builder().open()).unwrap_err(), "timers");
    bare.block_on(call_all(&home.builder().build(), "timers"));
}

#[test]
fn guards_may_be_dropped_outside_of_a_runtime() {
    in_time(|| {
        let home = Home::new(Kind::PlainFile);
        let runtime = threads(1);
        let db = runtime.block_on(database(&home));
        let (tx, rows) = runtime.block_on(async {
            let mut tx = db.begin().await.unwrap();
            tx.execute(INSERT, (1,)).await.unwrap();
            let mut rows = db.fetch_stream("SELECT 1 UNION SELECT 2", ());
            rows.next().await;
            (tx, rows)
        });
        drop((tx, rows));
        assert_eq!(runtime.block_on(db.fetch_value::<i64>("SELECT count(*) FROM t", ())).unwrap(), Some(0));
        runtime.block_on(db.execute(INSERT, (1,))).unwrap();
        // After the end of the runtime, too.
        let guard = runtime.block_on(db.begin()).unwrap();
        drop(runtime);
        drop(guard);
        let next = current();
        next.block_on(db.execute(INSERT, (1,))).unwrap();
        assert!(next.block_on(db.close()).unwrap().is_clean());
    });
}
