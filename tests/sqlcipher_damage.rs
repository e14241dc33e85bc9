//! Damaged, cut off and unreachable files: the error says so, and never "wrong key" when the key can be proven right.

#![cfg(all(feature = "sqlcipher", unix))]

use std::path::{Path, PathBuf};

use strongroom::{DatabaseBuilder, ErrorKind, Reason, Secret, SqlCipherConnector};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;
#[path = "common/damage.rs"]
mod damage;

use cipher::{keyed, plain, refusal};
use damage::{cut, flip};

const PAGE: u64 = 4096;

fn raw(path: &Path) -> DatabaseBuilder<SqlCipherConnector> {
    keyed(path, Secret::raw_key([7; 32]))
}

/// Where a database of some fifty pages stands.
async fn filled(directory: &TempDir, builder: fn(&Path) -> DatabaseBuilder<SqlCipherConnector>) -> PathBuf {
    let path = directory.path().join("a.db");
    damage::filled(builder(&path)).await;
    path
}

#[tokio::test]
async fn a_damaged_first_page_is_told_from_a_wrong_key() {
    for offset in [16, 100, PAGE - 1] {
        let directory = TempDir::new().unwrap();
        let path = filled(&directory, raw).await;
        flip(&path, offset);
        let error = refusal(raw(&path)).await;
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Storage, Reason::Damaged), "offset {offset}: {error}");
        assert!(error.to_string().contains("the key is right, but page 1 is damaged"), "{error}");
        let wrong = refusal(keyed(&path, Secret::raw_key([8; 32]))).await;
        assert_eq!(wrong.reason(), Reason::WrongKey);
    }
}

#[tokio::test]
async fn a_damaged_first_page_of_an_older_format_is_told_from_a_wrong_key() {
    for level in [2, 3] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("a.db");
        cipher::create(keyed(&path, "key").cipher_compatibility(level)).await;
        flip(&path, 500);
        let error = refusal(keyed(&path, "key").cipher_compatibility(level)).await;
        assert_eq!(error.reason(), Reason::Damaged, "level {level}: {error}");
        let wrong = refusal(keyed(&path, "wrong").cipher_compatibility(level)).await;
        assert_eq!(wrong.reason(), Reason::WrongKey);
    }
}

#[tokio::test]
async fn a_damaged_salt_looks_like_a_wrong_key_and_the_sentence_admits_it() {
    let directory = TempDir::new().unwrap();
    let path = filled(&directory, raw).await;
    flip(&path, 3);
    let error = refusal(raw(&path)).await;
    assert_eq!(error.reason(), Reason::WrongKey);
    assert!(error.to_string().contains("a damaged first page look the same"), "{error}");
}

#[tokio::test]
async fn a_damaged_page_in_the_middle_is_an_error_of_storage_and_the_rest_stays_readable() {
    let directory = TempDir::new().unwrap();
    let path = filled(&directory, raw).await;
    flip(&path, 30 * PAGE + 100);
    let db = raw(&path).open().await.unwrap();
    let error = db.fetch_value::<i64>("SELECT sum(length(a)) FROM t", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Storage, Reason::Damaged), "{error}");
    // The connection that met the damage is not lent again.
    let first: Option<i64> = db.fetch_value("SELECT length(a) FROM t WHERE rowid = 1", ()).await.unwrap();
    assert_eq!(first, Some(3000));
}

#[tokio::test]
async fn a_file_that_was_cut_off_says_so() {
    for (builder, name) in [(raw as fn(&Path) -> _, "encrypted"), (plain, "plain")] {
        for (len, words) in [
            // Nothing of an encrypted page can be read without its end; a plain one is recognised by its head.
            (100, if name == "plain" { "ends in the middle" } else { "not a database, or was cut off" }),
            (PAGE - 1, if name == "plain" { "ends in the middle" } else { "not a database, or was cut off" }),
            (10 * PAGE + 100, "ends in the middle of a page"),
            (10 * PAGE, "its end is missing"),
        ] {
            let directory = TempDir::new().unwrap();
            let path = filled(&directory, builder).await;
            cut(&path, len);
            let error = refusal(builder(&path)).await;
            assert_eq!(error.kind(), ErrorKind::Storage, "{name}, {len}: {error}");
            assert!(error.to_string().contains(words), "{name}, {len}: {error}");
        }
    }
}

#[tokio::test]
async fn a_plain_file_with_a_damaged_head_is_not_taken_for_an_encrypted_one() {
    let directory = TempDir::new().unwrap();
    let path = filled(&directory, plain).await;
    flip(&path, 16);
    let error = refusal(plain(&path)).await;
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Storage, Reason::Damaged), "{error}");
}

#[tokio::test]
async fn a_file_that_vanishes_or_is_replaced_is_noticed_by_the_next_connection() {
    let directory = TempDir::new().unwrap();
    let path = filled(&directory, raw).await;
    let db = raw(&path).pool_max(3).open().await.unwrap();
    let first = db.read_connection().await.unwrap();
    std::fs::rename(&path, directory.path().join("aside.db")).unwrap();
    let gone = db.read_connection().await.unwrap_err();
    assert_eq!((gone.kind(), gone.reason()), (ErrorKind::Connection, Reason::NotFound), "{gone}");
    assert!(!path.exists(), "a later connection created a new database");
    cipher::create(keyed(&path, Secret::raw_key([8; 32]))).await;
    let replaced = db.read_connection().await.unwrap_err();
    assert_eq!((replaced.kind(), replaced.reason()), (ErrorKind::Encryption, Reason::WrongKey), "{replaced}");
    drop(first);
}

#[tokio::test]
async fn a_full_disk_is_a_reason_of_its_own_and_costs_nothing_but_the_statement() {
    let directory = TempDir::new().unwrap();
    let db = raw(&directory.path().join("a.db")).pool_max(1).open().await.unwrap();
    let mut conn = db.connection().await.unwrap();
    conn.execute_script("CREATE TABLE t (a); PRAGMA max_page_count = 20").await.unwrap();
    let error = conn.execute("INSERT INTO t VALUES (zeroblob(1000000))", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Storage, Reason::DiskFull), "{error}");
    conn.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
}
