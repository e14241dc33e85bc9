//! What those who observe are told of the engine's own work: snapshots that are kept, the log that is copied, keys that are asked
//! for; and of calls that get no connection.
#![cfg(all(feature = "sqlcipher", feature = "testing", target_os = "linux"))]

mod common;
#[path = "common/faults.rs"]
mod faults;
mod toy;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use common::{Home, Kind, eventually, millis, secs, with_table};
use faults::Call;
use strongroom::database::{BackupOptions, EngineEvent, Event, MetricsRecorder, ObservedPool, Observer};
use strongroom::engine::Access;
use strongroom::keys::{ChainKeySource, EnvKeySource};
use strongroom::sqlcipher::{Checkpoints, Synchronous, Tuning};
use strongroom::{AsyncDatabase, ErrorKind, PassphraseKeySource, Secret};
use toy::Toys;

const PASSPHRASE: &str = "zq-never-told-9";

/// What was told, but for calls and connections. It asks the pool for its state whenever it is told something: that takes locks,
/// and would wait for ever under one of them.
#[derive(Clone, Default)]
struct Told {
    engine: Arc<Mutex<Vec<EngineEvent>>>,
    in_vain: Arc<Mutex<Vec<(Access, Duration)>>>,
    pool: Arc<OnceLock<ObservedPool>>,
}

impl Observer for Told {
    fn observe(&self, event: &Event<'_>) {
        match *event {
            Event::Engine(event) => {
                self.pool.get().unwrap().readings();
                self.engine.lock().unwrap().push(event.clone());
            }
            Event::WaitedInVain { access, waited } => {
                self.pool.get().unwrap().readings();
                self.in_vain.lock().unwrap().push((access, waited));
            }
            _ => {}
        }
    }

    fn for_pool(&self, pool: &ObservedPool) -> Option<Box<dyn Observer>> {
        self.pool.set(pool.clone()).unwrap();
        Some(Box::new(self.clone()))
    }
}

impl Told {
    fn count(&self, which: impl Fn(&EngineEvent) -> bool) -> usize {
        self.engine.lock().unwrap().iter().filter(|event| which(event)).count()
    }

    fn kept(&self) -> usize {
        self.count(|event| matches!(event, EngineEvent::SnapshotKept))
    }

    fn ended(&self) -> usize {
        self.count(|event| matches!(event, EngineEvent::SnapshotEnded { .. }))
    }

    /// Takes what was told of the log: frames, what is left, and whether it failed.
    fn copies(&self) -> Vec<(Option<u32>, u32, Option<ErrorKind>)> {
        let events = std::mem::take(&mut *self.engine.lock().unwrap());
        let copies = events.into_iter().filter_map(|event| match event {
            EngineEvent::LogCopied { frames, left, took, error } => {
                assert!(took > Duration::ZERO && took < secs(60), "{took:?}");
                Some((frames, left, error.map(|error| error.kind())))
            }
            _ => None,
        });
        copies.collect()
    }

    /// Takes the sources that were asked, with what they failed with.
    fn asked(&self) -> Vec<(String, Option<ErrorKind>)> {
        let events = std::mem::take(&mut *self.engine.lock().unwrap());
        assert!(!format!("{events:?}").contains(PASSPHRASE), "a key was told");
        let asked = events.into_iter().filter_map(|event| match event {
            EngineEvent::KeyAsked { source, error, .. } => Some((source, error.map(|error| error.kind()))),
            _ => None,
        });
        asked.collect()
    }
}

fn kept() -> Tuning {
    Tuning::default().synchronous(Synchronous::Normal).inline_reads(true).kept_snapshots(true)
}

async fn read(db: &AsyncDatabase) {
    db.fetch_all("SELECT * FROM t", ()).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_that_is_kept_is_told_once_and_so_is_its_end() {
    for kind in Kind::FILES {
        let (home, told, recorder) = (Home::new(kind), Told::default(), Arc::new(MetricsRecorder::new()));
        let db = home.builder().tuning(kept()).observer(told.clone()).observer(Arc::clone(&recorder));
        let db = db.open().await.unwrap();
        with_table(&db).await;
        eventually("a read is kept", || told.ended() == told.kept()).await;
        while told.kept() == 0 {
            read(&db).await;
        }
        let hits = db.engine_stats().snapshot_hits;
        while db.engine_stats().snapshot_hits < hits + 100 {
            read(&db).await;
        }
        // Reads that find it open tell nothing. It may have been swept meanwhile, on a busy machine.
        assert!(told.kept() - told.ended() <= 1 && told.kept() < 50, "{} kept", told.kept());
        // Without another call.
        eventually("what nobody uses is ended", || told.ended() == told.kept()).await;
        let before = told.kept();
        while told.kept() == before {
            db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
            read(&db).await;
        }
        db.close().await.unwrap();
        assert_eq!(told.kept(), told.ended(), "closed");
        assert_eq!(recorder.snapshot().snapshots_kept, told.kept() as u64);
        let events = told.engine.lock().unwrap();
        for event in &*events {
            let EngineEvent::SnapshotEnded { kept } = event else { continue };
            assert!(*kept > Duration::ZERO && *kept < secs(60), "{event:?}");
        }
    }
}

#[tokio::test]
async fn where_no_snapshot_is_kept_none_is_told() {
    let (home, told) = (Home::new(Kind::PlainFile), Told::default());
    let db = home.builder().tuning(kept().kept_snapshots(false)).observer(told.clone()).open().await.unwrap();
    with_table(&db).await;
    for _ in 0..20 {
        read(&db).await;
    }
    db.close().await.unwrap();
    assert_eq!((told.kept(), told.ended()), (0, 0));
}

#[tokio::test]
async fn each_copy_of_the_log_is_told_with_its_pages_whoever_asked_for_it() {
    for kind in Kind::FILES {
        let (home, told, recorder) = (Home::new(kind), Told::default(), Arc::new(MetricsRecorder::new()));
        let tuning = Tuning::default().kept_snapshots(false);
        let db = home.builder().tuning(tuning).observer(told.clone()).observer(Arc::clone(&recorder));
        let db = db.open().await.unwrap();
        with_table(&db).await;
        db.checkpoint().await.unwrap();
        told.copies();

        db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
        let report = db.checkpoint().await.unwrap();
        assert!(report.pending > 0);
        let copies = told.copies();
        assert_eq!(copies[0], (Some(report.pending), 0, None), "{copies:?}");
        assert!(copies[1..].iter().all(|copy| *copy == (Some(0), 0, None)), "then it is cut: {copies:?}");

        // A reader keeps what was written after it from being copied.
        let mut reader = db.begin_with(strongroom::database::TransactionMode::READ).await.unwrap();
        reader.fetch_all("SELECT * FROM t", ()).await.unwrap();
        db.execute("INSERT INTO t (n) VALUES (2)", ()).await.unwrap();
        let report = db.checkpoint().await.unwrap();
        assert!(report.left > 0);
        assert_eq!(told.copies(), [(Some(report.pending - report.left), report.left, None)]);
        reader.rollback().await.unwrap();

        // In the background, when it has become long.
        let big = "INSERT INTO t (n) SELECT value FROM json_each('[1,2,3,4,5,6,7,8]')";
        let mut copied = 0;
        for _ in 0..2000 {
            db.execute(big, ()).await.unwrap();
            copied = told.copies().iter().map(|(frames, ..)| frames.unwrap()).sum();
            if copied >= 900 {
                break;
            }
        }
        eventually("it is copied", || {
            copied += told.copies().iter().map(|(frames, ..)| frames.unwrap()).sum::<u32>();
            copied >= 900
        })
        .await;

        // And at the close.
        db.execute("INSERT INTO t (n) VALUES (3)", ()).await.unwrap();
        db.close().await.unwrap();
        let copies = told.copies();
        let whole = |(frames, left, error): &(Option<u32>, u32, Option<ErrorKind>)| {
            *frames > Some(0) && *left == 0 && error.is_none()
        };
        assert!(copies.iter().any(whole), "{kind:?}: {copies:?}");
        let copying = recorder.snapshot().log_copying;
        assert!(copying.count() >= 5 && copying.sum() > Duration::ZERO, "{copying:?}");
    }
}

#[tokio::test]
async fn a_commit_that_copies_the_log_itself_tells_so_too() {
    let (home, told) = (Home::new(Kind::PlainFile), Told::default());
    let tuning = Tuning::default().checkpoints(Checkpoints::AtCommit);
    let db = home.builder().tuning(tuning).observer(told.clone()).open().await.unwrap();
    with_table(&db).await;
    let row = "INSERT INTO t (n) SELECT value FROM json_each('[1,2,3]')";
    for _ in 0..2000 {
        db.execute(row, ()).await.unwrap();
        if let [(frames, left, None)] = told.copies()[..] {
            assert!(frames >= Some(1000) && left == 0, "{frames:?} {left}");
            return;
        }
    }
    panic!("the log became long, and no commit told that it copied it");
}

#[tokio::test]
async fn a_copy_of_the_log_that_fails_is_told_with_its_error() {
    let (home, told) = (Home::new(Kind::KeyedFile), Told::default());
    let db = home.builder().observer(told.clone()).open().await.unwrap();
    with_table(&db).await;
    told.copies();
    let file = home.directory.path().canonicalize().unwrap().join("app.db");
    faults::fail(&file, Call::Sync, 0, usize::MAX, libc::EIO);
    db.checkpoint().await.unwrap_err();
    assert!(faults::heal(&file) > 0, "nothing was synced");
    let copies = told.copies();
    assert_eq!(copies.iter().map(|copy| copy.2).collect::<Vec<_>>(), [Some(ErrorKind::Storage)]);
    assert!(copies[0].1 > 0, "nothing is relied on: {copies:?}");
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_asked_for_is_told_by_its_source_and_never_the_key() {
    let (home, told, recorder) = (Home::new(Kind::PlainFile), Told::default(), Arc::new(MetricsRecorder::new()));
    // One that has nothing, and then one that answers.
    let chain = || ChainKeySource::new(EnvKeySource::new("NO_SUCH_KEY")).or(PassphraseKeySource::new(PASSPHRASE));
    let db = AsyncDatabase::builder(home.path()).key(chain()).observer(told.clone()).observer(Arc::clone(&recorder));
    let db = db.open().await.unwrap();
    with_table(&db).await;
    let given = ("a secret given by the caller".to_owned(), None);
    assert_eq!(told.asked(), std::slice::from_ref(&given), "once, whatever is opened");

    let copy = home.directory.path().join("copy.db");
    db.backup_with(&copy, BackupOptions::new().key(PassphraseKeySource::new(PASSPHRASE))).await.unwrap();
    assert_eq!(told.asked(), std::slice::from_ref(&given), "for a copy");
    let missing = BackupOptions::new().key(EnvKeySource::new("NO_SUCH_KEY"));
    db.backup_with(home.directory.path().join("other.db"), missing).await.unwrap_err();
    let [(source, Some(ErrorKind::Key))] = &told.asked()[..] else { panic!("it has failed") };
    assert!(source.contains("NO_SUCH_KEY"), "{source}");

    db.rekey(PassphraseKeySource::new(Secret::raw_key([3; 32]))).await.unwrap();
    assert_eq!(told.asked(), [given], "for another key");
    db.close().await.unwrap();
    assert_eq!(recorder.snapshot().key_asking.count(), 4, "also what failed");
}

#[tokio::test]
async fn a_source_that_has_no_key_is_told_before_the_open_fails() {
    let (home, told) = (Home::new(Kind::PlainFile), Told::default());
    let db = AsyncDatabase::builder(home.path()).key(EnvKeySource::new("NO_SUCH_KEY")).observer(told.clone());
    db.open().await.unwrap_err();
    let asked = told.asked();
    assert!(!asked.is_empty() && asked.iter().all(|(_, error)| *error == Some(ErrorKind::Key)), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_in_vain_on_a_bare_pool_is_told_with_its_time() {
    let (told, recorder) = (Told::default(), Arc::new(MetricsRecorder::new()));
    let pool = Toys::default().pool().max_size(1).acquire_timeout(secs(2));
    let pool = pool.observer(told.clone()).observer(Arc::clone(&recorder)).build();
    let held = pool.get().await.unwrap();
    let in_vain = || std::mem::take(&mut *told.in_vain.lock().unwrap());
    assert_eq!(in_vain(), []);
    let other = pool.clone();
    tokio::spawn(async move { other.get().await.map(drop) }).await.unwrap().unwrap_err();
    let waits = in_vain();
    assert!(matches!(waits[..], [(Access::Write, waited)] if waited >= secs(2) && waited < secs(3)), "{waits:?}");
    // Whoever gives up before that has not waited in vain, and neither has one who gets it in time.
    let other = pool.clone();
    let waiter = tokio::spawn(async move { tokio::time::timeout(millis(500), other.get()).await.map(drop) });
    waiter.await.unwrap().unwrap_err();
    let other = pool.clone();
    let waiter = tokio::spawn(async move { other.get().await.map(drop) });
    tokio::time::sleep(secs(1)).await;
    drop(held);
    waiter.await.unwrap().unwrap();
    assert_eq!(in_vain(), []);
    assert_eq!(recorder.snapshot().connections.timeouts, 1);
    assert_eq!(pool.stats().total_timeouts, 1);
}
