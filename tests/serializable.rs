//! Callers in two processes append to lists in one file and read them, in each way there is, with the log cut back and
//! calls dropped meanwhile: all that anybody was told has one order, which is that of time.
//!
//! `STRONGROOM_CHECK_SECONDS` (2 by default) is the time of each run, `STRONGROOM_CHECK_SEED` that of the callers; the
//! processes and threads take turns as the system has it.
#![cfg(all(feature = "sqlcipher", target_os = "linux"))]
#![allow(clippy::large_futures, reason = "a test may have a large stack")]

mod common;
#[path = "common/itself.rs"]
mod itself;
#[path = "common/lists.rs"]
mod lists;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{Home, Kind};
use futures_util::future::join_all;
use lists::histories::{Op, Order, Outcome, Transaction, check};
use lists::{Caller, TABLE};
use strongroom::AsyncDatabase;
use strongroom::ErrorKind::{Busy, OutcomeUnknown};
use strongroom::database::TransactionOptions;
use strongroom::engine::TransactionMode;
use strongroom::sqlcipher::{Synchronous, Tuning};

const CALLERS: u64 = 8;
const FILE: &str = "STRONGROOM_LISTS_FILE";
const SHORT_CUTS: &str = "STRONGROOM_LISTS_SHORT_CUTS";
const KEYED: &str = "STRONGROOM_LISTS_KEYED";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn tuning(short_cuts: bool, level: Synchronous) -> Tuning {
    let tuning = Tuning::default().synchronous(level);
    if short_cuts {
        tuning.inline_reads(true).inline_writes(true).kept_snapshots(true).group_commit(true)
    } else {
        tuning.plain()
    }
}

async fn open(path: &Path, keyed: bool, tuning: Tuning) -> AsyncDatabase {
    let builder = AsyncDatabase::builder(path).tuning(tuning).pool_max(5).pool_timeout(Duration::from_secs(60));
    if keyed { builder.key(common::key()) } else { builder }.open().await.unwrap()
}

/// What callers of this process were told.
async fn work(db: &AsyncDatabase, first: u64) -> Vec<Transaction> {
    let (end, seed) = (Duration::from_secs(number("STRONGROOM_CHECK_SECONDS", 2)), number("STRONGROOM_CHECK_SEED", 1));
    let begun = Instant::now();
    let callers = (first..first + CALLERS).map(|caller| {
        let db = db.clone();
        tokio::spawn(async move {
            let mut caller = Caller::new(caller, seed, TransactionOptions::new(), TransactionMode::READ);
            while begun.elapsed() < end {
                if let Some(error) = caller.step(&db).await {
                    assert!(matches!(error.kind(), Busy | OutcomeUnknown), "{error:?}");
                }
            }
            caller.history
        })
    });
    let cuts_back = async {
        while begun.elapsed() < end {
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)", ()).await.ok();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::join!(join_all(callers), cuts_back).0.into_iter().flat_map(|history| history.unwrap()).collect()
}

/// Does nothing unless started by `run`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_process() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let (path, told) = (Path::new(&path), |name| number(name, 0) == 1);
    let db = open(path, told(KEYED), tuning(told(SHORT_CUTS), Synchronous::Normal)).await;
    let history = work(&db, 1000).await;
    std::fs::write(path.with_extension("history"), serde_json::to_vec(&history).unwrap()).unwrap();
    db.close().await.unwrap();
}

fn run(name: &str, kind: Kind, level: Synchronous, short_cuts: bool) {
    let home = Home::new(kind);
    let running = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let history = running.block_on(async {
        let db = open(&home.path(), kind.is_keyed(), tuning(short_cuts, level)).await;
        db.execute_script(TABLE).await.unwrap();
        let mut other = itself::again(module_path!(), "the_other_process")
            .env(FILE, home.path())
            .env(KEYED, if kind.is_keyed() { "1" } else { "0" })
            .env(SHORT_CUTS, if short_cuts { "1" } else { "0" })
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut history = work(&db, 1).await;
        let ended = tokio::task::spawn_blocking(move || other.wait()).await.unwrap().unwrap();
        assert!(ended.success(), "{name}: the other process failed");
        let file = std::fs::read(home.path().with_extension("history")).unwrap();
        let theirs: Vec<Transaction> = serde_json::from_slice(&file).unwrap();
        let both = |history: &[Transaction]| history.iter().filter(|each| each.outcome == Outcome::Committed).count();
        assert!(both(&history) > 50 && both(&theirs) > 50, "{name}: hardly anything was done");
        history.extend(theirs);
        let mut last = Caller::new(5000, 0, TransactionOptions::new(), TransactionMode::READ);
        last.read_all(&db).await.unwrap();
        history.extend(last.history);
        assert!(db.close().await.unwrap().is_clean());
        history
    });
    let checked = check(&history, Order::RealTime).unwrap_or_else(|anomaly| panic!("{name}: {anomaly:?}"));
    println!("{name}: {checked:?}");
    let skewed = |ops: &[Op]| ops.iter().any(|op| matches!(op, Op::Read(..))) && ops.len() > 1;
    assert!(history.iter().filter(|each| skewed(&each.ops)).count() > 20, "{name}: hardly any transaction read much");
}

#[test]
fn what_two_processes_were_told_has_one_order_with_every_short_cut() {
    run("plain, every short cut", Kind::PlainFile, Synchronous::Normal, true);
    run("keyed, every short cut", Kind::KeyedFile, Synchronous::Normal, true);
    run("keyed, FULL with shared syncs", Kind::KeyedFile, Synchronous::FullShared, true);
}

#[test]
fn what_two_processes_were_told_has_one_order_without_short_cuts() {
    run("plain, no short cut", Kind::PlainFile, Synchronous::Normal, false);
    run("keyed, no short cut", Kind::KeyedFile, Synchronous::Full, false);
}
