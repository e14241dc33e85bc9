//! Plain databases, and what happens to keys in a build without a cipher: an error, and nothing on the disk.

#![cfg(feature = "sqlite")]

use std::path::Path;

use strongroom::pool::NoRetry;
use strongroom::{AsyncDatabase, PassphraseKeySource, Reason, Secret, is_sqlcipher_available, rusqlite};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;

use cipher::{Counted, create, files, read};

fn plain(path: &Path) -> strongroom::DatabaseBuilder<strongroom::SqlCipherConnector> {
    AsyncDatabase::builder(path).retry(NoRetry)
}

#[tokio::test]
async fn without_a_key_the_file_is_an_ordinary_database() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    create(plain(&path)).await;
    assert_eq!(read(plain(&path)).await.unwrap(), "row");
    let file = &files(directory.path())["a.db"];
    assert!(file.starts_with(b"SQLite format 3\0") && cipher::holds(file, b"row"));
    let own = rusqlite::Connection::open(&path).unwrap();
    assert_eq!(own.query_row("SELECT a FROM t", (), |row| row.get::<_, String>(0)).unwrap(), "row");
}

#[tokio::test]
async fn a_plain_database_in_memory_is_one_for_all_its_connections() {
    let db = plain(Path::new(":memory:")).pool_max(4).open().await.unwrap();
    assert!(!db.is_encrypted());
    db.execute_script("CREATE TABLE t (a)").await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let db = db.clone();
            tokio::spawn(async move { db.execute("INSERT INTO t VALUES ($1)", (n,)).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(8));
}

#[tokio::test]
async fn a_key_is_honoured_or_refused_and_never_ignored() {
    for secret in [Secret::new("passphrase"), Secret::raw_key([7; 32]), Secret::raw_key_with_salt([7; 32], [8; 16])] {
        for name in ["a.db", ":memory:"] {
            let directory = TempDir::new().unwrap();
            let path = if name == "a.db" { directory.path().join(name) } else { name.into() };
            let opened = plain(&path).key(PassphraseKeySource::new(secret.clone())).open().await;
            match opened {
                Ok(db) => {
                    assert!(is_sqlcipher_available() && db.is_encrypted());
                    db.execute_script("CREATE TABLE a_readable_name (a)").await.unwrap();
                    db.close().await.unwrap();
                    let all = files(directory.path());
                    assert!(all.values().all(|file| !cipher::holds(file, b"a_readable_name")));
                }
                Err(error) => {
                    assert!(!is_sqlcipher_available(), "{error}");
                    assert_eq!((error.kind(), error.reason()), (strongroom::ErrorKind::Encryption, Reason::NoCipher));
                    let sentence = error.to_string();
                    assert!(sentence.contains("no cipher; enable the feature `sqlcipher`"), "{sentence}");
                    assert!(files(directory.path()).is_empty(), "a refused key left a file");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_key_given_for_an_existing_plain_file_leaves_it_as_it_is() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    create(plain(&path)).await;
    let before = files(directory.path());
    let error = plain(&path).key(Counted::new("passphrase")).open().await.unwrap_err();
    let expected = if is_sqlcipher_available() { Reason::NotEncrypted } else { Reason::NoCipher };
    assert_eq!(error.reason(), expected);
    assert!(files(directory.path()) == before);
    assert_eq!(read(plain(&path)).await.unwrap(), "row");
}

#[test]
fn a_connection_of_your_own_is_not_keyed_without_a_cipher() {
    let own = rusqlite::Connection::open_in_memory().unwrap();
    let outcome = strongroom::apply_cipher_key(&own, &Secret::raw_key([7; 32]));
    match outcome {
        Ok(()) => assert!(is_sqlcipher_available()),
        Err(error) => assert_eq!((error.reason(), is_sqlcipher_available()), (Reason::NoCipher, false)),
    }
}
