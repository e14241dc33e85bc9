//! The key that a file gets is asked for anew, whatever a source remembers: under one that its owner has replaced
//! already, nobody could open the file later.
#![cfg(feature = "sqlcipher")]

#[path = "common/cipher.rs"]
mod cipher;
mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};

use cipher::{create, keyed, plain};
use common::{millis, secs};
use futures_util::future::join_all;
use strongroom::database::BackupOptions;
use strongroom::keys::async_trait;
use strongroom::pool::NoRetry;
use strongroom::sqlcipher::{ReplaceOptions, SalvageOptions};
use strongroom::{
    AsyncDatabase, CachedKeySource, DatabaseBuilder, KeySource, Reason, Result, Secret, SqlCipherConnector,
};
use tempfile::TempDir;

fn raw(byte: u8) -> Secret {
    Secret::raw_key([byte; 32])
}

/// A store of one key, which its owner may replace.
#[derive(Clone, Default)]
struct Store {
    key: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
}

impl Store {
    /// A source that remembers the first key, while the store has the second.
    async fn remembered(&self) -> CachedKeySource {
        self.key.store(1, SeqCst);
        let source = CachedKeySource::new(self.clone(), secs(3600));
        source.resolve().await.unwrap();
        source.candidates().await.unwrap();
        self.key.store(2, SeqCst);
        source
    }
}

#[async_trait]
impl KeySource for Store {
    async fn resolve(&self) -> Result<Secret> {
        self.asked.fetch_add(1, SeqCst);
        Ok(raw(self.key.load(SeqCst)))
    }

    fn describe(&self) -> String {
        "the store".into()
    }
}

fn stored(path: &Path, source: CachedKeySource) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(path).key(source).retry(NoRetry)
}

async fn assert_has_key(path: &Path, byte: u8) {
    let db = keyed(path, raw(byte)).open().await.unwrap_or_else(|error| panic!("{error}"));
    db.execute("SELECT count(*) FROM sqlite_master", ()).await.unwrap();
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_change_of_key_takes_the_present_one() {
    let (folder, store) = (TempDir::new().unwrap(), Store::default());
    let path = folder.path().join("app.db");
    let db = keyed(&path, raw(1)).open().await.unwrap();
    db.rekey(store.remembered().await).await.unwrap();
    db.close().await.unwrap();
    assert_has_key(&path, 2).await;
}

#[tokio::test]
async fn a_change_of_key_is_called_off_if_the_key_is_replaced_while_it_waits() {
    let (folder, store) = (TempDir::new().unwrap(), Store::default());
    let path = folder.path().join("app.db");
    let db = keyed(&path, raw(1)).open().await.unwrap();
    let (held, source) = (db.connection().await.unwrap(), store.remembered().await);
    let asked = store.asked.load(SeqCst);
    let change = tokio::spawn({
        let db = db.clone();
        async move { db.rekey(source).await }
    });
    let asks = async {
        while store.asked.load(SeqCst) == asked {
            tokio::time::sleep(millis(1)).await;
        }
    };
    tokio::time::timeout(secs(30), asks).await.expect("the store was not asked anew");
    store.key.store(3, SeqCst);
    drop(held);
    let error = change.await.unwrap().unwrap_err();
    assert!(error.is_transient() && error.message().contains("does not offer the new one any more"), "{error}");
    db.close().await.unwrap();
    assert_has_key(&path, 1).await;
}

#[tokio::test]
async fn a_new_file_gets_the_present_key_however_it_is_made() {
    let (folder, store) = (TempDir::new().unwrap(), Store::default());
    let at = |name: &str| folder.path().join(name);
    let source = store.remembered().await;
    stored(&at("new.db"), source).open().await.unwrap().close().await.unwrap();
    assert_has_key(&at("new.db"), 2).await;

    let db = keyed(&at("app.db"), raw(9)).open().await.unwrap();
    db.backup_with(at("copy.db"), BackupOptions::new().key(store.remembered().await)).await.unwrap();
    db.close().await.unwrap();
    assert_has_key(&at("copy.db"), 2).await;

    let options = SalvageOptions::new().key(store.remembered().await);
    keyed(&at("app.db"), raw(9)).salvage_to(at("saved.db"), options).await.unwrap();
    assert_has_key(&at("saved.db"), 2).await;

    let options = ReplaceOptions::new().copy_key(raw(9));
    stored(&at("back.db"), store.remembered().await).restore_from(at("app.db"), options).await.unwrap();
    assert_has_key(&at("back.db"), 2).await;

    create(plain(&at("plain.db"))).await;
    stored(&at("plain.db"), store.remembered().await).encrypt(ReplaceOptions::new()).await.unwrap();
    assert_has_key(&at("plain.db"), 2).await;
}

#[tokio::test]
async fn a_file_under_the_present_key_is_read_though_another_is_remembered() {
    let (folder, store) = (TempDir::new().unwrap(), Store::default());
    let at = |name: &str| folder.path().join(name);
    for name in ["app.db", "copy.db"] {
        keyed(&at(name), raw(2)).open().await.unwrap().close().await.unwrap();
    }
    stored(&at("app.db"), store.remembered().await).restore_from(at("copy.db"), ReplaceOptions::new()).await.unwrap();
    stored(&at("app.db"), store.remembered().await).decrypt(ReplaceOptions::new()).await.unwrap();
    AsyncDatabase::builder(at("app.db")).open().await.unwrap().close().await.unwrap();

    // Opened, it asks once, since a source may ask a person; whoever tries again gets the present key.
    let db = stored(&at("copy.db"), store.remembered().await).build();
    assert_eq!(db.execute("SELECT 1", ()).await.unwrap_err().reason(), Reason::WrongKey);
    db.execute("SELECT 1", ()).await.unwrap();
    db.close().await.unwrap();
}

#[tokio::test]
async fn calls_that_wait_for_a_question_share_its_answer_if_the_key_is_another_one() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(keyed(&path, raw(1))).await;
    let store = Store::default();
    store.key.store(2, SeqCst);
    let source = CachedKeySource::new(store.clone(), secs(3600));
    let db = stored(&path, source).pool_max(16).build();
    let outcomes = join_all((0..10).map(|_| db.fetch_all("SELECT 1", ()))).await;
    for outcome in outcomes {
        assert_eq!(outcome.unwrap_err().reason(), Reason::WrongKey);
    }
    assert_eq!(store.asked.load(SeqCst), 1, "a person would have been asked as often");
    store.key.store(1, SeqCst);
    db.fetch_all("SELECT 1", ()).await.unwrap();
    assert_eq!(store.asked.load(SeqCst), 2);
    db.close().await.unwrap();
}
