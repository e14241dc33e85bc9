//! Files that the `on_connect` hook attaches: they are read as they are, locked by nobody at rest, and their logs stay short.
#![cfg(feature = "sqlite")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use common::{Home, Kind, millis, with_table};
use strongroom::sqlcipher::{Checkpoints, Synchronous, Tuning};
use strongroom::{AsyncDatabase, rusqlite};

/// Another file with a table of one row, in this journal mode.
fn other_file(home: &Home, mode: &str) -> PathBuf {
    let path = home.directory.path().join("other.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.query_row(&format!("PRAGMA journal_mode = {mode}"), (), |_| Ok(())).unwrap();
    other.execute_batch("CREATE TABLE o (a); INSERT INTO o VALUES (0)").unwrap();
    path
}

async fn open(home: &Home, other: &Path, tuning: Tuning) -> AsyncDatabase {
    let other = other.to_str().unwrap().to_owned();
    let builder = home.builder().tuning(tuning.kept_snapshots(true).inline_reads(true)).on_connect(move |connection| {
        let other = other.clone();
        Box::pin(connection.interact(move |c| c.execute("ATTACH $1 AS other", [other]).map(drop)))
    });
    let db = builder.open().await.unwrap();
    with_table(&db).await;
    db
}

const READ: &str = "SELECT a FROM other.o";

#[tokio::test]
async fn what_was_written_to_an_attached_file_is_read_at_once() {
    for mode in ["WAL", "DELETE"] {
        let home = Home::new(Kind::PlainFile);
        let db = open(&home, &other_file(&home, mode), Tuning::default()).await;
        for a in 1..100 {
            for _ in 0..3 {
                let before: Option<i64> = db.fetch_value(READ, ()).await.unwrap();
                assert_eq!(before, Some(a - 1), "{mode}");
            }
            db.execute("UPDATE other.o SET a = $1", (a,)).await.unwrap();
            let after: Option<i64> = db.fetch_value(READ, ()).await.unwrap();
            assert_eq!(after, Some(a), "{mode}: an old state was read");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn constant_reads_of_an_attached_file_lock_no_writer_out() {
    let home = Home::new(Kind::PlainFile);
    let db = open(&home, &other_file(&home, "DELETE"), Tuning::default().busy_timeout(millis(500))).await;
    let stop = Arc::new(AtomicBool::new(false));
    let reading = tokio::spawn({
        let (db, stop) = (db.clone(), Arc::clone(&stop));
        async move {
            while !stop.load(SeqCst) {
                // Leaves moments between two reads, as a program does.
                db.fetch_value::<i64>(READ, ()).await.unwrap();
                tokio::time::sleep(millis(1)).await;
            }
        }
    });
    for a in 1..20 {
        let outcome = db.execute("UPDATE other.o SET a = $1", (a,)).await;
        assert!(outcome.is_ok(), "number {a}: {outcome:?}");
    }
    stop.store(true, SeqCst);
    reading.await.unwrap();
}

#[tokio::test]
async fn the_log_of_an_attached_file_stays_short() {
    for checkpoints in [Checkpoints::Background, Checkpoints::AtCommit] {
        let home = Home::new(Kind::PlainFile);
        let other = other_file(&home, "WAL");
        let tuning = Tuning::default().synchronous(Synchronous::Normal).checkpoints(checkpoints);
        let db = open(&home, &other, tuning).await;
        let much = "INSERT INTO other.o WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c LIMIT 200)
                    SELECT randomblob(3900) FROM c";
        for _ in 0..40 {
            db.execute(much, ()).await.unwrap();
        }
        let log = other.with_file_name("other.db-wal").metadata().unwrap().len();
        assert!(log < 10 << 20, "{checkpoints:?}: {log} bytes of log");
        db.close().await.unwrap();
    }
}
