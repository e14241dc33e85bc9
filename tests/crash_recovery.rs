//! A power failure while a database recovers from a power failure, and after it: what the recovery found is there for
//! good, whatever its callers were told before; so is what was acknowledged since.
//!
//! Each state of a recorded life is opened, written to and closed under a recorder of its own, and crashes again at some
//! moments of that. `STRONGROOM_CRASH_STATES` and `STRONGROOM_CRASH_SEED` are those of `common/lives.rs`.
#![cfg(all(feature = "sqlcipher", target_os = "linux", target_env = "gnu"))]

mod common;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/ledger.rs"]
mod ledger;
#[path = "common/lives.rs"]
mod lives;

use std::collections::BTreeSet;

use common::{Home, Kind};
use faults::record::Record;
use faults::{Call, states};
use ledger::{Ledger, OPEN, Story};
use lives::{Life, busy, each_state, run};
use strongroom::sqlcipher::Synchronous;

/// So many power failures of each recovery.
const AGAIN: u64 = 3;
/// Numbers that no write of the first life has.
const SECOND: u64 = 10_000;

/// A life in which the log is copied, starts over, and has something left; the last is cut off by the power failure.
fn first(level: Synchronous) -> (Life, Record) {
    let life = Life::new(level);
    let ledger = life.ledger(400);
    run(async {
        let db = life.open(&ledger).await;
        busy(&db, &ledger, 4, 4).await;
        db.checkpoint().await.unwrap();
        busy(&db, &ledger, 4, 4).await;
        db.close().await.unwrap();
    });
    let record = ledger.recording.so_far();
    life.assert_complete(&record);
    (life, record)
}

/// What is found, and what is told of the writes that follow. With a fault, some of them fail, or the recovery itself.
async fn second(life: &Life, home: &Home, failing: Option<(Call, usize)>) -> Result<(BTreeSet<u64>, Record), String> {
    let ledger = Ledger::from(home.directory.path(), 400, SECOND);
    let all = home.directory.path().canonicalize().unwrap().join("*");
    if let Some((call, skip)) = failing {
        faults::fail(&all, call, skip, 2, libc::EIO);
    }
    let db = life.builder(home).build();
    let works = async {
        ledger.tell(OPEN, db.connect()).await?;
        if !db.table_exists("t").await? {
            ledger.schema(&db).await?;
        }
        let found: Vec<u64> = db.fetch_all_as("SELECT DISTINCT op FROM t", ()).await?;
        Ok::<_, strongroom::Error>(found.into_iter().collect())
    };
    let found = works.await;
    for turn in 0..6 {
        let written = ledger.write(&db).await;
        if turn == 3 {
            db.checkpoint().await.ok();
        }
        if failing.is_none() {
            written.map_err(|error| format!("a write after the recovery: {error}"))?;
        }
    }
    db.close().await.map_err(|error| format!("close: {error}"))?;
    faults::heal(&all);
    let found = match found {
        Err(error) if failing.is_none() => return Err(format!("the recovery: {error}")),
        // Nothing was read, and nothing more is known than before.
        found => found.unwrap_or_default(),
    };
    Ok((found, ledger.recording.so_far()))
}

async fn crashes_again(life: &Life, home: &Home, story: &Story, failing: Option<(Call, usize)>) -> Result<(), String> {
    if story.is_done(OPEN) && !home.path().exists() {
        return Err("the file is gone".into());
    }
    let (found, record) = second(life, home, failing).await?;
    let mut random = fastrand::Rng::with_seed(record.events.len() as u64);
    for _ in 0..AGAIN {
        let events = random.usize(..=record.events.len());
        let crashed = Home::new(Kind::KeyedFile);
        states::write(&states::crash(&record, events, &mut random), crashed.directory.path());
        let both = Story::of(&record, events).after(&found, story, life.level);
        let judged = life.judge(&crashed, &both).await;
        judged.map_err(|found| format!("again, at moment {events} of {}: {found}", record.events.len()))?;
    }
    // And without another power failure.
    life.judge(home, &Story::of(&record, record.events.len()).after(&found, story, life.level)).await
}

fn each_recovery(level: Synchronous, name: &str) {
    let (life, record) = first(level);
    each_state(name, &record, async |home, story| crashes_again(&life, home, story, None).await);
}

#[test]
fn a_recovery_that_is_cut_off_loses_nothing_when_commits_are_synced() {
    each_recovery(Synchronous::Full, "recovery, full");
}

#[test]
fn a_recovery_that_is_cut_off_loses_nothing_when_syncs_are_shared() {
    each_recovery(Synchronous::FullShared, "recovery, shared");
}

#[test]
fn what_a_recovery_found_is_there_for_good_even_if_its_commits_were_not_synced() {
    each_recovery(Synchronous::Normal, "recovery, normal");
}

#[test]
fn a_recovery_in_which_a_sync_a_write_or_a_read_fails_loses_nothing() {
    let (life, record) = first(Synchronous::Full);
    each_state("recovery with a fault", &record, async |home, story| {
        // By what the state is, so that a number of a state says it.
        let length = std::fs::metadata(home.directory.path().join("app.db-wal")).map_or(0, |log| log.len());
        let seed = length + home.directory.path().read_dir().unwrap().count() as u64;
        let mut random = fastrand::Rng::with_seed(seed);
        let call = [Call::Sync, Call::Write, Call::Read][random.usize(..3)];
        crashes_again(&life, home, story, Some((call, random.usize(..12)))).await
    });
}
