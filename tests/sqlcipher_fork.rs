//! A child of fork must not use the connections of its parent; it is told so, and the parent notices nothing.
#![cfg(all(feature = "sqlite", unix))]
#![allow(unsafe_code, reason = "there is no safe fork")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use common::{Home, Kind, count, kinds, millis, open_files, with_table};
use futures_util::TryStreamExt;
use strongroom::{AsyncDatabase, Error, ErrorKind, Reason};

/// One at a time: a child inherits what all threads have open.
static ALONE: Mutex<()> = Mutex::new(());

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs `child` in a child process and says how it ended.
fn in_child(child: impl FnOnce()) -> i32 {
    // The parent's other threads come to rest: a lock that one of them held would be held in the child for ever.
    std::thread::sleep(millis(200));
    fork(child)
}

/// The same while others are at work.
fn fork(child: impl FnOnce()) -> i32 {
    // SAFETY: the child runs on one thread, does what a careless program would do, and leaves without cleaning up.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: only sets a timer, after which the child is killed: a child that hangs has failed.
            unsafe { libc::alarm(20) };
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            // SAFETY: ends the child without running what the parent has registered.
            unsafe { libc::_exit(i32::from(outcome.is_err())) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: waits for the child made above and writes one integer.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            status
        }
    }
}

fn is_refused(error: &Error) {
    assert_eq!(kinds(error), (ErrorKind::Connection, Reason::Forked), "{error}");
    assert!(error.to_string().contains("forked") && !error.is_transient(), "{error}");
}

/// Every call of an inherited handle, and its end.
async fn misuse(db: AsyncDatabase) {
    is_refused(&db.execute("INSERT INTO t (n) VALUES (2)", ()).await.unwrap_err());
    is_refused(&db.fetch_all("SELECT * FROM t", ()).await.unwrap_err());
    is_refused(&db.fetch_stream("SELECT * FROM t", ()).try_next().await.unwrap_err());
    is_refused(&db.execute_script("DELETE FROM t").await.unwrap_err());
    is_refused(&db.begin().await.unwrap_err());
    match db.connection().await {
        Ok(mut inherited) => is_refused(&inherited.execute("DELETE FROM t", ()).await.unwrap_err()),
        Err(error) => is_refused(&error),
    }
    is_refused(&db.interact(|c| c.execute("DELETE FROM t", ())).await.unwrap_err());
    is_refused(&db.execute_many("INSERT INTO t (n) VALUES (?1)", vec![(1,)]).await.unwrap_err());
    is_refused(&db.suspend().await.unwrap_err());
    is_refused(&db.close().await.unwrap_err());
    drop(db);
}

#[test]
fn a_child_is_refused_and_the_parent_goes_on() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let running = runtime();
        let db = running.block_on(async {
            let db = home.open().await;
            with_table(&db).await;
            db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
            assert_eq!(count(&db).await, 1);
            db
        });
        let inherited = db.clone();
        let status = in_child(|| {
            runtime().block_on(misuse(inherited));
            // SQLite takes the parent's locks for this process's own, so a file is not safe to open either.
            if kind.is_file() {
                let opening = runtime();
                is_refused(&opening.block_on(home.builder().open()).unwrap_err());
                // No thread was asked for, so there is none that could wait for what the parent's had at the fork.
                drop(opening);
            }
        });
        assert_eq!(status, 0, "{kind:?}: the child failed");
        running.block_on(async {
            assert_eq!(count(&db).await, 1, "{kind:?}");
            db.execute("INSERT INTO t (n) VALUES (4)", ()).await.unwrap();
            assert_eq!(count(&db).await, 2);
            let check: Option<String> = db.fetch_value("PRAGMA integrity_check", ()).await.unwrap();
            assert_eq!(check.as_deref(), Some("ok"), "{kind:?}");
            assert!(db.close().await.unwrap().is_clean(), "{kind:?}");
        });
    }
}

#[test]
fn a_child_that_lets_go_of_an_inherited_database_closes_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let home = Home::new(Kind::KeyedFile);
    let running = runtime();
    let mut db = Some(running.block_on(async {
        let db = home.open().await;
        with_table(&db).await;
        db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
        assert_eq!(count(&db).await, 1);
        db
    }));
    let open = open_files(&home.path());
    assert!(open > 0);
    let status = in_child(|| {
        runtime().block_on(async {
            drop(db.take());
            // What is dropped is put away by a task.
            tokio::time::sleep(millis(100)).await;
        });
        assert_eq!(open_files(&home.path()), open, "closing is the parent's");
    });
    assert_eq!(status, 0);
    let db = db.expect("only the child has taken it");
    assert_eq!(running.block_on(count(&db)), 1);
    running.block_on(db.close()).unwrap();
    assert_eq!(open_files(&home.path()), 0);
}

/// Threads that open, write, read and close databases of their own, and use `shared`, until `stop`.
fn at_work(shared: &AsyncDatabase, stop: &Arc<AtomicBool>) -> Vec<std::thread::JoinHandle<()>> {
    (0..4)
        .map(|thread| {
            let (shared, stop) = (shared.clone(), stop.clone());
            std::thread::spawn(move || {
                let running = runtime();
                while !stop.load(Ordering::Relaxed) {
                    running.block_on(async {
                        let home = Home::new(Kind::KeyedFile);
                        let own = if thread % 2 == 0 { shared.clone() } else { home.open().await };
                        own.execute("CREATE TABLE IF NOT EXISTS t (n)", ()).await.unwrap();
                        for _ in 0..20 {
                            own.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
                            count(&own).await;
                        }
                        if thread % 2 == 1 {
                            own.close().await.unwrap();
                        }
                    });
                }
            })
        })
        .collect()
}

#[test]
fn a_child_of_a_process_at_work_is_refused_and_ends() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let home = Home::new(Kind::KeyedFile);
    let running = runtime();
    let db = running.block_on(async {
        let db = home.open().await;
        with_table(&db).await;
        db
    });
    let stop = Arc::new(AtomicBool::new(false));
    let threads = at_work(&db, &stop);
    let rounds = std::env::var("STRONGROOM_FORKS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    let ends: Vec<i32> = (0..rounds)
        .map(|_| {
            let inherited = db.clone();
            fork(|| {
                let own = runtime();
                own.block_on(misuse(inherited));
                is_refused(&own.block_on(home.builder().open()).unwrap_err());
                drop(own);
            })
        })
        .collect();
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    running.block_on(db.close()).unwrap();
    assert!(ends.iter().all(|end| *end == 0), "a child failed or hung: {ends:?}");
}

/// The thread that ends kept transactions is the parent's. There, all files of tests are one program, and others have databases
/// open at the fork, so that their child may open none.
#[cfg(not(target_env = "musl"))]
#[test]
fn a_child_that_opens_a_database_of_its_own_holds_no_log_for_ever() {
    use strongroom::rusqlite::Connection as Native;

    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let home = Home::new(Kind::PlainFile);
    runtime().block_on(async {
        let db = home.open().await;
        with_table(&db).await;
        db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
        for _ in 0..10 {
            assert_eq!(count(&db).await, 1);
        }
        db.close().await.unwrap();
    });
    let status = in_child(|| {
        runtime().block_on(async {
            let db = home.open().await;
            db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
            for _ in 0..10 {
                assert_eq!(count(&db).await, 2);
            }
            let other = Native::open(home.path()).unwrap();
            let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
            common::eventually("nobody reads any more", || {
                other.query_row(truncate, (), |row| row.get::<_, i64>(0)).unwrap() == 0
            })
            .await;
        });
    });
    assert_eq!(status, 0);
}
