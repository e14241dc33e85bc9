//! The write-ahead log is kept short, by whoever was told to.
#![cfg(feature = "sqlite")]

mod common;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{Home, Kind};
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use strongroom::AsyncDatabase;
use strongroom::sqlcipher::{Checkpoints, Synchronous, Tuning};

const MIB: u64 = 1 << 20;

fn tuning(checkpoints: Checkpoints) -> Tuning {
    Tuning::default().synchronous(Synchronous::Normal).checkpoints(checkpoints).journal_size_limit(64 * MIB)
}

async fn open(home: &Home, checkpoints: Checkpoints) -> AsyncDatabase {
    let db = home.builder().tuning(tuning(checkpoints)).open().await.unwrap();
    db.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, text TEXT)").await.unwrap();
    db
}

fn log_of(home: &Home) -> PathBuf {
    home.path().with_file_name(format!("{}-wal", home.path().file_name().unwrap().to_str().unwrap()))
}

/// Writes without a pause from several tasks; gives back how many bytes were written at least.
async fn write_a_lot(db: &AsyncDatabase, each: u32) -> u64 {
    const TEXT: usize = 3000;
    let text = "x".repeat(TEXT);
    let writers = (0..8).map(|_| {
        let (db, text) = (db.clone(), text.clone());
        async move {
            for n in 0..each {
                db.execute("INSERT INTO t (n, text) VALUES ($1, $2)", (n, text.as_str())).await?;
            }
            Ok::<_, strongroom::Error>(())
        }
    });
    try_join_all(writers).await.unwrap();
    8 * u64::from(each) * TEXT as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_constant_writing_the_log_starts_over() {
    for kind in [Kind::PlainFile, Kind::KeyedFile] {
        let home = Home::new(kind);
        let db = open(&home, Checkpoints::Background).await;
        let written = write_a_lot(&db, 2000).await;
        let log = db.engine_stats().wal_bytes;
        // Every commit logs whole pages: several times as many bytes as were written, if the log never starts over.
        assert!(written > 45 * MIB && log < written * 3 / 2, "{kind:?}: {log} bytes of log for {written}");
        let count: Option<i64> = db.fetch_value("SELECT count(*) FROM t", ()).await.unwrap();
        assert_eq!(count, Some(16_000));
        db.close().await.unwrap();
        assert!(!log_of(&home).exists(), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_writing_stops_the_whole_log_is_in_the_file() {
    let home = Home::new(Kind::KeyedFile);
    let db = open(&home, Checkpoints::Background).await;
    write_a_lot(&db, 200).await;
    let patience = Instant::now() + Duration::from_secs(20);
    while home.path().metadata().unwrap().len() < 4 * MIB {
        assert!(Instant::now() < patience, "nobody copies the log");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_log_left_to_others_is_never_touched_and_never_lost() {
    let home = Home::new(Kind::KeyedFile);
    let db = open(&home, Checkpoints::External).await;
    let written = write_a_lot(&db, 300).await;
    let before = log_of(&home).metadata().unwrap().len();
    assert!(before > written, "the log holds all of it");
    assert!(home.path().metadata().unwrap().len() < MIB, "and the file nothing");
    assert!(db.close().await.unwrap().is_clean());
    assert!(log_of(&home).metadata().unwrap().len() >= before, "not at the end either");

    // An emulated processor needs more than the usual ten seconds to read a whole log.
    let builder = || home.builder().pool_timeout(Duration::from_secs(60));
    let db = builder().tuning(tuning(Checkpoints::External)).open().await.unwrap();
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(2400));
    db.close().await.unwrap();
    let db = builder().open().await.unwrap();
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(2400));
    db.execute("DELETE FROM t WHERE n > 0", ()).await.unwrap();
    db.close().await.unwrap();
    assert!(!log_of(&home).exists(), "whoever may, copies it");
}

#[tokio::test]
async fn a_commit_copies_the_log_itself_if_told_to() {
    let home = Home::new(Kind::KeyedFile);
    let db = open(&home, Checkpoints::AtCommit).await;
    write_a_lot(&db, 300).await;
    assert!(home.path().metadata().unwrap().len() > 3 * MIB);
    assert!(db.engine_stats().wal_bytes < 6 * MIB, "{:?}", db.engine_stats());
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_only_streams_write_to_is_copied_too() {
    for to_the_end in [true, false] {
        let home = Home::new(Kind::KeyedFile);
        let db = open(&home, Checkpoints::Background).await;
        let sql = "WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c LIMIT 300)
                   INSERT INTO t (n, text) SELECT i, hex(zeroblob(1500)) FROM c RETURNING id";
        let patience = Instant::now() + Duration::from_secs(20);
        while home.path().metadata().unwrap().len() < 4 * MIB {
            assert!(Instant::now() < patience, "nobody copies the log, to the end: {to_the_end}");
            let mut rows = db.fetch_stream(sql, ());
            rows.try_next().await.unwrap();
            if to_the_end {
                while rows.try_next().await.unwrap().is_some() {}
            }
        }
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_database_that_is_closed_while_its_log_is_copied_leaves_nothing_behind() {
    for _ in 0..20 {
        let home = Home::new(Kind::KeyedFile);
        let db = open(&home, Checkpoints::Background).await;
        db.execute_many("INSERT INTO t (n, text) VALUES ($1, $2)", (0..1500).map(|n| (n, "x".repeat(3000))))
            .await
            .unwrap();
        let report = db.close().await.unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert!(!log_of(&home).exists());
        let db = home.open().await;
        assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(1500));
        db.close().await.unwrap();
    }
}
