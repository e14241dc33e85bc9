//! Everything at once, from one seed: callers, dropped calls, deadlines, a slow engine, faults of the disk, power
//! failures and restarts, on paused time and one thread, checked against what callers were told. A seed replays exactly.
//!
//! `STRONGROOM_SIMULATIONS` is the number of seeds, `STRONGROOM_SIMULATION_SEED` the first.
#![cfg(all(feature = "sqlcipher", feature = "testing", target_os = "linux", target_env = "gnu"))]

mod common;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/ledger.rs"]
mod ledger;
#[path = "common/serial.rs"]
mod serial;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use common::{Home, Kind, key, millis, secs};
use faults::record::{Event, Record};
use faults::{Call, states};
use futures_util::future::join_all;
use ledger::{Ledger, OPEN, Story, judge};
use serial::Serial;
use strongroom::engine::TransactionMode;
use strongroom::pool::NoRetry;
use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::testing::{Fault, FaultyConnector};
use strongroom::{AsyncDatabase, SqlCipherConnector};
use tokio::time::{sleep, timeout};

type Db = AsyncDatabase<FaultyConnector<Serial<SqlCipherConnector>>>;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How often a disk is started from, each time but the first after a power failure.
const LIVES: u64 = 3;

/// What fails of the disk, and for how long.
#[derive(Clone, Copy, Debug)]
struct Failing {
    /// Of the database itself, not of all files.
    database: bool,
    call: Call,
    skip: usize,
    fails: usize,
    errno: i32,
    /// So long after the beginning it is over, if not at the end.
    heals: u64,
}

impl Failing {
    fn draw(random: &mut fastrand::Rng, copying: bool) -> Option<Self> {
        let (database, call, calls) = [
            (false, Call::Sync, 40),
            (false, Call::Sync, 10),
            // Few: only when the log is copied.
            (true, Call::Sync, 3),
            (false, Call::Write, 160),
            // In the creation.
            (false, Call::Write, 6),
            (false, Call::Open, 8),
            (false, Call::Truncate, 4),
            (false, Call::Read, 200),
        ][if copying && random.bool() { 2 } else { random.usize(..8) }];
        let fails = [1, 2, usize::MAX][random.usize(..3)];
        let errno = [libc::EIO, libc::ENOSPC][random.usize(..2)];
        random.bool().then(|| Self {
            database,
            call,
            skip: random.usize(..calls),
            fails,
            errno,
            heals: random.u64(..2000),
        })
    }
}

/// One of the things that a caller does; where the log is copied much, with readers in the way, half of all are that.
async fn one_call(db: &Db, ledger: &Ledger, random: &mut fastrand::Rng, copying: bool) -> Result<(), String> {
    let late = db.with_timeout(millis(random.u64(1..60)));
    let db = if random.u8(..5) == 0 { &late } else { db };
    let what = if copying && random.bool() { random.u8(..2) * 3 } else { random.u8(..20) };
    match what {
        0 | 1 => drop(db.checkpoint().await),
        2 => drop(db.execute_script("PRAGMA synchronous = OFF\nDROP TABLE nothing").await),
        3 => in_one_view(db, random).await?,
        4..7 => {
            let read = "SELECT (SELECT count(*) FROM t) - (SELECT n FROM total)";
            match db.fetch_value::<i64>(read, ()).await {
                Ok(Some(0)) | Err(_) => {}
                found => return Err(format!("a read saw half a transaction: {found:?}")),
            }
        }
        _ => drop(ledger.write(db).await),
    }
    Ok(())
}

/// A read transaction, which does not move, and keeps the log from being copied whole.
async fn in_one_view(db: &Db, random: &mut fastrand::Rng) -> Result<(), String> {
    let count = "SELECT count(*) FROM t";
    let Ok(mut tx) = db.begin_with(TransactionMode::READ).await else { return Ok(()) };
    let before = tx.fetch_value::<i64>(count, ()).await;
    sleep(millis(random.u64(..150))).await;
    let after = tx.fetch_value::<i64>(count, ()).await;
    match (before, after) {
        (Ok(before), Ok(after)) if before != after => Err(format!("a view moved from {before:?} to {after:?}")),
        _ => Ok(()),
    }
}

async fn caller(db: &Db, ledger: &Ledger, mut random: fastrand::Rng, copying: bool) -> Result<(), String> {
    for _ in 0..random.u8(1..9) {
        sleep(millis(random.u64(..80))).await;
        let patience = millis(random.u64(1..40));
        let mut own = random.fork();
        let call = one_call(db, ledger, &mut own, copying);
        if random.u8(..6) == 0 {
            timeout(patience, call).await.unwrap_or(Ok(()))?;
        } else {
            call.await?;
        }
    }
    Ok(())
}

/// What is there when it begins, if that could be read, and all that happens.
async fn live(
    home: &Home,
    level: Synchronous,
    first: u64,
    random: &mut fastrand::Rng,
) -> Result<(BTreeSet<u64>, Record), String> {
    let copying = random.u8(..3) == 0;
    // Rows with pages of their own, each of which is copied once.
    let ledger = Ledger::from(home.directory.path(), if copying { 6000 } else { 200 }, first);
    let directory = home.directory.path().canonicalize().unwrap();
    // Of real time: whoever has the lock waits for this thread.
    let tuning = Tuning::default().synchronous(level).busy_timeout(millis(1));
    let connector = SqlCipherConnector::new(home.path()).key(key()).tuning(tuning);
    let connector = FaultyConnector::new(Serial(connector));
    let slow = [1, 3, 20, 90].map(|time| Fault::Slow(millis(time)));
    connector.faults().random(random.u64(..), 4, slow);
    let db = AsyncDatabase::with_connector(connector).pool_timeout(secs(1)).retry(NoRetry).build();
    let failing = Failing::draw(random, copying);
    let all = directory.join(if failing.is_some_and(|failing| failing.database) { "app.db" } else { "*" });
    if let Some(Failing { call, skip, fails, errno, .. }) = failing {
        faults::fail(&all, call, skip, fails, errno);
    }
    let begins = async {
        ledger.tell(OPEN, db.connect()).await?;
        if !db.table_exists("t").await? {
            ledger.schema(&db).await?;
        }
        db.fetch_all_as::<u64>("SELECT DISTINCT op FROM t", ()).await
    };
    let begun = begins.await;
    let mut callers: Vec<_> = (0..random.usize(2..7)).map(|_| random.fork()).collect();
    let work = join_all(callers.drain(..).map(|random| caller(&db, &ledger, random, copying)));
    let healing = async {
        if let Some(Failing { heals, .. }) = failing {
            sleep(millis(heals)).await;
            faults::heal(&all);
        }
    };
    if random.bool() {
        tokio::join!(work, healing).0.into_iter().collect::<Result<(), _>>()?;
        heals(&db, &ledger).await?;
    } else {
        work.await.into_iter().collect::<Result<(), _>>()?;
    }
    let before = faults::failed(&all);
    if random.u8(..4) > 0 {
        let report = db.close().await.map_err(|error| format!("close: {error}"))?;
        let failed = faults::failed(&all) - before;
        let told = matches!(failing, Some(Failing { call: Call::Sync | Call::Write, .. }));
        if told && failed > 0 && report.is_clean() {
            return Err("something failed in the close, and that calls itself clean".into());
        }
        if failed == 0 && before == 0 && !report.is_clean() {
            return Err(format!("nothing failed, and it does not close: {report:?}"));
        }
    }
    faults::heal(&all);
    let record = ledger.recording.so_far();
    drop(db);
    match begun {
        Err(error) if failing.is_none() => Err(format!("it does not open: {error}")),
        begun => Ok((begun.unwrap_or_default().into_iter().collect(), record)),
    }
}

async fn heals(db: &Db, ledger: &Ledger) -> Result<(), String> {
    let mut told = Vec::new();
    for _ in 0..3 {
        let work = async {
            if !db.table_exists("t").await? {
                ledger.schema(db).await?;
            }
            ledger.write(db).await
        };
        match work.await {
            Ok(()) => return Ok(()),
            Err(error) => told.push(error.to_string()),
        }
    }
    Err(format!("the handle does not heal: {told:?}"))
}

/// What happened, without the bytes and the names of drafts: those hold random numbers.
fn trace(record: &Record, hasher: &mut DefaultHasher) {
    for event in &record.events {
        match event {
            Event::Write { file, at, bytes } => (0, file, at, bytes.len()).hash(hasher),
            Event::Truncate { file, size } => (1, file, size).hash(hasher),
            Event::Sync { file, begun, fine } => (2, file, begun, fine).hash(hasher),
            Event::Names(names) => names.values().collect::<BTreeSet<_>>().hash(hasher),
            Event::SyncNames { begun, fine } => (3, begun, fine).hash(hasher),
            Event::Told(operation, told) => (operation, format!("{told:?}")).hash(hasher),
        }
    }
}

/// Lives of one disk. Gives back what sums up all that happened.
async fn simulate(seed: u64) -> Result<u64, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let level = if random.u8(..4) == 0 { Synchronous::Normal } else { Synchronous::Full };
    let (mut home, mut hasher, mut before) = (Home::new(Kind::KeyedFile), DefaultHasher::new(), Story::default());
    for turn in 0..LIVES {
        let said = |found| format!("life {turn}: {found}");
        let (found, record) = live(&home, level, 100 + turn * 10_000, &mut random).await.map_err(said)?;
        trace(&record, &mut hasher);
        let end = record.events.len();
        let moment = match random.u8(..8) {
            0 | 1 => end,
            // While it is created.
            2 => random.usize(..=end.min(30)),
            _ => random.usize(..=end),
        };
        let story = Story::of(&record, moment).after(&found, &before, level);
        let files = states::crash(&record, moment, &mut random);
        let [judged, next] = [(); 2].map(|()| Home::new(Kind::KeyedFile));
        for home in [&judged, &next] {
            states::write(&files, home.directory.path());
        }
        let said = |found| format!("life {turn}, power failure at moment {moment} of {end}: {found}");
        if story.is_done(OPEN) && !judged.path().exists() {
            return Err(said("the file is gone".into()));
        }
        // While a thread works that tokio does not know of, paused time would run away.
        let connector = Serial(SqlCipherConnector::new(judged.path()).key(key()));
        let db = AsyncDatabase::with_connector(connector).retry(NoRetry).open().await;
        let db = db.map_err(|error| said(format!("open: {error}")))?;
        judge(&db, &story, level).await.map_err(said)?;
        db.close().await.map_err(|error| said(format!("close: {error}")))?;
        (home, before) = (next, story);
    }
    Ok(hasher.finish())
}

fn run(seed: u64) -> Result<u64, String> {
    let paused = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    // Of paused time; what takes longer waits for nothing that will come.
    paused.block_on(async { timeout(secs(600), simulate(seed)).await }).unwrap_or_else(|_| Err("it hangs".into()))
}

#[test]
fn whatever_comes_together_nothing_acknowledged_is_lost() {
    faults::quick();
    let (count, first) = (number("STRONGROOM_SIMULATIONS", 25), number("STRONGROOM_SIMULATION_SEED", 1));
    let begun = std::time::Instant::now();
    for seed in first..first + count {
        run(seed).unwrap_or_else(|found| panic!("seed {seed} (the {}. of this run): {found}", seed - first + 1));
    }
    println!("{count} seeds, {} a second", u128::from(count) * 1000 / begun.elapsed().as_millis().max(1));
}

#[test]
fn a_seed_replays_exactly() {
    faults::quick();
    for seed in 1..=number("STRONGROOM_SIMULATION_REPLAYS", 5) {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
