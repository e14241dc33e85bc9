//! A database that is opened by a symbolic link is the one that the link leads to, with its log.

#![cfg(all(feature = "sqlcipher", unix))]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use strongroom::sqlcipher::{ReplaceOptions, SalvageOptions, Synchronous, Tuning};
use strongroom::{AsyncDatabase, Secret};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;

use cipher::{files, keyed};

fn key() -> Secret {
    Secret::raw_key([7; 32])
}

/// A database whose last row is in the log alone, as a process leaves it that was killed; and three links to it.
async fn left(directory: &Path) -> [PathBuf; 3] {
    let data = directory.join("data");
    std::fs::create_dir(&data).unwrap();
    let made = directory.join("made.db");
    let db = keyed(&made, key()).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
    db.checkpoint().await.unwrap();
    db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    for end in ["", "-wal"] {
        let from = directory.join(format!("made.db{end}"));
        std::fs::copy(from, data.join(format!("real.db{end}"))).unwrap();
    }
    db.close().await.unwrap();
    symlink("data/real.db", directory.join("link.db")).unwrap();
    symlink("link.db", directory.join("link of a link.db")).unwrap();
    symlink("data", directory.join("other")).unwrap();
    ["link.db", "link of a link.db", "other/real.db"].map(|link| directory.join(link))
}

async fn rows(db: &AsyncDatabase) -> i64 {
    db.fetch_value("SELECT count(*) FROM t", ()).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_log_is_read_where_the_file_is() {
    for number in 0..3 {
        let directory = TempDir::new().unwrap();
        let link = &left(directory.path()).await[number];
        let before = files(&directory.path().join("data"));
        let reader = keyed(link, key()).read_only().open().await.unwrap();
        assert_eq!(rows(&reader).await, 2, "{link:?}");
        assert!(files(&directory.path().join("data")) == before);
        // It notices who begins to write by another name.
        let writer = keyed(&directory.path().join("data/real.db"), key()).open().await.unwrap();
        writer.execute("INSERT INTO t VALUES (3)", ()).await.unwrap();
        assert_eq!(rows(&reader).await, 3, "{link:?}");
        reader.close().await.unwrap();
        writer.close().await.unwrap();
        let immutable = keyed(link, key()).immutable().open().await.unwrap();
        assert_eq!(rows(&immutable).await, 3, "{link:?}");
        immutable.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_written_by_a_link_lies_beside_the_file() {
    for number in 0..3 {
        for synchronous in [Synchronous::Normal, Synchronous::Full, Synchronous::FullShared] {
            let directory = TempDir::new().unwrap();
            let link = &left(directory.path()).await[number];
            let db = keyed(link, key()).tuning(Tuning::default().synchronous(synchronous)).open().await.unwrap();
            for _ in 0..5 {
                db.execute("INSERT INTO t VALUES (3)", ()).await.unwrap();
            }
            assert_eq!(rows(&db).await, 7, "{synchronous:?}");
            let names: Vec<_> = files(&directory.path().join("data")).into_keys().collect();
            assert_eq!(names, ["real.db", "real.db-shm", "real.db-wal"], "{synchronous:?} {link:?}");
            assert!(db.close().await.unwrap().is_clean());
        }
    }
}

#[tokio::test]
async fn a_rescue_takes_the_log_along() {
    for number in 0..3 {
        let directory = TempDir::new().unwrap();
        let link = &left(directory.path()).await[number];
        let rescued = directory.path().join("rescued.db");
        keyed(link, key()).salvage_to(&rescued, SalvageOptions::new()).await.unwrap();
        let db = keyed(&rescued, key()).open().await.unwrap();
        assert_eq!(rows(&db).await, 2, "{link:?}");
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_replaced_by_a_link_is_the_file_with_its_log() {
    let directory = TempDir::new().unwrap();
    let link = &left(directory.path()).await[0];
    let copy = directory.path().join("copy.db");
    let one = keyed(&copy, key()).open().await.unwrap();
    one.execute_script("CREATE TABLE t (a)").await.unwrap();
    one.close().await.unwrap();
    let kept = directory.path().join("kept.db");
    keyed(link, key()).restore_from(&copy, ReplaceOptions::new().keep(&kept)).await.unwrap();
    assert!(link.is_symlink());
    let db = keyed(link, key()).open().await.unwrap();
    assert_eq!(rows(&db).await, 0);
    db.close().await.unwrap();
    let old = keyed(&kept, key()).open().await.unwrap();
    assert_eq!(rows(&old).await, 2, "the row of the log was folded into what is kept");
    old.close().await.unwrap();
}
