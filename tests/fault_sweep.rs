//! Every call of a database's life that reaches the disk fails, once or from there on: nothing acknowledged is missing,
//! nothing that was refused is there, nothing hangs or panics, and the handle heals.
//!
//! `STRONGROOM_SWEEP_STRIDE` is the distance between the calls that fail (1 tries all), `STRONGROOM_SWEEP_CRASHES` the
//! number of power failures after each.
#![cfg(all(feature = "sqlcipher", target_os = "linux", target_env = "gnu"))]

mod common;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/ledger.rs"]
mod ledger;
#[path = "common/swept.rs"]
mod swept;

use common::{Home, Kind, millis, secs};
use faults::Call;
use ledger::{Ledger, Story};
use strongroom::sqlcipher::Tuning;
use tokio::time::timeout;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[derive(Clone, Copy, Debug)]
struct Case {
    call: Call,
    errno: i32,
    /// So many calls work first.
    skip: usize,
    for_good: bool,
    /// The database is closed before the fault is over.
    closes: bool,
}

/// Whether the life got as far as the fault.
async fn met(case: Case) -> Result<bool, String> {
    let home = Home::new(Kind::KeyedFile);
    let ledger = Ledger::of(home.directory.path(), 200);
    // Not the directory itself: SQLite ignores it when that cannot be opened or synced.
    let all = home.directory.path().canonicalize().unwrap().join("*");
    // A lock that is refused is one that somebody else has.
    let db = home.builder().max_retries(1).tuning(Tuning::default().busy_timeout(millis(20))).build();
    let fails = match case.call {
        _ if !case.for_good => 1,
        // SQLite asks a hundred times for a lock that everything depends on, ten seconds long.
        Call::Lock => 8,
        _ => usize::MAX,
    };
    faults::fail(&all, case.call, case.skip, fails, case.errno);
    swept::live(&db, &ledger).await;
    let mut met = 0;
    if !case.closes {
        met = faults::heal(&all);
        swept::heals(&db, &ledger).await?;
    }
    let before = faults::failed(&all);
    let report = db.close().await.map_err(|error| format!("close: {error}"))?;
    let in_close = faults::heal(&all) - before;
    if report.is_clean() && in_close > 0 && matches!(case.call, Call::Sync | Call::Write) {
        return Err("something failed in the close, and that calls itself clean".into());
    }
    met += before + in_close;
    if !case.closes && !report.is_clean() {
        return Err(format!("after it healed it does not close: {report:?}"));
    }
    let record = ledger.recording.so_far();
    drop(ledger);
    for crash in 0..number("STRONGROOM_SWEEP_CRASHES", 1) {
        swept::survives(&home, &record, (case.skip * 1000 + crash) as u64).await?;
    }
    swept::is_there(&home, &Story::of(&record, record.events.len())).await?;
    Ok(met > 0)
}

/// `least` is how far the life goes at least: a life that ends early would meet little.
fn sweep(call: Call, errnos: &[i32], stride: usize, least: usize) {
    faults::quick();
    let stride = number("STRONGROOM_SWEEP_STRIDE", stride);
    let panics = swept::panics();
    let running = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut lives, mut longest) = (0, 0);
    for errno in errnos {
        for (turn, (for_good, closes)) in
            [(false, true), (true, false), (true, true), (false, false)].into_iter().enumerate()
        {
            // Each way begins elsewhere, so that together they meet more calls.
            for skip in (turn * stride / 4..).step_by(stride) {
                let case = Case { call, errno: *errno, skip, for_good, closes };
                let outcome = running.block_on(async { timeout(secs(60), met(case)).await });
                let met = outcome
                    .unwrap_or_else(|_| Err("it hangs".into()))
                    .unwrap_or_else(|found| panic!("{case:?}: {found}"));
                assert_eq!(swept::panics(), panics, "{case:?}: something panicked");
                if !met {
                    break;
                }
                (lives, longest) = (lives + 1, longest.max(skip));
            }
        }
    }
    println!("{call:?}: {lives} lives with a failure, of up to {longest} calls");
    assert!(lives > 0 && longest >= least, "the life ends after {longest} calls");
}

#[test]
fn any_write_may_fail() {
    sweep(Call::Write, &[libc::EIO, libc::ENOSPC], 80, 80);
}

#[test]
fn any_sync_may_fail() {
    sweep(Call::Sync, &[libc::EIO, libc::ENOSPC], 9, 9);
}

#[test]
fn any_file_may_not_open() {
    sweep(Call::Open, &[libc::EIO, libc::EMFILE, libc::ENOSPC, libc::EACCES], 3, 6);
}

#[test]
fn any_file_may_not_be_cut() {
    sweep(Call::Truncate, &[libc::EIO, libc::ENOSPC], 2, 2);
}

#[test]
fn any_file_may_not_be_deleted() {
    sweep(Call::Delete, &[libc::EIO, libc::EACCES], 2, 2);
}

#[test]
fn any_read_may_fail() {
    sweep(Call::Read, &[libc::EIO], 40, 40);
}

/// Of the log's index: what SQLite reads of it, and what this library does.
#[test]
fn any_piece_of_the_index_may_not_come_into_memory() {
    sweep(Call::Map, &[libc::ENOMEM, libc::EACCES, libc::EIO], 2, 0);
}

#[test]
fn any_lock_may_be_refused() {
    sweep(Call::Lock, &[libc::EIO, libc::ENOLCK], 60, 60);
}

/// SQLite opens for reading what it could not open for writing, and says so at the first write.
#[tokio::test]
async fn a_file_that_did_not_open_once_does_not_leave_a_handle_that_only_reads() {
    faults::quick();
    let (made, mut failures) = (Home::new(Kind::KeyedFile), 0);
    let db = made.open().await;
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
    for end in ["", "-wal", "-shm"] {
        for (skip, reads_first) in (0..3).flat_map(|skip| [(skip, false), (skip, true)]) {
            // As after a power failure: with a log, and a new index.
            let home = Home::new(Kind::KeyedFile);
            for end in ["", "-wal", "-shm"] {
                let name = format!("app.db{end}");
                std::fs::copy(made.directory.path().join(&name), home.directory.path().join(&name)).unwrap();
            }
            let file = home.directory.path().canonicalize().unwrap().join(format!("app.db{end}"));
            let what = format!("open {skip} of app.db{end}, reads first: {reads_first}");
            faults::fail(&file, Call::Open, skip, 1, libc::EMFILE);
            let db = home.builder().max_retries(1).build();
            for _ in 0..3 {
                if reads_first {
                    db.fetch_all("SELECT a FROM t", ()).await.ok();
                }
                db.execute("INSERT INTO t VALUES (2)", ()).await.ok();
            }
            failures += faults::heal(&file);
            db.execute("INSERT INTO t VALUES (3)", ()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(db.close().await.unwrap().is_clean(), "{what}");
        }
    }
    assert!(failures > 6, "{failures} opens failed");
}
