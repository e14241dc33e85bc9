//! The troubleshooting page quotes errors; each is provoked here and must stand in the page word for word.

// Paths are quoted as they are written on Unix.
#![cfg(all(feature = "sqlcipher", feature = "sops", unix))]

use std::path::Path;
use std::time::Duration;

use strongroom::pool::{NoRetry, Ping};
use strongroom::sqlcipher::Tuning;
use strongroom::{
    AsyncDatabase, Error, ErrorKind, KeySource as _, PassphraseKeySource, Reason, SopsKeySource, rusqlite,
};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;

use cipher::{create, keyed, refusal};

const PAGE: &str = include_str!("../docs/troubleshooting.md");

/// Asserts that the page quotes `error`, as a user would see it who works in `directory` and calls from `src/main.rs`.
fn quoted(error: &Error, directory: &Path) {
    let text = error.to_string().replace(&format!("{}/", directory.display()), "");
    let text = without_place(&text);
    assert!(PAGE.contains(&format!("```text\n{text}\n```")), "docs/troubleshooting.md does not quote:\n{text}");
}

/// Puts a place that means something to a reader in place of the line of this test.
fn without_place(text: &str) -> String {
    let Some(start) = text.find(file!()) else { return text.to_owned() };
    let length = text[start..].find(' ').unwrap();
    format!("{}src/main.rs:12:24{}", &text[..start], &text[start + length..])
}

#[tokio::test]
async fn file_locked() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(AsyncDatabase::builder(&path)).await;
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let tuning = Tuning::default().busy_timeout(Duration::from_millis(50));
    let db = AsyncDatabase::builder(&path).tuning(tuning).retry(NoRetry).open().await.unwrap();
    let error = db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Busy && error.is_transient());
    quoted(&error, directory.path());
    other.execute_batch("COMMIT").unwrap();
    db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
}

#[tokio::test]
async fn pool_exhausted() {
    let db = AsyncDatabase::builder(":memory:").pool_timeout(Duration::from_secs(1)).open().await.unwrap();
    let holder = db.connection().await.unwrap();
    tokio::time::pause();
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { db.connection().await.unwrap_err() }
    });
    let error = waiting.await.unwrap();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::PoolExhausted, Reason::AllInUse));
    quoted(&error, Path::new("/"));
    drop(holder);
}

#[tokio::test]
async fn key_mismatch() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(keyed(&path, "right")).await;
    quoted(&refusal(keyed(&path, "wrong")).await, directory.path());
    quoted(&refusal(AsyncDatabase::builder(&path)).await, directory.path());
    quoted(&refusal(keyed(&path, "right").cipher_compatibility(3)).await, directory.path());
    let plain = directory.path().join("plain.db");
    create(AsyncDatabase::builder(&plain)).await;
    quoted(&refusal(keyed(&plain, "right")).await, directory.path());
}

#[tokio::test]
async fn sops_key_not_found() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("secrets.enc.yaml");
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/sops");
    std::fs::copy(vectors.join("good/base.enc.yaml"), &path).unwrap();
    let keys = std::fs::read_to_string(vectors.join("keys.txt")).unwrap();
    let identity = keys.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).unwrap();
    let source = SopsKeySource::new(&path, "database_key").identity(identity);
    let error = AsyncDatabase::builder(directory.path().join("app.db")).key(source).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key);
    quoted(&error, directory.path());
    let missing = SopsKeySource::at(directory.path().join("missing.yaml")).resolve().await.unwrap_err();
    quoted(&missing, directory.path());
}

#[tokio::test]
async fn health_check_fails() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    let db = AsyncDatabase::builder(&path)
        .key(PassphraseKeySource::new("key"))
        .health(Ping)
        .retry(NoRetry)
        .pool_max(1)
        .open()
        .await
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = db.execute("CREATE TABLE t (a)", ()).await.unwrap_err();
    quoted(&error, directory.path());
}
