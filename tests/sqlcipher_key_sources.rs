//! Key sources that fail, hang, panic, and are let go of.

#![cfg(feature = "sqlcipher")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use strongroom::engine::Phase;
use strongroom::{
    AsyncDatabase, DatabaseBuilder, Error, ErrorKind, KeySource, PassphraseKeySource, Reason, Result, Secret,
    SqlCipherConnector,
};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;

use cipher::{Counted, files};

/// Misbehaves at its first calls, then answers.
#[derive(Clone)]
struct Awkward {
    calls: Arc<AtomicU32>,
    bad_calls: u32,
    how: How,
}

#[derive(Clone, Copy)]
enum How {
    Fails,
    FailsForNow,
    Hangs,
    Panics,
}

impl Awkward {
    fn once(how: How) -> Self {
        Self { calls: Arc::default(), bad_calls: 1, how }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }
}

#[strongroom::keys::async_trait]
impl KeySource for Awkward {
    async fn resolve(&self) -> Result<Secret> {
        if self.calls.fetch_add(1, Ordering::SeqCst) >= self.bad_calls {
            return Ok(Secret::raw_key([7; 32]));
        }
        let error = Error::new(ErrorKind::Key, "the keyring is locked").because(Reason::Locked);
        match self.how {
            How::Fails => Err(error.hint("unlock it")),
            How::FailsForNow => Err(error.transient()),
            How::Hangs => std::future::pending().await,
            How::Panics => panic!("a message that could hold hunter2"),
        }
    }

    fn describe(&self) -> String {
        "an awkward source".into()
    }
}

/// Says that it never answers anything else.
struct Fixed(Counted);

#[strongroom::keys::async_trait]
impl KeySource for Fixed {
    async fn resolve(&self) -> Result<Secret> {
        self.0.resolve().await
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn is_fixed(&self) -> bool {
        true
    }
}

fn database(directory: &TempDir, source: &Awkward) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(directory.path().join("a.db")).key(source.clone())
}

async fn works(db: &AsyncDatabase) {
    db.execute_script("CREATE TABLE t (a)").await.unwrap();
    assert!(db.table_exists("t").await.unwrap());
}

#[tokio::test]
async fn the_error_of_a_source_arrives_as_it_is_and_is_not_repeated() {
    let directory = TempDir::new().unwrap();
    let source = Awkward::once(How::Fails);
    let db = database(&directory, &source).build();
    let error = db.connect().await.unwrap_err();
    assert_eq!((error.kind(), error.reason(), error.phase()), (ErrorKind::Key, Reason::Locked, Some(Phase::Key)));
    assert_eq!(error.to_string(), "the keyring is locked; unlock it");
    assert_eq!(source.calls(), 1);
    assert!(files(directory.path()).is_empty());
    // Nothing of the failure is kept: the next call asks again.
    works(&db).await;
    assert_eq!(source.calls(), 2);
}

#[tokio::test]
async fn a_source_that_fails_for_now_is_asked_again_by_the_retry_policy() {
    let directory = TempDir::new().unwrap();
    let source = Awkward::once(How::FailsForNow);
    let db = database(&directory, &source).retry_delay(Duration::from_millis(100)).open().await.unwrap();
    assert_eq!(source.calls(), 2);
    works(&db).await;
}

#[tokio::test]
async fn a_source_that_hangs_costs_one_caller_its_patience_and_nobody_else() {
    let directory = TempDir::new().unwrap();
    let source = Awkward::once(How::Hangs);
    let db = database(&directory, &source).pool_timeout(Duration::from_secs(1)).build();
    let error = db.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(db.stats().active_connections, 0);
    works(&db).await;
}

#[tokio::test]
async fn dropping_a_caller_that_waits_for_the_source_leaves_the_database_as_it_was() {
    let directory = TempDir::new().unwrap();
    let source = Awkward::once(How::Hangs);
    let db = database(&directory, &source).build();
    let dropped = tokio::time::timeout(Duration::from_millis(20), db.connect()).await;
    assert!(dropped.is_err());
    assert_eq!(source.calls(), 1);
    works(&db).await;
    assert_eq!(source.calls(), 2);
}

#[tokio::test]
async fn closing_does_not_wait_for_a_source_that_hangs() {
    let directory = TempDir::new().unwrap();
    let db = database(&directory, &Awkward::once(How::Hangs)).build();
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { db.connect().await.unwrap_err() }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    tokio::time::timeout(Duration::from_secs(5), db.close()).await.expect("closing hangs").unwrap();
    assert_eq!(waiting.await.unwrap().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_source_that_panics_is_an_error_without_its_words() {
    let directory = TempDir::new().unwrap();
    let db = database(&directory, &Awkward::once(How::Panics)).build();
    let error = db.connect().await.unwrap_err();
    assert_eq!(error.reason(), Reason::Panicked);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    works(&db).await;
}

#[tokio::test]
async fn a_source_that_never_answers_anything_else_is_let_go_once_the_key_is_known_and_others_at_close() {
    for is_fixed in [true, false] {
        let directory = TempDir::new().unwrap();
        let source = Counted::new(Secret::raw_key([7; 32]));
        let held_by_database = Arc::downgrade(&source.asked);
        let builder = AsyncDatabase::builder(directory.path().join("a.db"));
        let db = if is_fixed { builder.key(Fixed(source)).build() } else { builder.key(source).build() };
        assert!(held_by_database.upgrade().is_some());
        db.connect().await.unwrap();
        assert_eq!(held_by_database.upgrade().is_none(), is_fixed);
        works(&db).await;
        db.close().await.unwrap();
        assert!(held_by_database.upgrade().is_none());
    }
}

#[tokio::test]
async fn a_source_that_was_never_asked_is_let_go_at_close() {
    let directory = TempDir::new().unwrap();
    let source = Counted::new(Secret::raw_key([7; 32]));
    let held_by_database = Arc::downgrade(&source.asked);
    let db = AsyncDatabase::builder(directory.path().join("a.db")).key(source).build();
    db.close().await.unwrap();
    assert!(held_by_database.upgrade().is_none());
    assert_eq!(db.connect().await.unwrap_err().kind(), ErrorKind::Closed);
}

/// With several sources in a program, "the passphrase" could be anyone's.
#[tokio::test]
async fn a_key_that_cannot_be_used_is_refused_by_the_name_of_its_source() {
    struct Vault(&'static str);

    #[strongroom::keys::async_trait]
    impl KeySource for Vault {
        async fn resolve(&self) -> Result<Secret> {
            Ok(Secret::new(self.0))
        }

        fn describe(&self) -> String {
            "the vault in the cellar".into()
        }
    }

    let directory = tempfile::tempdir().unwrap();
    let (text, nul) = ("x'0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'", "a\0b");
    for (value, reason) in [("", Reason::Empty), (nul, Reason::Malformed), (text, Reason::Malformed)] {
        let path = directory.path().join("app.db");
        let error = AsyncDatabase::builder(&path).key(Vault(value)).open().await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, reason), "{error}");
        assert!(error.to_string().starts_with("the vault in the cellar: the passphrase "), "{error}");
        let given = AsyncDatabase::builder(&path).key(PassphraseKeySource::new(value)).open().await.unwrap_err();
        assert!(given.to_string().starts_with("a secret given by the caller: the passphrase "), "{given}");
        assert!(files(directory.path()).is_empty());
    }
}
