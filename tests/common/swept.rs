//! A short life of a database in which something fails, and what must hold afterwards.
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures_util::future::join_all;
use strongroom::AsyncDatabase;
use strongroom::sqlcipher::Synchronous;

use super::common::Home;
use super::faults::record::Record;
use super::faults::states;
use super::ledger::{Ledger, OPEN, Story, judge};

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// How many panics there were, caught ones too. That rusqlite asserts to have the text of a column, for which SQLite may
/// have no memory, is not counted: the call that meets it ends with an error, or the test itself panics.
pub fn panics() -> usize {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let of_rusqlite = info.location().is_some_and(|at| at.file().contains("rusqlite-"));
            PANICS.fetch_add(usize::from(!of_rusqlite), SeqCst);
            before(info);
        }));
    });
    PANICS.load(SeqCst)
}

/// Whatever fails of it, the ledger knows what its callers were told.
pub async fn live(db: &AsyncDatabase, ledger: &Ledger) {
    ledger.tell(OPEN, db.connect()).await.ok();
    ledger.schema(db).await.ok();
    let write = async || {
        for _ in 0..3 {
            ledger.write(db).await.ok();
        }
    };
    join_all((0..4).map(|_| write())).await;
    db.fetch_all("SELECT op, part, text FROM t ORDER BY text", ()).await.ok();
    db.checkpoint().await.ok();
    write().await;
}

/// The same handle works again when nothing fails any more; a few calls may still tell of what happened.
pub async fn heals(db: &AsyncDatabase, ledger: &Ledger) -> Result<(), String> {
    let mut told = Vec::new();
    for _ in 0..3 {
        let work = async {
            if !db.table_exists("t").await? {
                ledger.schema(db).await?;
            }
            for _ in 0..6 {
                ledger.write(db).await?;
            }
            db.checkpoint().await
        };
        match work.await {
            Ok(_) => return Ok(()),
            Err(error) => told.push(error.to_string()),
        }
    }
    Err(format!("the handle does not heal: {told:?}"))
}

/// A new handle finds what the old one acknowledged.
pub async fn is_there(home: &Home, story: &Story) -> Result<(), String> {
    if story.is_done(OPEN) && !home.path().exists() {
        return Err("the file is gone".into());
    }
    let db = home.builder().max_retries(1).open().await.map_err(|error| format!("open: {error}"))?;
    judge(&db, story, Synchronous::Full).await?;
    let report = db.close().await.map_err(|error| format!("close: {error}"))?;
    if report.is_clean() { Ok(()) } else { Err(format!("close: {report:?}")) }
}

/// Nor does a power failure at some moment of that life lose it.
pub async fn survives(home: &Home, record: &Record, seed: u64) -> Result<(), String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let moment = random.usize(..=record.events.len());
    let crashed = Home::new(home.kind);
    states::write(&states::crash(record, moment, &mut random), crashed.directory.path());
    let judged = is_there(&crashed, &Story::of(record, moment)).await;
    judged.map_err(|found| format!("power failure {seed} at moment {moment} of {}: {found}", record.events.len()))
}
