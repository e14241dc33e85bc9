//! A second process that holds the file: who waits, who fails and with what words, and that all is well once it lets go.

#![cfg(all(feature = "sqlcipher", unix))]

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use strongroom::database::{Event, Observer};
use strongroom::engine::{EngineEvent, Phase};
use strongroom::pool::NoRetry;
use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::{AsyncDatabase, DatabaseBuilder, Error, ErrorKind, PassphraseKeySource, SqlCipherConnector};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;
#[path = "common/other.rs"]
mod other;

use cipher::{create, keyed, refusal};
use other::{Other, key};

fn here(path: &Path) -> DatabaseBuilder<SqlCipherConnector> {
    keyed(path, key()).tuning(Tuning::default().busy_timeout(Duration::from_millis(100))).pool_max(3)
}

#[test]
fn the_other_process() {
    other::be_the_other_process();
}

/// Locked, transient, with the way out.
#[track_caller]
fn busy(error: &Error, phase: Phase) {
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Busy, Some(phase)), "{error:?}");
    assert!(error.is_transient() || phase == Phase::Connect, "{error:?}");
    let text = error.to_string();
    assert!(text.contains("database is locked; another process holds the file"), "{text}");
}

async fn rows(db: &AsyncDatabase) -> i64 {
    db.fetch_value("SELECT count(*) FROM t", ()).await.unwrap().unwrap()
}

const PUT: &str = "INSERT INTO t VALUES ('mine')";

#[tokio::test]
async fn writers_wait_for_a_while_and_say_who_is_in_the_way_while_readers_go_on() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    create(here(&path)).await;
    let mut other = Other::open(&path);
    let db = here(&path).open().await.unwrap();
    other.run("BEGIN IMMEDIATE; INSERT INTO t VALUES ('theirs')");
    let began = Instant::now();
    busy(&db.execute(PUT, ()).await.unwrap_err(), Phase::Statement);
    assert!(began.elapsed() >= Duration::from_millis(90), "it did not wait: {:?}", began.elapsed());
    busy(&db.execute_script(PUT).await.unwrap_err(), Phase::Statement);
    busy(&db.begin().await.unwrap_err(), Phase::Begin);
    busy(&db.transaction(async |tx| tx.execute(PUT, ()).await).await.unwrap_err(), Phase::Begin);
    busy(&db.execute_many("INSERT INTO t VALUES ($1)", [("a",), ("b",)]).await.unwrap_err(), Phase::Begin);
    // Those who wait side by side share a transaction, which does not begin either.
    let crowd = futures_util::future::join_all((0..8).map(|_| db.execute(PUT, ()))).await;
    for outcome in crowd {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Busy);
    }
    assert_eq!(rows(&db).await, 1, "readers see what was committed");

    // Let go of in time: nobody notices.
    let patient = here(&path).tuning(Tuning::default().busy_timeout(Duration::from_secs(20))).open().await.unwrap();
    let (outcome, ()) = tokio::join!(patient.execute(PUT, ()), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        other.run("COMMIT");
    });
    outcome.unwrap();
    assert_eq!(rows(&db).await, 3);
    db.execute(PUT, ()).await.unwrap();
    db.transaction(async |tx| tx.execute(PUT, ()).await).await.unwrap();
    assert_eq!((rows(&db).await, db.stats().total_errors), (5, 0), "no connection was lost over it");
}

#[tokio::test]
async fn a_file_that_another_process_has_for_itself_cannot_be_opened_until_it_lets_go() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    create(here(&path)).await;
    let mut other = Other::open(&path);
    other.run("PRAGMA locking_mode = EXCLUSIVE; INSERT INTO t VALUES ('theirs')");
    let error = refusal(here(&path)).await;
    busy(&error, Phase::Connect);
    assert!(error.to_string().starts_with("cannot open "), "{error}");
    let db = here(&path).build();
    busy(&db.fetch_all("SELECT * FROM t", ()).await.unwrap_err(), Phase::Connect);
    assert_eq!((db.pool_size(), db.stats().total_errors), (0, 1));
    other.run("PRAGMA locking_mode = NORMAL; SELECT count(*) FROM t");
    assert_eq!(rows(&db).await, 2, "the same handle opens it");
    db.execute(PUT, ()).await.unwrap();
}

#[tokio::test]
async fn a_process_killed_with_the_lock_held_is_in_nobodys_way() {
    for exclusive in [false, true] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("a.db");
        create(here(&path)).await;
        let mut other = Other::open(&path);
        if exclusive {
            other.run("PRAGMA locking_mode = EXCLUSIVE");
        }
        other.run("BEGIN IMMEDIATE; INSERT INTO t VALUES ('theirs'), (zeroblob(3000000))");
        let db = here(&path).build();
        let phase = if exclusive { Phase::Connect } else { Phase::Statement };
        busy(&db.execute(PUT, ()).await.unwrap_err(), phase);
        other.kill();
        db.execute(PUT, ()).await.unwrap();
        assert_eq!(rows(&db).await, 2, "what was not committed is gone");
        let health: Option<String> = db.fetch_value("PRAGMA integrity_check", ()).await.unwrap();
        assert_eq!(health.as_deref(), Some("ok"));
    }
}

/// Counts attempts to connect that failed.
#[derive(Clone, Default)]
struct Attempts(Arc<AtomicU32>);

impl Observer for Attempts {
    fn observe(&self, event: &Event<'_>) {
        if matches!(event, Event::ConnectFailed { .. }) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Attempts {
    fn take(&self) -> u32 {
        self.0.swap(0, Ordering::SeqCst)
    }
}

/// Three attempts, as by default, with a short wait for locks.
fn trying(path: &Path, busy_timeout: Duration) -> (DatabaseBuilder<SqlCipherConnector>, Attempts) {
    let attempts = Attempts::default();
    let builder = AsyncDatabase::builder(path).key(PassphraseKeySource::new(key())).observer(attempts.clone());
    let tuning = Tuning::default().busy_timeout(busy_timeout);
    (builder.tuning(tuning).retry_delay(Duration::from_millis(100)), attempts)
}

const SHORT: Duration = Duration::from_millis(60);

#[tokio::test]
async fn a_file_that_another_process_has_for_itself_is_waited_for_once_whoever_connects() {
    let directory = TempDir::new().unwrap();
    let (path, copy) = (directory.path().join("a.db"), directory.path().join("copy.db"));
    create(here(&path)).await;
    let (builder, attempts) = trying(&path, SHORT);
    let asleep = builder.open().await.unwrap();
    asleep.suspend().await.unwrap();
    let mut other = Other::open(&path);
    other.run("PRAGMA locking_mode = EXCLUSIVE; INSERT INTO t VALUES ('theirs')");

    asleep.resume();
    let error = asleep.execute(PUT, ()).await.unwrap_err();
    busy(&error, Phase::Connect);
    assert!(!error.is_transient(), "{error:?}");
    assert_eq!(attempts.take(), 1, "after resume()");

    let (builder, attempts) = trying(&path, SHORT);
    busy(&refusal(builder).await, Phase::Connect);
    assert_eq!(attempts.take(), 1, "open()");

    let (builder, attempts) = trying(&path, SHORT);
    let db = builder.build();
    busy(&db.fetch_all("SELECT * FROM t", ()).await.unwrap_err(), Phase::Connect);
    assert_eq!(attempts.take(), 1, "a read");
    busy(&db.execute(PUT, ()).await.unwrap_err(), Phase::Connect);
    assert_eq!(attempts.take(), 1, "a write");
    busy(&db.backup_to(&copy).await.unwrap_err(), Phase::Connect);
    assert_eq!(attempts.take(), 1, "a copy");
    assert_eq!(db.rekey(PassphraseKeySource::new("another")).await.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(attempts.take(), 0, "a change of key does not ask the pool");

    for (name, builder) in
        [("read_only", trying(&path, SHORT).0.read_only()), ("exclusive", trying(&path, SHORT).0.exclusive())]
    {
        let attempts = Attempts::default();
        let error = refusal(builder.observer(attempts.clone())).await;
        assert_eq!((error.kind(), attempts.take()), (ErrorKind::Busy, 1), "{name}: {error}");
    }

    other.run("PRAGMA locking_mode = NORMAL; SELECT count(*) FROM t");
    assert_eq!(rows(&asleep).await, 2, "the same handle goes on");
    assert_eq!(rows(&db).await, 2);
}

#[tokio::test]
async fn a_lock_that_was_not_waited_for_is_tried_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    create(here(&path)).await;
    let mut other = Other::open(&path);
    other.run("PRAGMA locking_mode = EXCLUSIVE; INSERT INTO t VALUES ('theirs')");
    let (builder, attempts) = trying(&path, Duration::ZERO);
    busy(&refusal(builder).await, Phase::Connect);
    assert_eq!(attempts.take(), 3, "the pauses between the attempts are all the waiting there is");

    // Let go of after the first attempt: the second one finds it free.
    let other = Arc::new(Mutex::new(other));
    let letting_go = LetGo(Mutex::new(Some(Arc::clone(&other))));
    let (builder, attempts) = trying(&path, Duration::ZERO);
    let db = builder.observer(letting_go).open().await.unwrap();
    assert_eq!((rows(&db).await, attempts.take()), (2, 1));
}

/// Has the other process let go when an attempt failed.
struct LetGo(Mutex<Option<Arc<Mutex<Other>>>>);

impl Observer for LetGo {
    fn observe(&self, event: &Event<'_>) {
        if !matches!(event, Event::ConnectFailed { .. }) {
            return;
        }
        if let Some(other) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let mut other = other.lock().unwrap_or_else(PoisonError::into_inner);
            other.run("PRAGMA locking_mode = NORMAL; SELECT count(*) FROM t");
        }
    }
}

/// While the log is copied into the file, we have the lock of the writer for a moment: no other process holds it, and so no
/// call is told so, however little patience there is with others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_copying_of_the_log_is_waited_for_without_patience() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    create(here(&path)).await;
    let copied = Arc::new(AtomicU32::new(0));
    let tuning = Tuning::default().busy_timeout(Duration::ZERO).synchronous(Synchronous::Normal);
    let db =
        keyed(&path, key()).tuning(tuning).retry(NoRetry).observer(Copies(Arc::clone(&copied))).open().await.unwrap();
    let text = "x".repeat(20_000);
    let write = async |number: u32| {
        while copied.load(Ordering::Relaxed) < 40 {
            let outcome = if number.is_multiple_of(2) {
                db.execute("INSERT INTO t VALUES ($1)", (&text,)).await.map(drop)
            } else {
                let work = async |tx: &mut strongroom::Transaction| {
                    tx.execute("INSERT INTO t VALUES ($1)", (&text,)).await.map(drop)
                };
                db.transaction(work).await
            };
            outcome.unwrap_or_else(|error| panic!("{error:?}"));
        }
    };
    futures_util::future::join_all((0..8).map(write)).await;
    db.close().await.unwrap();
}

/// Counts how often the log was copied.
struct Copies(Arc<AtomicU32>);

impl Observer for Copies {
    fn observe(&self, event: &Event<'_>) {
        if matches!(event, Event::Engine(EngineEvent::LogCopied { .. })) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
