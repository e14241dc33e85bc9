//! What the tests of the engine share: databases with a key, and a view of what lies on the disk.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use strongroom::pool::NoRetry;
use strongroom::{
    AsyncDatabase, DatabaseBuilder, Error, KeySource, PassphraseKeySource, Result, Secret, SqlCipherConnector,
};

/// A database that is opened with `secret`, without second tries.
pub(crate) fn keyed(path: &Path, secret: impl Into<Secret>) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(path).key(PassphraseKeySource::new(secret)).retry(NoRetry)
}

/// The same without a key.
pub(crate) fn plain(path: &Path) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(path).retry(NoRetry)
}

/// Creates a database with one row, and closes it.
pub(crate) async fn create(builder: DatabaseBuilder<SqlCipherConnector>) {
    let db = builder.open().await.unwrap();
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES ('row')").await.unwrap();
    db.close().await.unwrap();
}

/// Opens, reads the row of [`create`], and closes.
pub(crate) async fn read(builder: DatabaseBuilder<SqlCipherConnector>) -> Result<String> {
    let db = builder.open().await?;
    let row = db.fetch_value("SELECT a FROM t", ()).await?;
    db.close().await?;
    Ok(row.unwrap())
}

/// Why it does not open.
pub(crate) async fn refusal(builder: DatabaseBuilder<SqlCipherConnector>) -> Error {
    builder.open().await.expect_err("this must not open")
}

/// Every file below `directory` with its content.
pub(crate) fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

/// Whether `needle` stands in `hay`.
pub(crate) fn holds(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

/// Counts how often it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) asked: Arc<AtomicU32>,
    secret: Secret,
}

impl Counted {
    pub(crate) fn new(secret: impl Into<Secret>) -> Self {
        Self { asked: Arc::default(), secret: secret.into() }
    }

    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

#[strongroom::keys::async_trait]
impl KeySource for Counted {
    async fn resolve(&self) -> Result<Secret> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        Ok(self.secret.clone())
    }

    fn describe(&self) -> String {
        "a counted secret".into()
    }
}
