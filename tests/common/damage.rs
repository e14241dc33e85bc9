//! Files to be damaged.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use strongroom::{DatabaseBuilder, SqlCipherConnector};

/// Makes a database of some fifty pages, and closes it.
pub(crate) async fn filled(builder: DatabaseBuilder<SqlCipherConnector>) {
    let db = builder.open().await.unwrap();
    db.execute_script("CREATE TABLE t (a)").await.unwrap();
    db.execute_many("INSERT INTO t VALUES ($1)", (0..50).map(|_| ("x".repeat(3000),))).await.unwrap();
    db.close().await.unwrap();
}

/// Turns one bit over.
pub(crate) fn flip(path: &Path, offset: u64) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

/// Cuts the end off.
pub(crate) fn cut(path: &Path, len: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}
