//! Several keys of which one fits: the time of a change of key.
#![cfg(feature = "sqlcipher")]

#[path = "common/cipher.rs"]
mod cipher;
#[path = "common/named.rs"]
mod named;

use std::sync::Arc;

use cipher::{create, files, keyed, plain, read, refusal};
use named::Named;
use strongroom::database::BackupOptions;
use strongroom::keys::{CandidateKeySource, KeyCandidate, async_trait};
use strongroom::pool::NoRetry;
use strongroom::{
    AsyncDatabase, DatabaseBuilder, EnvKeySource, ErrorKind, KeySource, PassphraseKeySource, Reason, Result, Secret,
    SqlCipherConnector,
};
use tempfile::TempDir;

fn raw(byte: u8) -> Secret {
    Secret::raw_key([byte; 32])
}

fn both() -> CandidateKeySource {
    CandidateKeySource::new(Named("the new key", 2)).or(Named("the old key", 1))
}

fn with(path: &std::path::Path, source: impl KeySource + 'static) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(path).key(source).retry(NoRetry)
}

#[tokio::test]
async fn the_one_that_fits_opens_the_file_and_is_named() {
    let directory = TempDir::new().unwrap();
    for (byte, name) in [(1, "the old key"), (2, "the new key")] {
        let path = directory.path().join(format!("{byte}.db"));
        create(keyed(&path, raw(byte))).await;
        let sources: [Box<dyn KeySource>; 3] =
            [Box::new(both()), Box::new(Arc::new(both())), Box::new(Box::new(both()))];
        for source in sources {
            let db = with(&path, source).build();
            assert_eq!(db.key_source(), None, "it was not opened yet");
            assert_eq!(db.fetch_value::<String>("SELECT a FROM t", ()).await.unwrap().as_deref(), Some("row"));
            assert_eq!(db.key_source(), Some(name));
            // Further connections, and those after a sleep, have the same key.
            db.suspend().await.unwrap();
            db.execute("INSERT INTO t VALUES ('more')", ()).await.unwrap();
            db.close().await.unwrap();
        }
        assert_eq!(read(keyed(&path, raw(byte))).await.unwrap(), "row");
    }
}

#[tokio::test]
async fn passphrases_are_tried_like_raw_keys() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(keyed(&path, "of last year").cipher_kdf_iter(1000)).await;
    let source = CandidateKeySource::new(PassphraseKeySource::new("of this year"))
        .or(PassphraseKeySource::new(raw(1)))
        .or(PassphraseKeySource::new("of last year"));
    assert_eq!(read(with(&path, source).cipher_kdf_iter(1000)).await.unwrap(), "row");
}

#[tokio::test]
async fn where_none_fits_the_error_names_all_and_nothing_is_changed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(keyed(&path, raw(3))).await;
    let before = files(directory.path());
    let error = refusal(with(&path, both())).await;
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Encryption, Reason::WrongKey));
    assert!(error.to_string().contains("none of the keys fits (the new key, the old key)"), "{error}");
    assert_eq!(files(directory.path()), before);
}

#[tokio::test]
async fn a_new_file_gets_the_first_key() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(with(&path, both())).await;
    assert_eq!(refusal(keyed(&path, raw(1))).await.reason(), Reason::WrongKey);
    assert_eq!(read(keyed(&path, raw(2))).await.unwrap(), "row");
}

#[tokio::test]
async fn what_has_nothing_is_passed_over() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(keyed(&path, raw(1))).await;
    let missing = || EnvKeySource::new("STRONGROOM_TEST_NO_SUCH_KEY");
    let source = CandidateKeySource::new(missing()).or(both()).or(missing());
    assert_eq!(read(with(&path, source)).await.unwrap(), "row");
    let error = refusal(with(&path, CandidateKeySource::new(missing()).or(missing()))).await;
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Missing));
}

#[tokio::test]
async fn no_other_trouble_is_taken_for_a_wrong_key() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("plain.db");
    create(plain(&path)).await;
    let error = refusal(with(&path, both())).await;
    assert_eq!(error.reason(), Reason::NotEncrypted);
    assert!(!error.to_string().contains("none of the keys"), "{error}");
    let empty = CandidateKeySource::new(both()).or(PassphraseKeySource::new(""));
    let error = refusal(with(&directory.path().join("new.db"), empty)).await;
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Empty));
    assert!(!directory.path().join("new.db").exists());
}

#[tokio::test]
async fn a_source_that_offers_nothing_never_means_no_encryption() {
    struct Nothing;

    #[async_trait]
    impl KeySource for Nothing {
        async fn resolve(&self) -> Result<Secret> {
            Ok(raw(1))
        }

        fn describe(&self) -> String {
            "nothing".into()
        }

        async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
            Ok(Vec::new())
        }
    }

    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    let error = refusal(with(&path, Nothing)).await;
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Key, Reason::Missing));
    assert!(!path.exists());
}

/// As docs/maintenance.md says it: a copy under the new key takes the place of the file.
#[tokio::test]
async fn a_change_of_key_by_a_copy_opens_before_and_after_with_the_same_source() {
    let directory = TempDir::new().unwrap();
    let (path, copy) = (directory.path().join("app.db"), directory.path().join("app.db-rekeyed"));
    create(keyed(&path, raw(1))).await;
    let db = with(&path, both()).exclusive().open().await.unwrap();
    assert_eq!(db.key_source(), Some("the old key"));
    db.backup_with(&copy, BackupOptions::new().key(Named("the new key", 2)).replace(true)).await.unwrap();
    assert!(db.close().await.unwrap().is_clean());
    assert_eq!(read(with(&path, both())).await.unwrap(), "row", "cut off here, the old key opens it");
    std::fs::rename(&copy, &path).unwrap();
    let db = with(&path, both()).open().await.unwrap();
    assert_eq!(db.key_source(), Some("the new key"));
    assert_eq!(db.fetch_value::<String>("SELECT a FROM t", ()).await.unwrap().as_deref(), Some("row"));
}
