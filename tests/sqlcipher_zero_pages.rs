//! A page of zeroes has no seal, and SQLCipher takes it for a page that was never written: a full check does not.
#![cfg(feature = "sqlcipher")]

#[path = "common/cipher.rs"]
mod cipher;

use std::fs::OpenOptions;
use std::io::{Seek as _, SeekFrom, Write as _};

use cipher::keyed;
use strongroom::Secret;
use strongroom::database::CheckDepth;

#[tokio::test]
async fn zeroes_in_place_of_a_page_are_read_as_data_and_found_by_a_full_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let open = || keyed(&path, Secret::raw_key([7; 32])).open();
    let db = open().await.unwrap();
    db.execute_script("CREATE TABLE t (a BLOB)").await.unwrap();
    db.execute("INSERT INTO t VALUES ($1)", (vec![9_u8; 20_000],)).await.unwrap();
    let page = "SELECT max(pageno) FROM dbstat WHERE name = 't' AND pagetype = 'overflow'";
    let page: i64 = db.fetch_value(page, ()).await.unwrap().unwrap();
    db.close().await.unwrap();
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start((u64::try_from(page).unwrap() - 1) * 4096)).unwrap();
    file.write_all(&[0; 4096]).unwrap();
    drop(file);
    let db = open().await.unwrap();
    let read: Vec<u8> = db.fetch_value("SELECT a FROM t", ()).await.unwrap().unwrap();
    assert!(read.len() == 20_000 && read.ends_with(&[0; 16]), "SQLCipher notices it by now: say so in SECURITY.md");
    assert!(!db.check(CheckDepth::Full).await.unwrap().is_ok());
    db.close().await.unwrap();
}
