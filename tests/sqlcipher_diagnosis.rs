//! Every way a file can refuse to open has its own kind, reason and sentence; a refusal changes nothing on the disk and
//! is not repeated.

#![cfg(feature = "sqlcipher")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use strongroom::engine::Phase;
use strongroom::pool::{Attempt, NoRetry};
use strongroom::{
    AsyncDatabase, DatabaseBuilder, Error, ErrorKind, PassphraseKeySource, Reason, RetryPolicy, Secret,
    SqlCipherConnector, rusqlite,
};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;

use cipher::{create, files, keyed, refusal};

/// Would try anything three times; counts how often it could have.
#[derive(Clone, Default)]
struct Eager(Arc<AtomicU32>);

impl RetryPolicy for Eager {
    fn next_delay(&self, attempt: Attempt<'_>) -> Option<Duration> {
        self.0.fetch_add(1, Ordering::SeqCst);
        (attempt.error.is_transient() && attempt.number < 3).then_some(Duration::from_millis(1))
    }
}

fn plain(path: &Path) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(path).retry(NoRetry)
}

fn raw(path: &Path) -> DatabaseBuilder<SqlCipherConnector> {
    keyed(path, Secret::raw_key([7; 32]))
}

/// Opens in vain, and looks that the attempt left no trace.
async fn diagnose(builder: DatabaseBuilder<SqlCipherConnector>, directory: &TempDir) -> Error {
    let before = files(directory.path());
    let eager = Eager::default();
    let db = builder.retry(eager.clone()).build();
    let error = db.connect().await.expect_err("this must not open");
    let attempts = if error.reason() == Reason::EmptyFile { 3 } else { 1 };
    assert_eq!(eager.0.load(Ordering::SeqCst), attempts, "attempts at: {error}");
    assert_eq!(db.stats().total_errors, u64::from(attempts));
    assert_eq!((db.pool_size(), db.stats().active_connections), (0, 0));
    assert_eq!(error.phase(), Some(Phase::Connect), "{error}");
    assert!(!error.is_transient(), "who tries again outside would only repeat: {error}");
    assert!(files(directory.path()) == before, "a failed open changed the directory: {error}");
    error
}

#[tokio::test]
async fn every_row_of_the_table_has_its_own_reason_and_sentence() {
    use ErrorKind::{Connection, Encryption, Storage};

    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    create(raw(&at("encrypted.db"))).await;
    create(plain(&at("plain.db"))).await;
    std::fs::write(at("empty.db"), "").unwrap();
    std::fs::write(at("text.db"), "id,name\n1,alice\n".repeat(64)).unwrap();
    std::fs::write(at("odd.db"), [0xAB; 1000]).unwrap();
    std::fs::write(at("short.db"), "hello").unwrap();
    std::fs::create_dir(at("directory.db")).unwrap();

    let mut table = Vec::new();
    let mut row = async |builder, kind, reason, words: &str| {
        let error = diagnose(builder, &directory).await;
        assert_eq!((error.kind(), error.reason()), (kind, reason), "{error}");
        let sentence = error.to_string().replace(directory.path().join("").to_str().unwrap(), "/");
        assert!(sentence.starts_with("cannot open /") && sentence.contains(words), "{sentence}");
        table.push(sentence.split_once(": ").unwrap().1.to_owned());
    };
    let wrong = keyed(&at("encrypted.db"), "wrong");
    row(wrong, Encryption, Reason::WrongKey, "the key does not open it; check the key").await;
    row(plain(&at("encrypted.db")), Encryption, Reason::KeyMissing, "no key was given; give the key").await;
    row(raw(&at("plain.db")), Encryption, Reason::NotEncrypted, "is not encrypted; open it without a key").await;
    row(raw(&at("empty.db")), Encryption, Reason::EmptyFile, "exists but is empty").await;
    row(raw(&at("directory.db")), Connection, Reason::NotAFile, "it is a directory").await;
    row(
        raw(&at("missing/a.db")),
        Connection,
        Reason::NotFound,
        "there is no directory /missing; create the directory first",
    )
    .await;
    let missing = raw(&at("missing.db")).create_if_missing(false);
    row(missing, Connection, Reason::NotFound, "there is no such file; call .create_if_missing(true)").await;
    row(raw(&at("text.db")), Storage, Reason::NotADatabase, "is not a database").await;
    assert_eq!(table.iter().collect::<BTreeSet<_>>().len(), table.len(), "{table:#?}");

    // The same causes without a key, or in another shape, get the same answer.
    for name in ["text.db", "odd.db", "short.db"] {
        for builder in [raw(&at(name)), plain(&at(name))] {
            assert_eq!(diagnose(builder, &directory).await.reason(), Reason::NotADatabase, "{name}");
        }
    }
    assert_eq!(diagnose(plain(&at("empty.db")), &directory).await.reason(), Reason::EmptyFile);
    assert_eq!(diagnose(plain(&at("directory.db")), &directory).await.reason(), Reason::NotAFile);
    assert_eq!(diagnose(raw(&at("text.db/a.db")), &directory).await.reason(), Reason::NotFound);
}

#[tokio::test]
async fn paths_that_are_no_paths_are_refused_before_anything_is_touched() {
    let directory = TempDir::new().unwrap();
    let uri = format!("file:{}/a.db?key=secret", directory.path().display());
    for path in ["", uri.as_str(), "file::memory:?cache=shared", "with\0nul"] {
        let error = refusal(raw(Path::new(path))).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{path:?}: {error}");
        assert!(!error.to_string().contains("secret"));
    }
    let error = refusal(raw(&directory.path().join("a.db")).cipher_compatibility(5)).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(files(directory.path()).is_empty());
}

#[tokio::test]
async fn files_of_older_formats_are_recognised_with_the_level_that_opens_them() {
    for (written, asked) in [(1, 4), (2, 4), (3, 4), (4, 3), (4, 2), (4, 1)] {
        for secret in [Secret::new("right"), Secret::raw_key([7; 32])] {
            let directory = TempDir::new().unwrap();
            let path = directory.path().join("a.db");
            create(keyed(&path, secret.clone()).cipher_compatibility(written)).await;
            let error = diagnose(keyed(&path, secret.clone()).cipher_compatibility(asked), &directory).await;
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Encryption, Reason::OtherCipherSettings));
            // Formats 1 and 2 derive alike; with raw keys 2 and 3 are the same format but for the passphrase.
            let named = error.to_string();
            let level = (1..=4).find(|n| named.contains(&format!(".cipher_compatibility({n})"))).unwrap();
            assert_eq!(cipher::read(keyed(&path, secret).cipher_compatibility(level)).await.unwrap(), "row");
        }
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("a.db");
        create(raw(&path).cipher_compatibility(written)).await;
        let wrong = keyed(&path, Secret::raw_key([8; 32])).cipher_compatibility(asked);
        assert_eq!(diagnose(wrong, &directory).await.reason(), Reason::WrongKey, "written {written}, asked {asked}");
    }
}

#[tokio::test]
async fn the_same_settings_of_the_configuration_lead_to_the_same_words() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    create(raw(&path)).await;
    let builder = AsyncDatabase::builder(&path).key(PassphraseKeySource::new("wrong"));
    let began = std::time::Instant::now();
    let error = builder.retry_delay(Duration::from_secs(60)).open().await.unwrap_err();
    assert_eq!(error.reason(), Reason::WrongKey);
    assert!(began.elapsed() < Duration::from_secs(30), "the default policy waited for a wrong key to become right");
}

/// Writes a database as another program could, with settings of its own.
fn written_elsewhere(path: &Path, settings: &str) {
    let connection = rusqlite::Connection::open(path).unwrap();
    strongroom::apply_cipher_key(&connection, &Secret::new("right")).unwrap();
    let sql = format!("{settings}; CREATE TABLE t (a); INSERT INTO t VALUES ('row')");
    connection.execute_batch(&sql).unwrap();
}

#[tokio::test]
async fn other_settings_than_those_of_any_version_look_like_a_wrong_key_and_the_sentence_admits_it() {
    for settings in [
        "PRAGMA kdf_iter = 1000",
        "PRAGMA cipher_page_size = 8192",
        "PRAGMA cipher_use_hmac = OFF",
        "PRAGMA cipher_hmac_algorithm = HMAC_SHA256",
    ] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("a.db");
        written_elsewhere(&path, settings);
        let error = diagnose(keyed(&path, "right"), &directory).await;
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Encryption, Reason::WrongKey), "{settings}: {error}");
        assert!(error.to_string().contains("other cipher settings"), "{settings}: {error}");
        let error = diagnose(plain(&path), &directory).await;
        assert_eq!(error.reason(), Reason::KeyMissing, "{settings}: {error}");
    }
}

#[tokio::test]
async fn a_file_with_a_plaintext_header_is_neither_damaged_nor_unencrypted() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    written_elsewhere(&path, "PRAGMA cipher_plaintext_header_size = 32");
    for builder in [keyed(&path, "right"), plain(&path)] {
        let error = diagnose(builder, &directory).await;
        let named = (error.kind(), error.reason());
        assert_eq!(named, (ErrorKind::Encryption, Reason::OtherCipherSettings), "{error}");
        assert!(error.to_string().contains("cipher_plaintext_header_size"), "{error}");
    }
}

/// SQLCipher reports on the standard error by default, three lines for each wrong key.
#[test]
fn nothing_is_written_to_the_standard_error_however_an_open_fails() {
    const CHILD: &str = "STRONGROOM_TEST_SILENCE";
    const NAME: &str = "nothing_is_written_to_the_standard_error_however_an_open_fails";
    if let Some(path) = std::env::var_os(CHILD) {
        let running = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return running.block_on(async {
            assert_eq!(refusal(keyed(Path::new(&path), "wrong")).await.reason(), Reason::WrongKey);
            assert_eq!(refusal(plain(Path::new(&path))).await.reason(), Reason::KeyMissing);
        });
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    written_elsewhere(&path, "SELECT 1");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", NAME, "--nocapture"]).env(CHILD, &path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
