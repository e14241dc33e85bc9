//! Everything at once, for as long as one likes: 64 tasks work while faults come and go, callers lose patience and user
//! code panics. Money is neither lost nor made, what was acknowledged is there, and memory and descriptors stay flat.
//!
//! `STRONGROOM_SOAK_SECONDS` (5 by default) is how long, `STRONGROOM_SOAK_SEED` what comes when.
#![cfg(all(feature = "sqlcipher", target_os = "linux"))]

#[path = "common/other.rs"]
mod other;

use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, StreamExt as _};
use other::{Other, key};
use strongroom::pool::Ping;
use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::{AsyncDatabase, Error, ErrorKind, KeySource, PassphraseKeySource, Reason, Result, Secret};

const TASKS: u64 = 64;
const ACCOUNTS: u64 = 20;
const TOTAL: i64 = 20_000;

/// So few that they can be used up.
const DESCRIPTORS: u64 = 200;

/// No call takes that long, on the slowest of machines.
const FOR_EVER: Duration = Duration::from_secs(300);

/// What happened so far.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    /// Increments that were acknowledged, and those of which nothing is known.
    counted: AtomicU64,
    unknown: AtomicU64,
    calls: AtomicU64,
    failures: Mutex<std::collections::BTreeMap<String, u64>>,
    faults: AtomicU64,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

async fn open(path: &Path) -> AsyncDatabase {
    let tuning = Tuning::default().synchronous(Synchronous::Normal).busy_timeout(Duration::from_secs(2));
    AsyncDatabase::builder(path)
        .key(PassphraseKeySource::new(key()))
        .tuning(tuning)
        .health(Ping)
        .pool_max(6)
        .pool_timeout(Duration::from_secs(20))
        .max_retries(2)
        .retry_delay(Duration::from_millis(100))
        .open()
        .await
        .unwrap()
}

#[test]
fn the_other_process() {
    other::be_the_other_process();
}

/// One thing that a caller does.
async fn act(db: &AsyncDatabase, random: &mut fastrand::Rng, tally: &Tally) -> Result<()> {
    let (from, to) = (random.u64(..ACCOUNTS), random.u64(..ACCOUNTS));
    match random.u8(0..100) {
        0..30 => {
            let sum: Option<i64> = db.fetch_value("SELECT sum(cents) FROM accounts", ()).await?;
            assert_eq!(sum, Some(TOTAL), "half a transfer was seen");
        }
        30..50 => {
            let outcome = db.execute("UPDATE counter SET n = n + 1", ()).await;
            let known = outcome.as_ref().map_or_else(|error| error.kind() != ErrorKind::OutcomeUnknown, |_| true);
            let tell = if outcome.is_ok() { &tally.counted } else { &tally.unknown };
            tell.fetch_add(u64::from(outcome.is_ok() || !known), SeqCst);
            outcome?;
        }
        50..70 => {
            let (gives_up, panics) = (random.u8(0..8) == 0, random.u8(0..40) == 0);
            let moved = db.transaction(async |tx| {
                tx.execute("UPDATE accounts SET cents = cents - 1 WHERE id = $1", (from,)).await?;
                assert!(!panics, "a panic of the caller's");
                if gives_up {
                    return Err(Error::new(ErrorKind::Unsupported, "changed my mind"));
                }
                tx.execute("UPDATE accounts SET cents = cents + 1 WHERE id = $1", (to,)).await?;
                Ok(())
            });
            match moved.await {
                Err(error) if error.to_string() == "changed my mind" => {}
                outcome => outcome?,
            }
        }
        70..76 => {
            let mut tx = db.begin().await?;
            tx.execute("UPDATE accounts SET cents = cents - 5 WHERE id = $1", (from,)).await?;
        }
        76..82 => {
            let sets = (0..random.u64(1..40)).map(|n| (n, "x".repeat(500)));
            db.execute_many("INSERT INTO filler VALUES ($1, $2)", sets).await?;
        }
        82..85 => {
            // So that the file, and with it the work, stays as large as it is.
            let old = "DELETE FROM filler WHERE rowid <= (SELECT max(rowid) - 500 FROM filler)";
            db.execute(old, ()).await?;
        }
        85..90 => {
            let mut rows = db.fetch_stream("SELECT * FROM filler", ());
            for _ in 0..random.u8(0..100) {
                let Some(row) = rows.next().await else { break };
                row?;
            }
        }
        90..95 => {
            let panics = random.u8(0..10) == 0;
            let answer = db.interact(move |c| {
                assert!(!panics, "a panic of the caller's");
                c.query_row("SELECT count(*) FROM accounts", (), |row| row.get::<_, i64>(0))
            });
            match answer.await {
                Err(error) if panics && error.reason() == Reason::Panicked => {}
                answer => assert_eq!(answer?, 20),
            }
        }
        95..97 => {
            let mut conn = db.connection().await?;
            conn.execute_script("BEGIN; UPDATE accounts SET cents = 0").await?;
        }
        97 => drop(db.execute("PRAGMA wal_checkpoint(TRUNCATE)", ()).await?),
        _ => drop(db.read_connection().await?.fetch_all("SELECT * FROM accounts", ()).await?),
    }
    Ok(())
}

/// Works until it is told to stop, and loses patience now and then.
async fn work(db: AsyncDatabase, mut random: fastrand::Rng, tally: Arc<Tally>) {
    while !tally.stop.load(SeqCst) {
        let patience = match random.u8(0..5) {
            0 => Duration::from_micros(random.u64(0..5000)),
            _ => FOR_EVER,
        };
        let call = AssertUnwindSafe(act(&db, &mut random, &tally)).catch_unwind();
        match tokio::time::timeout(patience, call).await {
            Err(elapsed) => {
                assert!(patience < FOR_EVER, "{elapsed}: a call took {FOR_EVER:?}; {:?}", db.stats());
                // It may have been the counter that was dropped.
                tally.unknown.fetch_add(1, SeqCst);
            }
            Ok(Err(payload)) => {
                let own = payload.downcast_ref::<&str>().is_some_and(|text| *text == "a panic of the caller's");
                assert!(own, "{:?}", payload.downcast_ref::<String>());
            }
            Ok(Ok(Err(error))) => note(&tally, &error),
            Ok(Ok(Ok(()))) => {}
        }
        tally.calls.fetch_add(1, SeqCst);
        tokio::task::yield_now().await;
    }
}

/// What the faults may lead to. Above all never a wrong key, a damaged file, or a mistake in the statement.
fn note(tally: &Tally, error: &Error) {
    let named = matches!(
        (error.kind(), error.reason()),
        (
            ErrorKind::Busy
                | ErrorKind::Serialization
                | ErrorKind::PoolExhausted
                | ErrorKind::Timeout
                | ErrorKind::OutcomeUnknown,
            _
        ) | (ErrorKind::Connection, Reason::NotFound | Reason::TooManyOpenFiles | Reason::NotPermitted)
            | (ErrorKind::Storage, Reason::Moved | Reason::Io | Reason::DiskFull)
    );
    assert!(named, "{error:?}");
    *tally.failures.lock().unwrap().entry(format!("{:?}/{:?}", error.kind(), error.reason())).or_default() += 1;
}

/// A key source that fails every second time.
struct Moody(AtomicU64);

#[strongroom::keys::async_trait]
impl KeySource for Moody {
    async fn resolve(&self) -> Result<Secret> {
        match self.0.fetch_add(1, SeqCst) % 3 {
            0 => Err(Error::new(ErrorKind::Key, "not today")),
            1 => panic!("a panic of the caller's"),
            _ => Ok(key()),
        }
    }
    fn describe(&self) -> String {
        "moody".into()
    }
}

/// Switches faults on and off.
async fn haunt(path: PathBuf, mut random: fastrand::Rng, tally: Arc<Tally>) {
    let mut other = Some(Other::open(&path));
    let aside = path.with_extension("aside");
    while !tally.stop.load(SeqCst) {
        let while_ = Duration::from_millis(random.u64(20..400));
        match random.u8(0..5) {
            0 => {
                let mut locks = other.take().unwrap_or_else(|| Other::open(&path));
                other = tokio::task::spawn_blocking(move || {
                    // Somebody else may be faster.
                    if locks.try_run("BEGIN IMMEDIATE") == "ok" {
                        std::thread::sleep(while_);
                        locks.run("UPDATE counter SET n = n + 1000000; ROLLBACK");
                    }
                    Some(locks)
                })
                .await
                .unwrap();
            }
            1 => {
                if let Some(other) = other.take() {
                    other.kill();
                }
                other = Some(Other::open(&path));
            }
            2 => {
                std::fs::rename(&path, &aside).unwrap();
                tokio::time::sleep(while_).await;
                assert!(!path.exists(), "a new database was made in the place of one that was moved");
                std::fs::rename(&aside, &path).unwrap();
            }
            3 => {
                let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).take(1000).collect();
                tokio::time::sleep(while_).await;
                drop(hoard);
            }
            _ => {
                let moody = AsyncDatabase::builder(&path).key(Moody(AtomicU64::new(0))).max_retries(1).build();
                let outcomes = [moody.connect().await, moody.connect().await, moody.connect().await];
                let reasons = outcomes.map(|outcome| outcome.map_err(|error| (error.kind(), error.reason())));
                assert_eq!(reasons[0], Err((ErrorKind::Key, Reason::Unspecified)));
                assert!(reasons[1].is_err_and(|(_, reason)| reason == Reason::Panicked), "{reasons:?}");
                moody.interact(|c| c.query_row("SELECT 1", (), |_| Ok(()))).await.ok();
                moody.close().await.unwrap();
            }
        }
        tally.faults.fetch_add(1, SeqCst);
        tokio::time::sleep(Duration::from_millis(random.u64(50..600))).await;
    }
}

/// What a panic said.
fn words(info: &std::panic::PanicHookInfo<'_>) -> String {
    let (said, built) = (info.payload().downcast_ref::<&str>(), info.payload().downcast_ref::<String>());
    said.map(|text| (*text).to_owned()).or_else(|| built.cloned()).unwrap_or_default()
}

/// Kilobytes of memory, and descriptors.
fn measure() -> (u64, usize) {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let resident: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
    (resident * 4, std::fs::read_dir("/proc/self/fd").unwrap().count())
}

/// When nobody works: everybody is let in again, and the descriptors are counted at rest.
async fn at_rest(db: &AsyncDatabase) -> (u64, usize) {
    for _ in 0..500 {
        if db.stats().active_connections == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let all: Vec<_> = futures_util::future::join_all((0..5).map(|_| db.read_connection())).await;
    let writer = db.connection().await.unwrap();
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    drop((all, writer));
    measure()
}

#[test]
fn everything_at_once_leaves_sums_memory_and_descriptors_as_they_should_be() {
    let (seconds, seed) = (number("STRONGROOM_SOAK_SECONDS", 5), number("STRONGROOM_SOAK_SEED", 1));
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit {
            current: Some(DESCRIPTORS),
            maximum: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
        },
    )
    .unwrap();
    std::panic::set_hook(Box::new(|info| {
        if words(info) != "a panic of the caller's" {
            eprintln!("{info}");
        }
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(soak(Duration::from_secs(seconds), seed));
}

async fn soak(time: Duration, seed: u64) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("soak.db");
    let db = open(&path).await;
    db.execute_script("CREATE TABLE accounts (id, cents); CREATE TABLE counter (n); INSERT INTO counter VALUES (0); CREATE TABLE filler (n, text)").await.unwrap();
    db.execute_many("INSERT INTO accounts VALUES ($1, 1000)", (0..ACCOUNTS).map(|id| (id,))).await.unwrap();
    let (began, mut samples, mut acknowledged) = (Instant::now(), Vec::new(), 0);
    let mut happened = [0, 0];
    let mut random = fastrand::Rng::with_seed(seed);
    println!("at the start: {:?} (KiB, descriptors)", at_rest(&db).await);
    // Three parts of the same kind, so that the first one's memory can be held against the last one's.
    for part in 0..3 {
        let tally = Arc::new(Tally::default());
        let before: i64 = db.fetch_value("SELECT n FROM counter", ()).await.unwrap().unwrap();
        let mut tasks: Vec<_> =
            (0..TASKS).map(|_| tokio::spawn(work(db.clone(), random.fork(), Arc::clone(&tally)))).collect();
        tasks.push(tokio::spawn(haunt(path.clone(), random.fork(), Arc::clone(&tally))));
        tokio::time::sleep(time / 3).await;
        tally.stop.store(true, SeqCst);
        for task in tasks {
            task.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        samples.push(at_rest(&db).await);
        let now: i64 = db.fetch_value("SELECT n FROM counter", ()).await.unwrap().unwrap();
        let (counted, unknown) = (tally.counted.load(SeqCst), tally.unknown.load(SeqCst));
        let grown = u64::try_from(now - before).unwrap();
        assert!(
            (counted..=counted + unknown).contains(&grown),
            "seed {seed}: {grown} of {counted} to {}",
            counted + unknown
        );
        acknowledged += counted;
        let (kib, descriptors) = samples[part];
        println!(
            "after {:.0?}: {kib} KiB, {descriptors} descriptors, {} calls, {} faults, failures {:?}",
            began.elapsed(),
            tally.calls.load(SeqCst),
            tally.faults.load(SeqCst),
            tally.failures.lock().unwrap(),
        );
        happened = [happened[0] + tally.calls.load(SeqCst), happened[1] + tally.faults.load(SeqCst)];
    }
    assert!(happened[0] > 100 && happened[1] > 0, "hardly anything happened: {happened:?}");
    println!("{acknowledged} increments acknowledged and found");
    let sum: Option<i64> = db.fetch_value("SELECT sum(cents) FROM accounts", ()).await.unwrap();
    assert_eq!(sum, Some(TOTAL), "seed {seed}: money was lost or made");
    let health: Option<String> = db.fetch_value("PRAGMA integrity_check", ()).await.unwrap();
    assert_eq!(health.as_deref(), Some("ok"), "seed {seed}");
    assert!(db.fetch_all("PRAGMA cipher_integrity_check", ()).await.unwrap().is_empty(), "seed {seed}");
    let ((first, descriptors), (last, descriptors_last)) = (samples[0], samples[2]);
    assert!(last < first + first / 4 + 16 * 1024, "seed {seed}: memory grows: {samples:?}");
    assert!(descriptors_last <= descriptors + 3, "seed {seed}: descriptors leak: {samples:?}");
    let stats = db.stats();
    assert_eq!(stats.total_acquired, stats.total_released, "seed {seed}: {stats:?}");
    assert!(db.close().await.unwrap().is_clean(), "seed {seed}");
}
