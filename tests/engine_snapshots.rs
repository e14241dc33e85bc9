//! Kept read transactions: what they see, and whom they must not hold up.
#![cfg(feature = "sqlite")]

use std::path::Path;
use std::time::{Duration, Instant};

use strongroom::rusqlite::functions::FunctionFlags;
use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::{AsyncDatabase, Connection, ErrorKind, rusqlite};

async fn open(path: &Path) -> AsyncDatabase {
    let db = AsyncDatabase::builder(path).tuning(fast()).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1)").await.unwrap();
    db
}

fn fast() -> Tuning {
    Tuning::default().synchronous(Synchronous::Normal).inline_reads(true).kept_snapshots(true)
}

async fn value(db: &AsyncDatabase) -> i64 {
    db.fetch_value("SELECT a FROM t", ()).await.unwrap().unwrap()
}

/// Cuts the log back from outside; true if nobody was in the way.
fn truncates(path: &Path) -> bool {
    let other = rusqlite::Connection::open(path).unwrap();
    other.busy_timeout(Duration::ZERO).unwrap();
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, i64>(0)).unwrap() == 0
}

#[tokio::test(flavor = "current_thread")]
async fn a_commit_of_another_process_is_seen_by_the_next_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let db = open(&path).await;
    let other = rusqlite::Connection::open(&path).unwrap();
    for expected in 2..200 {
        value(&db).await;
        other.execute("UPDATE t SET a = ?1", [expected]).unwrap();
        assert_eq!(value(&db).await, expected);
    }
}

/// The statements are new to the reader, which still has the snapshot of the read before.
#[tokio::test(flavor = "current_thread")]
async fn what_was_created_after_a_read_is_found_by_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let db = open(&directory.path().join("a.db")).await;
    for n in 0..50 {
        value(&db).await;
        db.fetch_all(&format!("CREATE TABLE w{n} AS SELECT * FROM t"), ()).await.unwrap();
        assert_eq!(db.fetch_value::<i64>(&format!("SELECT a FROM w{n}"), ()).await.unwrap(), Some(1));
        value(&db).await;
        db.execute(&format!("ALTER TABLE w{n} ADD COLUMN more"), ()).await.unwrap();
        db.fetch_all(&format!("SELECT more FROM w{n}"), ()).await.unwrap();
        value(&db).await;
        db.fetch_all(&format!("CREATE INDEX i{n} ON w{n} (more)"), ()).await.unwrap();
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_kept_transaction_ends_although_the_runtime_is_blocked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let db = open(&path).await;
    for _ in 0..20 {
        value(&db).await;
        db.execute("UPDATE t SET a = a + 1", ()).await.unwrap();
        value(&db).await;
        // No await from here on: only a thread of its own can end the transaction.
        let patience = Instant::now() + Duration::from_secs(5);
        while !truncates(&path) {
            assert!(Instant::now() < patience, "a reader stays in the log");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_the_file_is_not_held_up_by_constant_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let db = open(&path).await;
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                loop {
                    value(&db).await;
                }
            })
        })
        .collect();
    for sql in ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_checkpoint(RESTART)"].repeat(10) {
        db.execute("UPDATE t SET a = a + 1", ()).await.unwrap();
        let began = Instant::now();
        db.execute(sql, ()).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(4), "{sql} waited for a reader until its patience ended");
    }
    for reader in readers {
        reader.abort();
    }
    assert!(db.close().await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_short_under_constant_reads_and_writes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let db = open(&path).await;
    db.execute_script("CREATE TABLE log (text TEXT)").await.unwrap();
    let reader = {
        let db = db.clone();
        tokio::spawn(async move {
            loop {
                value(&db).await;
            }
        })
    };
    for _ in 0..6000 {
        db.execute("INSERT INTO log VALUES ($1)", ("x".repeat(2000),)).await.unwrap();
    }
    reader.abort();
    let log = std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
    // SQLite checkpoints at 1000 pages of 4 KiB; every insert writes two or three.
    assert!(log < 20 << 20, "the log has grown to {log} bytes");
}

#[tokio::test(flavor = "current_thread")]
async fn a_change_of_the_schema_is_seen_by_the_next_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let db = open(&path).await;
    for round in 0..20 {
        let before = db.fetch_all("SELECT * FROM t", ()).await.unwrap();
        db.execute_script(&format!("ALTER TABLE t ADD COLUMN c{round}")).await.unwrap();
        let after = db.fetch_all("SELECT * FROM t", ()).await.unwrap();
        assert_eq!(after.columns().len(), before.columns().len() + 1);
    }
}

/// Statements that control a session leave nothing prepared, so the next one is prepared by us instead of by SQLite.
#[tokio::test(flavor = "current_thread")]
async fn a_change_of_the_schema_is_seen_by_a_statement_that_was_put_away() {
    let directory = tempfile::tempdir().unwrap();
    let db = open(&directory.path().join("a.db")).await;
    let mut raw = db.connection().await.unwrap();
    let before = raw.fetch_all("SELECT * FROM t", ()).await.unwrap();
    raw.execute("ALTER TABLE t ADD COLUMN more", ()).await.unwrap();
    raw.execute("PRAGMA foreign_keys = ON", ()).await.unwrap();
    let after = raw.fetch_all("SELECT * FROM t", ()).await.unwrap();
    assert_eq!(after.columns().len(), before.columns().len() + 1);
}

#[tokio::test(flavor = "current_thread")]
async fn the_native_connection_of_a_reader_is_in_no_transaction() {
    let directory = tempfile::tempdir().unwrap();
    let db = open(&directory.path().join("a.db")).await;
    value(&db).await;
    let mut reader = db.read_connection().await.unwrap();
    assert_eq!(reader.fetch_value::<i64>("SELECT a FROM t", ()).await.unwrap(), Some(1));
    assert!(reader.native().is_autocommit());
    drop(reader);
    assert_eq!(value(&db).await, 1);
}

#[tokio::test(flavor = "current_thread")]
async fn a_connection_that_leaves_the_log_asks_it_nothing_any_more() {
    for plain in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let db = open(&path).await;
        let mut raw = db.connection().await.unwrap();
        // SQLite unmaps the index of the log with this.
        let leave = "PRAGMA journal_mode = DELETE";
        let left = if plain { raw.fetch_all(leave, ()).await.map(drop) } else { raw.execute_script(leave).await };
        left.unwrap();
        for a in 2..20 {
            raw.execute("UPDATE t SET a = $1", (a,)).await.unwrap();
            assert_eq!(raw.fetch_value::<i64>("SELECT a FROM t", ()).await.unwrap(), Some(a));
        }
        drop(raw);
        assert_eq!(value(&db).await, 19);
        db.close().await.unwrap();
    }
}

#[tokio::test(flavor = "current_thread")]
async fn transactions_are_kept_again_once_the_file_was_changed_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let db = open(&directory.path().join("a.db")).await;
    for _ in 0..3 {
        db.execute("VACUUM", ()).await.unwrap();
        let before = db.engine_stats().snapshot_hits;
        for _ in 0..200 {
            value(&db).await;
        }
        assert!(db.engine_stats().snapshot_hits > before, "no read used the transaction of the one before");
    }
}

/// Each reader is known by itself, whichever came first.
#[tokio::test(flavor = "current_thread")]
async fn what_any_of_several_readers_keeps_ends_soon() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let db = open(&path).await;
    let several = [db.read_connection().await.unwrap(), db.read_connection().await.unwrap()];
    for reader in several {
        drop(reader);
        value(&db).await;
    }
    let held = db.read_connection().await.unwrap();
    value(&db).await;
    drop(held);
    let until = Instant::now() + Duration::from_secs(10);
    while !truncates(&path) {
        assert!(Instant::now() < until, "a transaction is kept for good");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whoever sets a connection up by hand gives it back as a connection like all others.
#[tokio::test(flavor = "current_thread")]
async fn what_a_reader_keeps_that_was_set_up_natively_ends_soon_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let builder = AsyncDatabase::builder(&path).tuning(fast()).on_connect(|connection| {
        let set = connection.native().create_scalar_function("one", 0, FunctionFlags::SQLITE_UTF8, |_| Ok(1));
        Box::pin(async move { set.map_err(|error| strongroom::Error::new(ErrorKind::Config, error.to_string())) })
    });
    let db = builder.open().await.unwrap();
    db.execute_script("CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1)").await.unwrap();
    for _ in 0..3 {
        let kept = db.engine_stats().snapshot_hits;
        value(&db).await;
        for _ in 0..200 {
            value(&db).await;
        }
        assert!(db.engine_stats().snapshot_hits > kept, "nothing is kept at all");
        let until = Instant::now() + Duration::from_secs(10);
        while !truncates(&path) {
            assert!(Instant::now() < until, "a transaction is kept for good");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        value(&db).await;
        db.execute("VACUUM", ()).await.unwrap();
    }
}
