//! A file that has another key when it is opened again: its source is asked anew, and who cannot be helped is told why.
// Its files are made private on Windows by what makes identities.
#![cfg(all(feature = "sqlcipher", any(not(windows), feature = "sops")))]

#[path = "common/cipher.rs"]
mod cipher;
mod common;
#[path = "common/damage.rs"]
mod damage;
#[cfg(windows)]
#[path = "common/rights.rs"]
mod rights;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use common::{Walked, count, kinds, secs, walk};
use futures_util::future::join_all;
use strongroom::database::{Transaction, TransactionOptions};
use strongroom::engine::{Access, Resource as _};
use strongroom::keys::{CandidateKeySource, KeyCandidate, async_trait};
use strongroom::pool::NoRetry;
use strongroom::{
    AsyncDatabase, CachedKeySource, ChainKeySource, Connector as _, DatabaseBuilder, Error, ErrorKind, FileKeySource,
    KeySource, PassphraseKeySource, Reason, Result, Secret, SqlCipherConnector, apply_cipher_key, rusqlite,
};
use tempfile::TempDir;
use tokio::time::timeout;

fn raw(byte: u8) -> Secret {
    Secret::raw_key([byte; 32])
}

/// What a safe answers that others may open meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Key(u8),
    Fails,
    Hangs,
    Panics,
    Nothing,
}

#[derive(Clone)]
struct Safe(Arc<(Mutex<Answer>, AtomicUsize)>);

impl Safe {
    fn new(answer: Answer) -> Self {
        Self(Arc::new((Mutex::new(answer), AtomicUsize::new(0))))
    }

    fn put(&self, answer: Answer) {
        *self.0.0.lock().unwrap() = answer;
    }

    /// How often it was asked since the last look.
    fn asked(&self) -> usize {
        self.0.1.swap(0, SeqCst)
    }
}

#[async_trait]
impl KeySource for Safe {
    async fn resolve(&self) -> Result<Secret> {
        self.0.1.fetch_add(1, SeqCst);
        let answer = *self.0.0.lock().unwrap();
        // Whoever asks may be polled again.
        tokio::task::yield_now().await;
        match answer {
            Answer::Key(byte) => Ok(raw(byte)),
            Answer::Fails => Err(Error::new(ErrorKind::Key, "the safe is shut")),
            Answer::Hangs => std::future::pending().await,
            Answer::Panics => panic!("the safe is on fire"),
            Answer::Nothing => unreachable!("it offers nothing"),
        }
    }

    fn describe(&self) -> String {
        "the safe".into()
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        if *self.0.0.lock().unwrap() == Answer::Nothing {
            return Ok(Vec::new());
        }
        Ok(vec![KeyCandidate { secret: self.resolve().await?, source: self.describe() }])
    }
}

struct Home(TempDir);

impl Home {
    /// A database with one row under the first key.
    async fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let db = home.with(raw(1)).open().await.unwrap();
        db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES ('row')").await.unwrap();
        db.close().await.unwrap();
        home
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("app.db")
    }

    fn with(&self, source: impl KeySource + 'static) -> DatabaseBuilder<SqlCipherConnector> {
        AsyncDatabase::builder(self.path()).key(source).retry(NoRetry).pool_max(4)
    }

    /// As another process would: from the key that it opens with to another one.
    async fn rekey(&self, from: u8, to: u8) {
        let db = self.with(raw(from)).open().await.unwrap();
        db.rekey(raw(to)).await.unwrap();
        db.close().await.unwrap();
    }
}

/// Opens with `source`, lets go, has the key changed, stores the new one, and works on.
async fn works_on(home: &Home, source: impl KeySource + 'static, store: impl FnOnce(), what: &str) -> AsyncDatabase {
    let db = home.with(source).open().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(count(&db).await, 1, "{what}");
    db.suspend().await.unwrap();
    home.rekey(1, 2).await;
    store();
    // The very first call, whichever that is.
    db.execute("INSERT INTO t VALUES ('more')", ()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(count(&db).await, 2, "{what}");
    assert_eq!(db.stats().total_errors, 0, "{what}");
    db
}

fn key_file(path: &Path, byte: u8) {
    std::fs::write(path, format!("{byte:02x}").repeat(32)).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    #[cfg(windows)]
    rights::make_private(path);
}

#[tokio::test]
async fn a_source_that_has_the_new_key_by_then_is_asked_and_callers_notice_nothing() {
    let home = Home::new().await;
    let safe = Safe::new(Answer::Key(1));
    let db = works_on(&home, safe.clone(), || safe.put(Answer::Key(2)), "a source of one's own").await;
    assert_eq!(safe.asked(), 2);
    assert_eq!(db.key_source(), Some("the safe"));

    let home = Home::new().await;
    let file = home.0.path().join("app.key");
    key_file(&file, 1);
    works_on(&home, FileKeySource::new(&file).raw_key(), || key_file(&file, 2), "a file").await;

    let home = Home::new().await;
    key_file(&file, 1);
    let remembers = CachedKeySource::new(FileKeySource::new(&file).raw_key(), secs(3600));
    works_on(&home, remembers, || key_file(&file, 2), "one that remembers the old key").await;

    let home = Home::new().await;
    let both = CandidateKeySource::new(raw(2)).or(raw(1));
    works_on(&home, both, || {}, "two that never change").await;

    let home = Home::new().await;
    let safe = Safe::new(Answer::Key(1));
    let chain = ChainKeySource::new(safe.clone()).or(raw(3));
    works_on(&home, chain, || safe.put(Answer::Key(2)), "a chain").await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_program_and_a_configuration_are_asked_anew_too() {
    let home = Home(tempfile::tempdir().unwrap());
    let passphrase = home.0.path().join("passphrase");
    std::fs::write(&passphrase, "of last year").unwrap();
    let program = || strongroom::CommandKeySource::new("cat").args([&passphrase]);
    let db = home.with(program()).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES ('row')").await.unwrap();
    db.suspend().await.unwrap();
    let other = home.with(program()).open().await.unwrap();
    std::fs::write(&passphrase, "of this year").unwrap();
    other.rekey(program()).await.unwrap();
    other.close().await.unwrap();
    assert_eq!(count(&db).await, 1);
}

#[tokio::test]
async fn a_source_without_the_new_key_is_asked_once_a_call_and_its_callers_are_told() {
    let home = Home::new().await;
    let safe = Safe::new(Answer::Key(1));
    let db = home.with(safe.clone()).open().await.unwrap();
    db.suspend().await.unwrap();
    home.rekey(1, 2).await;
    safe.asked();
    for _ in 0..3 {
        let error = db.fetch_value::<String>("SELECT a FROM t", ()).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Encryption, Reason::WrongKey), "{error}");
        let text = error.to_string();
        assert!(text.contains("the key of the file was changed by another process"), "{text}");
        assert!(text.contains("the safe does not offer the new one; store the new key there"), "{text}");
        assert_eq!(safe.asked(), 1);
    }
    // As soon as it is there, everything works.
    safe.put(Answer::Key(2));
    assert_eq!(count(&db).await, 1);
    // And the next time.
    db.suspend().await.unwrap();
    home.rekey(2, 3).await;
    safe.put(Answer::Key(3));
    assert_eq!(count(&db).await, 1);
    db.close().await.unwrap();
    assert_eq!(db.execute("DELETE FROM t", ()).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_secret_that_never_changes_is_not_kept_and_its_caller_is_told() {
    let home = Home::new().await;
    for source in [Box::new(raw(1)) as Box<dyn KeySource>, Box::new(PassphraseKeySource::new(raw(1)))] {
        let db = home.with(source).open().await.unwrap();
        db.suspend().await.unwrap();
        home.rekey(1, 2).await;
        let error = db.fetch_value::<String>("SELECT a FROM t", ()).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Encryption, Reason::WrongKey), "{error}");
        let text = error.to_string();
        assert!(text.contains("was changed by another process") && text.contains("open the database anew"), "{text}");
        home.rekey(2, 1).await;
        assert_eq!(count(&db).await, 1);
    }
}

#[tokio::test]
async fn many_who_come_at_once_share_a_question() {
    let home = Home::new().await;
    let safe = Safe::new(Answer::Key(1));
    let connector = SqlCipherConnector::new(home.path()).key(safe.clone());
    connector.connect(Access::Write).await.unwrap().close().await.unwrap();
    connector.release().await.unwrap();
    home.rekey(1, 2).await;
    for (answer, works) in [(Answer::Key(1), false), (Answer::Key(2), true)] {
        safe.put(answer);
        safe.asked();
        let opened = join_all((0..8).map(|_| connector.connect(Access::Read))).await;
        assert!(opened.iter().all(|outcome| outcome.is_ok() == works), "{opened:?}");
        // Who came while it was asked already asks once more.
        let asked = safe.asked();
        assert!(if works { asked == 1 } else { asked <= 2 }, "{asked} times");
    }
}

#[tokio::test]
async fn a_source_that_fails_hangs_or_panics_keeps_nobody_for_ever_and_works_later() {
    let home = Home::new().await;
    let safe = Safe::new(Answer::Key(1));
    let db = home.with(safe.clone()).open().await.unwrap();
    db.suspend().await.unwrap();
    home.rekey(1, 2).await;
    let ask = || db.fetch_value::<String>("SELECT a FROM t", ());
    safe.put(Answer::Fails);
    let error = ask().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key, "{error}");
    let text = error.to_string();
    assert!(text.contains("was changed by another process") && text.contains("the safe is shut"), "{text}");
    safe.put(Answer::Nothing);
    assert!(ask().await.unwrap_err().to_string().contains("it offers no key"));
    safe.put(Answer::Panics);
    ask().await.unwrap_err();
    safe.put(Answer::Hangs);
    timeout(secs(1), ask()).await.unwrap_err();
    let limited = db.with_timeout(secs(1));
    let late = limited.fetch_value::<String>("SELECT a FROM t", ()).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    safe.put(Answer::Key(2));
    assert_eq!(timeout(secs(20), count(&db)).await.expect("somebody is in the way"), 1);
}

#[tokio::test]
async fn a_call_that_is_dropped_at_any_moment_keeps_nobody_from_the_new_key() {
    let home = Home::new().await;
    let safe = Safe::new(Answer::Key(1));
    let db = home.with(safe.clone()).open().await.unwrap();
    let (mut old, mut done) = (1, false);
    for polls in 0..200 {
        db.suspend().await.unwrap();
        home.rekey(old, old % 2 + 1).await;
        old = old % 2 + 1;
        safe.put(Answer::Key(old));
        if let Walked::Done(outcome) = walk(db.fetch_value::<String>("SELECT a FROM t", ()), polls).await {
            outcome.unwrap();
            assert!(polls > 3, "too few polls to tell anything");
            done = true;
        }
        assert_eq!(timeout(secs(20), count(&db)).await.expect("somebody is in the way"), 1, "after {polls} polls");
        if done {
            return;
        }
    }
    panic!("it never came to its end");
}

#[tokio::test]
async fn every_way_to_open_a_file_finds_the_new_key() {
    type Way = fn(DatabaseBuilder<SqlCipherConnector>) -> DatabaseBuilder<SqlCipherConnector>;
    let salt = [5; 16];
    let ways: [(&str, bool, Way); 3] = [
        ("reading", false, |builder| builder.read_only()),
        ("alone", false, |builder| builder.exclusive()),
        ("a header that is not encrypted", true, |builder| builder.plaintext_header_with([5; 16])),
    ];
    for (what, has_plain_header, way) in ways {
        let home = if has_plain_header { Home(tempfile::tempdir().unwrap()) } else { Home::new().await };
        let safe = Safe::new(Answer::Key(1));
        let as_it_is = |byte| {
            let builder = home.with(raw(byte));
            if has_plain_header { builder.plaintext_header_with(salt) } else { builder }
        };
        if has_plain_header {
            let db = as_it_is(1).open().await.unwrap();
            db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES ('row')").await.unwrap();
            db.close().await.unwrap();
        }
        let db = way(home.with(safe.clone())).open().await.unwrap();
        assert_eq!(count(&db).await, 1, "{what}");
        db.suspend().await.unwrap();
        let other = as_it_is(1).open().await.unwrap();
        other.rekey(raw(2)).await.unwrap();
        other.close().await.unwrap();
        let error = db.fetch_value::<String>("SELECT a FROM t", ()).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Encryption, Reason::WrongKey), "{what}: {error}");
        safe.put(Answer::Key(2));
        assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(1), "{what}");
    }
}

#[tokio::test]
async fn a_change_of_key_begins_with_the_key_that_the_file_has_and_its_source_is_asked_from_then_on() {
    let home = Home::new().await;
    let (safe, new) = (Safe::new(Answer::Key(1)), Safe::new(Answer::Key(3)));
    let db = home.with(safe.clone()).open().await.unwrap();
    db.suspend().await.unwrap();
    home.rekey(1, 2).await;
    safe.put(Answer::Key(2));
    db.rekey(new.clone()).await.unwrap();
    db.suspend().await.unwrap();
    home.rekey(3, 4).await;
    safe.asked();
    new.asked();
    new.put(Answer::Key(4));
    assert_eq!(count(&db).await, 1);
    assert_eq!((safe.asked(), new.asked()), (0, 1));

    // Also of a key that the source made.
    let file = || FileKeySource::new(home.0.path().join("fresh.key")).raw_key();
    key_file(&home.0.path().join("fresh.key"), 4);
    db.rekey_fresh(file()).await.unwrap();
    db.suspend().await.unwrap();
    let other = home.with(file()).open().await.unwrap();
    other.rekey_fresh(file()).await.unwrap();
    other.close().await.unwrap();
    assert_eq!(count(&db).await, 1);
}

#[tokio::test]
async fn what_has_become_of_a_file_but_a_change_of_key_is_said() {
    let home = Home::new().await;
    let safe = Safe::new(Answer::Key(1));
    let db = home.with(safe.clone()).open().await.unwrap();
    let ask = || db.fetch_value::<String>("SELECT a FROM t", ());
    // Another database under another salt, with a key that the source has: that is what the path and the source say.
    db.suspend().await.unwrap();
    let moved = home.path().with_extension("moved");
    std::fs::rename(home.path(), &moved).unwrap();
    let other = home.with(raw(2)).open().await.unwrap();
    other.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES ('other')").await.unwrap();
    other.close().await.unwrap();
    assert!(ask().await.unwrap_err().to_string().contains("or another file was put in its place"));
    safe.put(Answer::Key(2));
    assert_eq!(ask().await.unwrap().as_deref(), Some("other"));
    // One that was decrypted is never taken for an encrypted one.
    db.suspend().await.unwrap();
    std::fs::remove_file(home.path()).unwrap();
    let plain = AsyncDatabase::builder(home.path()).open().await.unwrap();
    plain.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES ('plain')").await.unwrap();
    plain.close().await.unwrap();
    safe.asked();
    assert_eq!(ask().await.unwrap_err().reason(), Reason::NotEncrypted);
    // Damage is no other key.
    std::fs::rename(&moved, home.path()).unwrap();
    safe.put(Answer::Key(1));
    assert_eq!(ask().await.unwrap().as_deref(), Some("row"));
    db.suspend().await.unwrap();
    damage::flip(&home.path(), 2000);
    safe.asked();
    let error = ask().await.unwrap_err();
    assert_eq!((error.reason(), safe.asked()), (Reason::Damaged, 0), "{error}");
}

#[tokio::test]
async fn a_program_that_changes_the_key_of_an_open_file_is_noticed_and_the_next_call_works() {
    let home = Home::new().await;
    let safe = Safe::new(Answer::Key(1));
    let db = home.with(safe.clone()).open().await.unwrap();
    assert_eq!(count(&db).await, 1);
    db.execute("INSERT INTO t VALUES ('more')", ()).await.unwrap();
    let connection = rusqlite::Connection::open(home.path()).unwrap();
    apply_cipher_key(&connection, &raw(1)).unwrap();
    connection.query_row("SELECT count(*) FROM t", (), |_| Ok(())).unwrap();
    let salt: String = connection.query_row("PRAGMA cipher_salt", (), |row| row.get(0)).unwrap();
    let change = |byte: u8| {
        connection.execute_batch(&format!("PRAGMA rekey = \"x'{}{salt}'\"", format!("{byte:02x}").repeat(32))).unwrap();
        safe.put(Answer::Key(byte));
    };
    change(2);
    // Each connection that was open meets it once, and says so; nothing was done then.
    let mut errors = Vec::new();
    let mut rows = 2;
    for _ in 0..6 {
        match db.execute("INSERT INTO t VALUES ('more')", ()).await {
            Ok(_) => rows += 1,
            Err(error) => errors.push(error),
        }
        errors.extend(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.err());
    }
    assert_eq!(errors.len(), 2, "{errors:?}");
    for error in errors {
        assert_eq!(kinds(&error), (ErrorKind::Encryption, Reason::WrongKey), "{error}");
        assert!(error.is_transient() && error.to_string().contains("another process has changed it"), "{error}");
        assert!(error.to_string().contains("call again, and the key source is asked for the new key"), "{error}");
    }
    assert_eq!(count(&db).await, rows);
    // A transaction that may run again notices nothing.
    change(3);
    let insert = async |tx: &mut Transaction<SqlCipherConnector>| {
        tx.execute("INSERT INTO t VALUES ('again')", ()).await.map(drop)
    };
    db.transaction_with(TransactionOptions::new(), insert).await.unwrap();
    let error = db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(count(&db).await, rows + 1);
}
