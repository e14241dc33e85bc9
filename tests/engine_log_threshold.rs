//! When the log is copied again after somebody was in the way, and what is said of a copy that was none.
#![cfg(feature = "sqlite")]

mod common;

use std::sync::{Arc, Mutex};
use std::thread;

use common::{Home, Kind, eventually, secs};
use strongroom::database::{EngineEvent, Event, Observer};
use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::{AsyncDatabase, ErrorKind, rusqlite};

/// How many frames each copy of the log has left.
#[derive(Clone, Default)]
struct Left(Arc<Mutex<Vec<u32>>>);

impl Observer for Left {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Engine(EngineEvent::LogCopied { left, .. }) = event {
            self.0.lock().unwrap().push(*left);
        }
    }
}

impl Left {
    fn take(&self) -> Vec<u32> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

async fn open(home: &Home, left: &Left) -> AsyncDatabase {
    let tuning = Tuning::default().synchronous(Synchronous::Normal);
    let db = home.builder().tuning(tuning).observer(left.clone()).open().await.unwrap();
    db.execute("CREATE TABLE t (text)", ()).await.unwrap();
    db
}

/// Writes some 200 pages.
async fn write(db: &AsyncDatabase) {
    let much = "INSERT INTO t WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c LIMIT 200)
                SELECT randomblob(3900) FROM c";
    db.execute(much, ()).await.unwrap();
}

/// A reader that keeps the log from starting over.
fn reader(home: &Home) -> rusqlite::Connection {
    let reader = rusqlite::Connection::open(home.path()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    reader
}

#[tokio::test]
async fn a_log_that_somebody_has_emptied_is_copied_as_early_as_before() {
    for who in ["checkpoint()", "another process"] {
        let (home, left) = (Home::new(Kind::PlainFile), Left::default());
        let db = open(&home, &left).await;
        let long = reader(&home);
        // What is left lets the log grow on.
        let mut most = 0;
        while most < 6000 {
            write(&db).await;
            tokio::task::yield_now().await;
            most = left.take().into_iter().fold(most, u32::max);
        }
        drop(long);
        if who == "checkpoint()" {
            eventually("all of it is copied", || true).await;
            while db.checkpoint().await.unwrap().left > 0 {}
        } else {
            let other = rusqlite::Connection::open(home.path()).unwrap();
            other.busy_timeout(secs(5)).unwrap();
            let busy = || other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, i64>(0)).unwrap();
            while busy() != 0 {}
        }
        left.take();
        let mut writes = 0;
        while left.take().is_empty() {
            assert!(writes < 20, "{who}: a log of some {} frames is not copied", 200 * writes);
            write(&db).await;
            writes += 1;
            // It is copied on a thread.
            tokio::time::sleep(common::millis(20)).await;
        }
        db.close().await.unwrap();
    }
}

/// While one copies, SQLite has others neither copy nor count.
#[tokio::test]
async fn a_log_that_another_process_copies_is_not_called_empty() {
    let (home, left) = (Home::new(Kind::PlainFile), Left::default());
    let db = open(&home, &left).await;
    let long = reader(&home);
    write(&db).await;
    let path = home.path();
    // It waits for the reader, and nobody else may copy meanwhile.
    let copying = thread::spawn(move || {
        let other = rusqlite::Connection::open(path).unwrap();
        other.busy_timeout(secs(60)).unwrap();
        let copy = || {
            let answer = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
            other.query_row("PRAGMA wal_checkpoint(FULL)", (), answer).unwrap()
        };
        // Whoever looks is in its way for a moment.
        loop {
            let (busy, frames) = copy();
            if frames >= 0 {
                return busy;
            }
        }
    });
    let looking = rusqlite::Connection::open(home.path()).unwrap();
    let copies = || looking.query_row("PRAGMA wal_checkpoint", (), |row| row.get::<_, i64>(1)).unwrap() < 0;
    eventually("the other one copies", copies).await;
    left.take();
    match db.checkpoint().await {
        Ok(report) => assert!(report.pending > 100 && report.left == report.pending, "{report:?}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error}"),
    }
    for left in left.take() {
        assert!(left > 100, "observers are told of {left} frames");
    }
    drop(long);
    assert_eq!(copying.join().unwrap(), 0);
    assert_eq!(db.checkpoint().await.unwrap().left, 0);
    db.close().await.unwrap();
}
