//! Sources in a row of which one makes the key: none is made, and none replaced, behind one that may have a key and cannot
//! say so now.
#![cfg(feature = "sqlcipher")]

#[path = "common/cipher.rs"]
mod cipher;

use std::path::Path;
use std::sync::{Arc, Mutex};

use cipher::{create, read, refusal};
use strongroom::keys::{CandidateKeySource, async_trait};
use strongroom::pool::NoRetry;
use strongroom::{
    AsyncDatabase, CachedKeySource, ChainKeySource, DatabaseBuilder, Error, ErrorKind, FileKeySource, KeySource,
    Reason, Result, Secret, SqlCipherConnector,
};
use tempfile::TempDir;

/// Every reason but those of a source that has nothing.
const MAY_HAVE_ONE: [Reason; 6] =
    [Reason::Locked, Reason::ProgramFailed, Reason::ProgramMissing, Reason::Exposed, Reason::NotPermitted, Reason::Io];

/// A keyring, say, that is locked from time to time.
#[derive(Clone)]
struct Doubtful {
    secret: Secret,
    trouble: Arc<Mutex<Option<Reason>>>,
}

impl Doubtful {
    fn new(trouble: Option<Reason>) -> Self {
        Self { secret: Secret::raw_key([1; 32]), trouble: Arc::new(Mutex::new(trouble)) }
    }

    fn is(&self, trouble: Option<Reason>) {
        *self.trouble.lock().unwrap() = trouble;
    }
}

#[async_trait]
impl KeySource for Doubtful {
    async fn resolve(&self) -> Result<Secret> {
        match *self.trouble.lock().unwrap() {
            None => Ok(self.secret.clone()),
            Some(reason) => Err(Error::new(ErrorKind::Key, "it does not answer").because(reason)),
        }
    }

    fn describe(&self) -> String {
        "the doubtful source".into()
    }
}

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(&self, source: impl KeySource + 'static) -> DatabaseBuilder<SqlCipherConnector> {
        AsyncDatabase::builder(self.0.path().join("app.db")).key(source).retry(NoRetry)
    }

    fn key(&self) -> FileKeySource {
        FileKeySource::new(self.0.path().join("app.key")).raw_key().create_if_missing(true)
    }

    fn has(&self, name: &str) -> bool {
        Path::exists(&self.0.path().join(name))
    }
}

type Row = fn(Doubtful, FileKeySource) -> Arc<dyn KeySource>;

const ROWS: [Row; 4] = [
    |first, key| Arc::new(ChainKeySource::new(first).or(key)),
    |first, key| Arc::new(CandidateKeySource::new(first).or(key)),
    |first, key| Arc::new(ChainKeySource::new(ChainKeySource::new(first)).or(CandidateKeySource::new(key))),
    |first, key| Arc::new(CachedKeySource::new(ChainKeySource::new(first).or(key), std::time::Duration::from_secs(9))),
];

#[tokio::test]
async fn a_new_database_gets_no_key_from_behind_one_that_may_have_its_own() {
    for (number, row) in ROWS.into_iter().enumerate() {
        for reason in MAY_HAVE_ONE {
            let (home, first) = (Home::new(), Doubtful::new(Some(reason)));
            let chain = row(first.clone(), home.key());
            let error = refusal(home.with(Arc::clone(&chain))).await;
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, reason), "{number}: {error}");
            assert!(error.to_string().contains("the doubtful source may have a key"), "{number}: {error}");
            assert!(!home.has("app.db") && !home.has("app.key.next") && !home.has("app.key"), "{number} {reason:?}");
            // Answering again, it gives its own.
            first.is(None);
            create(home.with(Arc::clone(&chain))).await;
            assert!(!home.has("app.key"), "{number} {reason:?}");
            assert_eq!(read(home.with(first)).await.unwrap(), "row", "{number} {reason:?}");
        }
    }
}

#[tokio::test]
async fn a_new_database_gets_the_key_that_another_one_has_whatever_the_first_says() {
    for (number, row) in ROWS.into_iter().enumerate() {
        for reason in MAY_HAVE_ONE {
            let home = Home::new();
            let made = home.key().create().await.unwrap().unwrap();
            home.key().settle(&made).await.unwrap();
            let given = home.key().create_if_missing(false);
            let chain = row(Doubtful::new(Some(reason)), given);
            create(home.with(Arc::clone(&chain))).await;
            assert_eq!(read(home.with(chain)).await.unwrap(), "row", "{number} {reason:?}");
        }
    }
}

#[tokio::test]
async fn a_change_of_key_replaces_none_behind_one_that_may_have_its_own() {
    for (number, row) in ROWS.into_iter().enumerate() {
        for reason in MAY_HAVE_ONE {
            let (home, first) = (Home::new(), Doubtful::new(None));
            let chain = row(first.clone(), home.key());
            create(home.with(Arc::clone(&chain))).await;
            let made = home.key().create().await.unwrap().unwrap();
            home.key().settle(&made).await.unwrap();
            let db = home.with(Arc::clone(&chain)).open().await.unwrap();
            first.is(Some(reason));
            chain.forget();
            let error = db.rekey_fresh(Arc::clone(&chain)).await.unwrap_err();
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, reason), "{number}: {error}");
            assert!(!home.has("app.key.next"), "{number} {reason:?}");
            db.close().await.unwrap();
            first.is(None);
            assert_eq!(read(home.with(row(first, home.key()))).await.unwrap(), "row", "{number} {reason:?}");
        }
    }
}

#[tokio::test]
async fn one_that_says_that_it_has_none_is_passed_over() {
    for row in ROWS {
        for reason in [Reason::Missing, Reason::Empty] {
            let (home, first) = (Home::new(), Doubtful::new(Some(reason)));
            let chain = row(first, home.key());
            create(home.with(Arc::clone(&chain))).await;
            assert!(home.has("app.key"), "{reason:?}");
            let before = home.key().resolve().await.unwrap();
            let db = home.with(Arc::clone(&chain)).open().await.unwrap();
            db.rekey_fresh(Arc::clone(&chain)).await.unwrap();
            db.close().await.unwrap();
            assert_ne!(home.key().resolve().await.unwrap().expose(), before.expose());
            assert_eq!(read(home.with(chain)).await.unwrap(), "row", "{reason:?}");
        }
    }
}

#[tokio::test]
async fn the_one_that_made_a_key_settles_it_whatever_the_others_say() {
    for row in ROWS {
        let (home, first) = (Home::new(), Doubtful::new(Some(Reason::Missing)));
        let chain = row(first.clone(), home.key());
        let made = chain.create().await.unwrap().unwrap();
        assert!(home.has("app.key.next"));
        first.is(Some(Reason::Locked));
        chain.settle(&made).await.unwrap();
        assert!(home.has("app.key") && !home.has("app.key.next"));
        first.is(None);
        let next = home.key().replace().await.unwrap();
        // Offered by the second alone, so that one settles it, and the first is not asked to.
        chain.settle(&next).await.unwrap();
        assert_eq!(home.key().resolve().await.unwrap().expose(), next.expose());
        // Nobody has it.
        std::fs::remove_file(home.0.path().join("app.key")).unwrap();
        first.is(Some(Reason::Locked));
        let error = chain.settle(&next).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Locked), "{error}");
    }
}
