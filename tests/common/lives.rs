//! Lives of databases that are recorded, and the judgement on each disk that a power failure may leave of one.
//!
//! `STRONGROOM_CRASH_STATES` is the number of states of each test (as many as the record has moments are all moments),
//! `STRONGROOM_CRASH_SEED` the number of the first.
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use futures_util::future::join_all;
use strongroom::sqlcipher::{SqlCipherConnector, Synchronous, Tuning};
use strongroom::{AsyncDatabase, DatabaseBuilder};
use tempfile::TempDir;
use tokio::time::timeout;

use super::common::{Home, Kind, secs};
use super::faults;
use super::faults::record::Record;
use super::faults::states;
use super::ledger::{Ledger, OPEN, Story, judge};

pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A database's life, and how its remains are judged.
pub struct Life {
    pub home: Home,
    pub tuning: Tuning,
    pub level: Synchronous,
    pub page: u32,
}

impl Life {
    pub fn new(level: Synchronous) -> Self {
        faults::quick();
        Self { home: Home::new(Kind::KeyedFile), tuning: Tuning::default().synchronous(level), level, page: 4096 }
    }

    pub fn builder(&self, home: &Home) -> DatabaseBuilder<SqlCipherConnector> {
        let builder = home.builder().max_retries(1).tuning(self.tuning.clone());
        if home.kind.is_keyed() { builder.cipher_page_size(self.page) } else { builder }
    }

    pub fn ledger(&self, text: usize) -> Ledger {
        Ledger::of(self.home.directory.path(), text)
    }

    pub async fn open(&self, ledger: &Ledger) -> AsyncDatabase {
        let db = ledger.tell(OPEN, self.builder(&self.home).open()).await.unwrap();
        ledger.schema(&db).await.unwrap();
        db
    }
}

/// So many tasks write so many times each, at once.
pub async fn busy(db: &AsyncDatabase, ledger: &Ledger, tasks: usize, writes: usize) {
    let write = async || {
        for _ in 0..writes {
            ledger.write(db).await.unwrap();
        }
    };
    join_all((0..tasks).map(|_| write())).await;
}

pub fn run<T>(what: impl Future<Output = T>) -> T {
    let running = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    running.block_on(async { timeout(secs(300), what).await.expect("it hangs") })
}

/// Makes disks of a record, and has each judged.
pub fn each_state(name: &str, record: &Record, judged: impl AsyncFn(&mut Home, &Story) -> Result<(), String> + Sync) {
    let (count, seed) = (number("STRONGROOM_CRASH_STATES", 20), number("STRONGROOM_CRASH_SEED", 1));
    let next = AtomicU64::new(seed);
    let worst = Mutex::new(None);
    let begun = Instant::now();
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                loop {
                    let state = next.fetch_add(1, SeqCst);
                    if state >= seed + count || worst.lock().unwrap().is_some() {
                        return;
                    }
                    if let Err(found) = run(one_state(record, state, &judged)) {
                        worst.lock().unwrap().get_or_insert(format!("{name}, state {state}, {found}"));
                    }
                }
            });
        }
    });
    let worst = worst.into_inner().unwrap();
    let (moments, speed) = (record.events.len(), u128::from(count) * 1000 / begun.elapsed().as_millis().max(1));
    println!("{name}: {count} states of {moments} moments, {speed} a second");
    assert_eq!(worst, None);
}

async fn one_state(
    record: &Record,
    state: u64,
    judged: &impl AsyncFn(&mut Home, &Story) -> Result<(), String>,
) -> Result<(), String> {
    // Moments in an order that covers them evenly, each once before any comes again.
    let moments = record.events.len() as u64 + 1;
    let step = (moments * 618 / 1000..=moments).find(|step| coprime(*step, moments)).unwrap();
    let events = usize::try_from(state.wrapping_mul(step) % moments).unwrap();
    let mut home = Home::new(Kind::KeyedFile);
    let mut random = fastrand::Rng::with_seed(state);
    states::write(&states::crash(record, events, &mut random), home.directory.path());
    if random.bool() {
        // Whatever stands in the index of a log after a power failure.
        let noise: Vec<u8> = (0..32768).map(|_| random.u8(..)).collect();
        std::fs::write(home.directory.path().join("app.db-shm"), noise).unwrap();
    }
    let story = Story::of(record, events);
    let judged = timeout(secs(60), judged(&mut home, &story)).await.unwrap_or_else(|_| Err("it hangs".into()));
    judged.map_err(|found| {
        // Made again, as it is changed by opening it.
        let kept = TempDir::new().unwrap().keep();
        states::write(&states::crash(record, events, &mut fastrand::Rng::with_seed(state)), &kept);
        let after = &record.events[events.saturating_sub(3)..events];
        let after: Vec<_> =
            after.iter().map(|event| format!("{event:.60?}").chars().take(80).collect::<String>()).collect();
        format!("moment {events} of {moments}, kept in {}: {found}; before it: {after:?}", kept.display())
    })
}

fn coprime(mut one: u64, mut other: u64) -> bool {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one == 1
}

impl Life {
    /// Opens what is left and looks at all of it.
    pub async fn judge(&self, home: &Home, story: &Story) -> Result<(), String> {
        if story.is_done(OPEN) && !home.path().exists() {
            return Err("the file is gone".into());
        }
        let db = self.builder(home).open().await.map_err(|error| format!("open: {error}"))?;
        judge(&db, story, self.level).await?;
        let report = db.close().await.map_err(|error| format!("close: {error}"))?;
        if report.is_clean() { Ok(()) } else { Err(format!("close: {report:?}")) }
    }

    pub fn each_state(&self, name: &str, record: &Record) {
        self.assert_complete(record);
        each_state(name, record, async |home, story| self.judge(home, story).await);
    }

    /// What a record makes of the files is what they are.
    pub fn assert_complete(&self, record: &Record) {
        let entries = std::fs::read_dir(self.home.directory.path()).unwrap().map(|entry| entry.unwrap());
        let kept = entries.filter(|entry| !entry.file_name().to_string_lossy().ends_with("-shm"));
        let real: states::Files = kept.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect();
        assert!(states::whole(record) == real, "the recorder missed something");
    }
}
