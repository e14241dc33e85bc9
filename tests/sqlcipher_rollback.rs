//! What the cipher sees of somebody who puts older or foreign pages into a file, and what it cannot see: SECURITY.md
//! says so, under "Tampering" and "Rolling back".
#![cfg(all(feature = "sqlcipher", unix))]

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use strongroom::database::CheckDepth;
use strongroom::{AsyncDatabase, DatabaseBuilder, Reason, Secret, SqlCipherConnector};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;

const PAGE: usize = 4096;

fn builder(path: &Path) -> DatabaseBuilder<SqlCipherConnector> {
    cipher::keyed(path, Secret::raw_key([7; 32]))
}

/// A database of 50 rows on about as many pages, all of which hold `word`; and a copy of it from before, when all held
/// another one.
async fn two_ages(directory: &TempDir) -> (PathBuf, Vec<u8>) {
    let path = directory.path().join("a.db");
    let db = builder(&path).open().await.unwrap();
    db.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, a)").await.unwrap();
    let rows = (1..=50).map(|id| (id, format!("old{}", "x".repeat(3000))));
    db.execute_many("INSERT INTO t VALUES ($1, $2)", rows).await.unwrap();
    db.close().await.unwrap();
    let old = fs::read(&path).unwrap();
    let db = builder(&path).open().await.unwrap();
    db.execute("UPDATE t SET a = 'new' || substr(a, 4)", ()).await.unwrap();
    db.close().await.unwrap();
    (path, old)
}

fn put(path: &Path, page: usize, content: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(content, ((page - 1) * PAGE) as u64).unwrap();
}

fn page(file: &[u8], number: usize) -> &[u8] {
    &file[(number - 1) * PAGE..number * PAGE]
}

async fn words(db: &AsyncDatabase) -> strongroom::Result<(i64, i64)> {
    let count = "SELECT count(*) FROM t WHERE a LIKE $1";
    let of = async |word: &str| db.fetch_value::<i64>(count, (word,)).await.map(Option::unwrap_or_default);
    Ok((of("old%").await?, of("new%").await?))
}

#[tokio::test]
async fn an_older_page_at_its_place_is_read_without_an_error() {
    let directory = TempDir::new().unwrap();
    let (path, old) = two_ages(&directory).await;
    put(&path, 30, page(&old, 30));
    let db = builder(&path).open().await.unwrap();
    // A state that never was.
    let (older, newer) = words(&db).await.unwrap();
    assert!(older > 0 && newer > 0 && older + newer == 50, "{older} old, {newer} new");
    assert!(db.check(CheckDepth::Full).await.unwrap().is_ok());
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_whole_older_copy_is_read_without_an_error() {
    let directory = TempDir::new().unwrap();
    let (path, old) = two_ages(&directory).await;
    fs::write(&path, old).unwrap();
    let db = builder(&path).open().await.unwrap();
    assert_eq!(words(&db).await.unwrap(), (50, 0));
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_page_from_another_place_or_another_file_is_seen() {
    let directory = TempDir::new().unwrap();
    let (path, old) = two_ages(&directory).await;
    let other = TempDir::new().unwrap();
    // The same key, and another salt.
    let (_, foreign) = two_ages(&other).await;
    for strange in [page(&old, 31), page(&foreign, 30)] {
        let kept = fs::read(&path).unwrap();
        put(&path, 30, strange);
        let db = builder(&path).open().await.unwrap();
        assert_eq!(words(&db).await.unwrap_err().reason(), Reason::Damaged);
        drop(db);
        fs::write(&path, kept).unwrap();
    }
}
