//! What the engine says of itself.
#![cfg(feature = "sqlite")]

use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use strongroom::AsyncDatabase;
use strongroom::sqlcipher::{Synchronous, Tuning};

async fn open(tuning: Tuning) -> (AsyncDatabase, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let db = AsyncDatabase::builder(folder.path().join("app.db")).tuning(tuning).open().await.unwrap();
    db.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)").await.unwrap();
    (db, folder)
}

fn all_short_cuts() -> Tuning {
    Tuning::default().inline_reads(true).inline_writes(true).kept_snapshots(true).group_commit(true)
}

#[tokio::test]
async fn statements_that_fit_into_the_cache_are_prepared_once() {
    for (cache, misses) in [(8, 4), (2, 40)] {
        let (db, _folder) = open(Tuning::default().statement_cache(cache)).await;
        let before = db.engine_stats();
        for _ in 0..10 {
            for n in 0..4 {
                db.fetch_value::<i64>(&format!("SELECT {n} FROM (SELECT 1)"), ()).await.unwrap();
            }
        }
        let after = db.engine_stats();
        let counted = (after.statement_misses - before.statement_misses, after.statement_hits - before.statement_hits);
        assert_eq!(counted, (misses, 40 - misses), "a cache of {cache}");
    }
}

#[tokio::test]
async fn pages_that_do_not_fit_into_the_cache_are_read_again_and_counted() {
    for (cache, expected) in [(64, false), (8192, true)] {
        let (db, _folder) = open(Tuning::default().cache_kib(cache)).await;
        let rows: Vec<_> = (0..500_i64).map(|n| (n, n)).collect();
        db.execute_script("ALTER TABLE t ADD COLUMN text").await.unwrap();
        db.execute_many("INSERT INTO t (id, n, text) VALUES ($1, $2, hex(zeroblob(1000)))", rows).await.unwrap();
        let scans = async || {
            for _ in 0..32 {
                db.fetch_value::<i64>("SELECT sum(length(text)) FROM t", ()).await.unwrap();
            }
        };
        scans().await;
        let before = db.engine_stats();
        scans().await;
        let after = db.engine_stats();
        let (found, read) =
            (after.page_cache_hits - before.page_cache_hits, after.page_cache_misses - before.page_cache_misses);
        // A row fills half a page, so a scan wants 250 pages; two sixteens of scans were counted.
        assert!((8_000..12_000).contains(&(found + read)), "{cache} KiB: {found} and {read}");
        assert_eq!(read < 100, expected, "{cache} KiB: {found} found, {read} read");
    }
}

#[tokio::test]
async fn reads_without_a_commit_in_between_share_a_snapshot() {
    let (db, _folder) = open(all_short_cuts()).await;
    let read = async || db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap();
    // Immediately one after the other, but the machine may be slow.
    let mut hits = 0;
    for _ in 0..200 {
        read().await;
        let before = db.engine_stats();
        read().await;
        let after = db.engine_stats();
        assert_eq!(after.inline_runs - before.inline_runs, 1);
        hits += after.snapshot_hits - before.snapshot_hits;
        db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
        let before = db.engine_stats();
        read().await;
        assert_eq!(db.engine_stats().snapshot_hits, before.snapshot_hits, "a commit ends the snapshot");
    }
    assert!(hits > 100, "{hits} of 200");
}

#[tokio::test]
async fn without_short_cuts_nothing_is_counted_as_one() {
    let (db, _folder) = open(Tuning::default().plain()).await;
    for _ in 0..5 {
        db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap();
        try_join_all((0..8).map(|_| db.execute("INSERT INTO t (n) VALUES (1)", ()))).await.unwrap();
    }
    let stats = db.engine_stats();
    assert_eq!((stats.inline_runs, stats.snapshot_hits, stats.groups, stats.grouped_statements), (0, 0, 0, 0));
}

#[tokio::test]
async fn writes_that_wait_together_are_counted_with_their_groups() {
    let (db, _folder) = open(all_short_cuts().synchronous(Synchronous::Full)).await;
    for _ in 0..4 {
        try_join_all((0..32).map(|_| db.execute("INSERT INTO t (n) VALUES (1)", ()))).await.unwrap();
    }
    let stats = db.engine_stats();
    assert!(stats.groups > 0 && stats.grouped_statements >= 2 * stats.groups, "{stats:?}");
    assert!(stats.grouped_statements <= 128, "{stats:?}");
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(128));
}

#[tokio::test]
async fn counts_outlive_their_connections() {
    let (db, _folder) = open(Tuning::default()).await;
    let before = db.engine_stats();
    for _ in 0..3 {
        let mut raw = db.connection().await.unwrap();
        raw.execute("PRAGMA foreign_keys = OFF", ()).await.unwrap();
        raw.fetch_one("SELECT 1", ()).await.unwrap();
        // Altered, so it is closed and another one opened.
        drop(raw);
    }
    db.fetch_one("SELECT 1", ()).await.unwrap();
    let after = db.engine_stats();
    assert!(after.statement_misses - before.statement_misses >= 6, "{before:?} {after:?}");
}

#[tokio::test]
async fn the_log_and_the_oldest_reader_are_named() {
    let (db, _folder) = open(Tuning::default()).await;
    db.execute_many("INSERT INTO t (n) VALUES ($1)", (0..1000).map(|n| (n,))).await.unwrap();
    let stats = db.engine_stats();
    assert!(stats.wal_bytes > 4096, "{stats:?}");
    assert_eq!(stats.oldest_reader, None);

    let mut rows = Box::pin(db.fetch_stream("SELECT n FROM t", ()));
    rows.try_next().await.unwrap();
    let first = db.engine_stats().oldest_reader.expect("a stream reads");
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    assert!(db.engine_stats().oldest_reader.unwrap() > first);
    drop(rows);
    db.close().await.unwrap();
    assert_eq!(db.engine_stats().wal_bytes, 0, "the log is folded into the file");
}
