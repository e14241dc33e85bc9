//! A disk that fails in a sync: whoever was committing does not know, and nothing relies on what was written before.
#![cfg(all(feature = "sqlite", target_os = "linux"))]

mod common;
#[path = "common/faults.rs"]
mod faults;

use std::path::PathBuf;

use common::{Home, Kind, count, kinds, with_table};
use faults::record::Recording;
use faults::{Call, states};
use futures_util::future::join_all;
use strongroom::database::CheckDepth;
use strongroom::pool::CloseReport;
use strongroom::sqlcipher::{Checkpoints, Synchronous, Tuning};
use strongroom::{AsyncDatabase, ErrorKind, Reason};

const UNKNOWN: (ErrorKind, Reason) = (ErrorKind::OutcomeUnknown, Reason::Io);
const FAILED: (ErrorKind, Reason) = (ErrorKind::Storage, Reason::Io);

fn log_of(home: &Home) -> PathBuf {
    home.directory.path().canonicalize().unwrap().join("app.db-wal")
}

fn file_of(home: &Home) -> PathBuf {
    home.directory.path().canonicalize().unwrap().join("app.db")
}

async fn open(kind: Kind) -> (Home, AsyncDatabase) {
    let home = Home::new(kind);
    let db = home.open().await;
    with_table(&db).await;
    db.execute("CREATE TABLE big (bytes)", ()).await.unwrap();
    (home, db)
}

#[tokio::test]
async fn a_lone_write_whose_sync_fails_has_an_unknown_outcome_and_is_there_afterwards() {
    for kind in Kind::FILES {
        let (home, db) = open(kind).await;
        faults::fail(&log_of(&home), Call::Sync, 0, usize::MAX, libc::EIO);
        let error = db.execute("INSERT INTO t VALUES (1, 1)", ()).await.unwrap_err();
        assert_eq!(kinds(&error), UNKNOWN, "{error}");
        assert!(!error.is_transient(), "somebody might do it again");
        db.close().await.ok();
        assert!(faults::heal(&log_of(&home)) > 0);
        let db = home.open().await;
        assert_eq!(count(&db).await, 1, "{kind:?}: then there was nothing to be told");
        db.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_in_a_group_whose_sync_fails_is_told_so_and_nobody_is_run_again() {
    let (home, db) = open(Kind::PlainFile).await;
    let held = db.connection().await.unwrap();
    // More than one group.
    let writes = (0..200).map(|n| {
        let db = db.clone();
        tokio::spawn(async move { db.execute("INSERT INTO t (n) VALUES ($1)", (n,)).await })
    });
    let writes: Vec<_> = writes.collect();
    common::eventually("all wait", || db.stats().waiting >= 200).await;
    // The first commit fails, any later one works.
    faults::fail(&log_of(&home), Call::Sync, 0, 1, libc::EIO);
    drop(held);
    let outcomes: Vec<_> = join_all(writes).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(faults::heal(&log_of(&home)), 1);
    let unknown = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect::<Vec<_>>();
    assert!((1..=100).contains(&unknown.len()), "those behind it have another writer: {unknown:?}");
    assert!(unknown.iter().all(|error| kinds(error) == UNKNOWN), "{unknown:?}");
    let rows: Vec<(i64, i64)> =
        db.fetch_all_as("SELECT n, count(*) FROM t GROUP BY n HAVING count(*) > 1", ()).await.unwrap();
    assert!(rows.is_empty(), "written twice: {rows:?}");
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_of_a_group_is_made_good_for_before_the_next_write_as_a_lone_one_s_is() {
    let mut said = Vec::new();
    for writers in [1, 20] {
        let (home, db) = open(Kind::PlainFile).await;
        let held = db.connection().await.unwrap();
        let writes = (0..writers).map(|n| {
            let db = db.clone();
            tokio::spawn(async move { db.execute("INSERT INTO t (n) VALUES ($1)", (n,)).await })
        });
        let writes: Vec<_> = writes.collect();
        common::eventually("all wait", || db.stats().waiting >= writers).await;
        faults::fail(&log_of(&home), Call::Sync, 0, usize::MAX, libc::EIO);
        drop(held);
        let outcomes: Vec<_> = join_all(writes).await.into_iter().map(Result::unwrap).collect();
        assert!(
            outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(|error| kinds(error) == UNKNOWN)),
            "{outcomes:?}"
        );
        let error = db.execute("INSERT INTO t (n) VALUES (-1)", ()).await.unwrap_err();
        assert_eq!(kinds(&error), FAILED, "{writers}: {error}");
        said.push(error.to_string());
        assert!(faults::heal(&log_of(&home)) > 0);
        db.execute("INSERT INTO t (n) VALUES (-2)", ()).await.unwrap();
        db.close().await.unwrap();
    }
    assert_eq!(said[0], said[1]);
}

#[tokio::test]
async fn what_fails_before_the_commit_has_changed_nothing_and_says_so() {
    let (home, db) = open(Kind::PlainFile).await;
    // More than the page cache holds goes to the log before the commit.
    let big = "WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c LIMIT 8000)
               INSERT INTO big SELECT randomblob(4000) FROM c";
    for errno in [libc::EIO, libc::ENOSPC] {
        faults::fail(&log_of(&home), Call::Write, 20, usize::MAX, errno);
        let error = db.execute(big, ()).await.unwrap_err();
        assert!(faults::heal(&log_of(&home)) > 0);
        let expected = if errno == libc::EIO { FAILED } else { (ErrorKind::Storage, Reason::DiskFull) };
        assert_eq!(kinds(&error), expected, "{error}");
        db.close_check(&home).await;
    }
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_in_a_commit_has_changed_nothing_and_says_so() {
    let (home, db) = open(Kind::PlainFile).await;
    faults::fail(&log_of(&home), Call::Write, 0, usize::MAX, libc::ENOSPC);
    let error = db.execute("INSERT INTO t VALUES (1, 1)", ()).await.unwrap_err();
    faults::heal(&log_of(&home));
    assert_eq!(kinds(&error), (ErrorKind::Storage, Reason::DiskFull), "{error}");
    assert_eq!(count(&db).await, 0);
    // A system that finds the space missing only when it syncs may have written all the same.
    faults::fail(&log_of(&home), Call::Sync, 0, usize::MAX, libc::ENOSPC);
    let error = db.execute("INSERT INTO t VALUES (1, 1)", ()).await.unwrap_err();
    faults::heal(&log_of(&home));
    assert_eq!(kinds(&error), UNKNOWN, "{error}");
    db.close().await.unwrap();
}

trait CloseCheck {
    async fn close_check(&self, home: &Home);
}

impl CloseCheck for AsyncDatabase {
    /// Nothing big is there, seen by another handle.
    async fn close_check(&self, home: &Home) {
        let other = home.open().await;
        assert_eq!(other.fetch_value::<i64>("SELECT count(*) FROM big", ()).await.unwrap(), Some(0));
        other.close().await.unwrap();
    }
}

/// Part of the log is copied without a sync, because a reader keeps the rest from being copied; then the rest is copied,
/// and the sync for both fails.
async fn fail_a_checkpoint(
    home: &Home,
    checkpoints: Checkpoints,
    synchronous: Synchronous,
) -> (AsyncDatabase, Recording, i64) {
    let file = file_of(home);
    let recording = Recording::of(home.directory.path());
    let tuning = Tuning::default().checkpoints(checkpoints).synchronous(synchronous);
    let db = home.builder().tuning(tuning).open().await.unwrap();
    with_table(&db).await;
    db.execute_script("ALTER TABLE t ADD COLUMN text; CREATE INDEX by_n ON t (n)").await.unwrap();
    let mut n = 0;
    let mut write = async |pages: i64| {
        for _ in 0..pages / 50 {
            let rows = (0..50).map(|_| {
                n += 1;
                (n, (n * 7919) % 1_000_003, "x".repeat(3500))
            });
            let rows: Vec<_> = rows.collect();
            // Where the log is synced by checkpoints only, one that fails breaks the connection that writes, and what was open
            // there is rolled back.
            while let Err(error) = db.execute_many("INSERT INTO t VALUES ($1, $2, $3)", rows.clone()).await {
                assert!(synchronous == Synchronous::Normal && error.is_transient(), "{error:?}");
            }
        }
        n
    };
    write(500).await;
    let mut reader = db.read_connection().await.unwrap();
    reader.execute("BEGIN", ()).await.unwrap();
    reader.fetch_one("SELECT count(*) FROM t", ()).await.unwrap();
    write(900).await;
    common::eventually("a part is copied", || file.metadata().unwrap().len() > 400 * 4096).await;
    faults::fail(&file, Call::Sync, 0, 1, libc::EIO);
    reader.execute("COMMIT", ()).await.unwrap();
    drop(reader);
    for _ in 0..40 {
        write(100).await;
        if db.engine_stats().failed_checkpoints > 0 {
            break;
        }
        tokio::time::sleep(common::millis(20)).await;
    }
    assert_eq!(faults::heal(&file), 1, "no checkpoint was synced");
    assert_eq!(db.engine_stats().failed_checkpoints, 1, "nobody was told");
    let written = write(1500).await;
    common::eventually("it is copied again", || file.metadata().unwrap().len() > 2000 * 4096).await;
    let written = written.max(write(1500).await);
    (db, recording, written)
}

/// `least`: so many rows must be there.
async fn no_crash_state_is_damaged(home: &Home, recording: &Recording, (least, written): (i64, i64), seed: u64) {
    let record = recording.so_far();
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..4 {
        let crashed = Home::new(home.kind);
        let left = states::crash(&record, record.events.len(), &mut random);
        states::write(&left, crashed.directory.path());
        let db = crashed.open().await;
        let report = db.check(CheckDepth::Full).await.unwrap();
        assert!(report.is_ok(), "seed {seed}: {report:?}");
        let found = count(&db).await;
        assert!((least..=written).contains(&found), "seed {seed}: {found} of {least} to {written} rows");
        db.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_of_a_checkpoint_everything_is_copied_anew() {
    let ways = [
        (Kind::PlainFile, Checkpoints::Background, Synchronous::Full),
        (Kind::PlainFile, Checkpoints::AtCommit, Synchronous::Full),
        (Kind::PlainFile, Checkpoints::Background, Synchronous::Normal),
        (Kind::KeyedFile, Checkpoints::Background, Synchronous::Full),
    ];
    for (seed, (kind, checkpoints, synchronous)) in (1..).zip(ways) {
        let home = Home::new(kind);
        let (db, recording, written) = fail_a_checkpoint(&home, checkpoints, synchronous).await;
        // The newest may be missing where a commit does not wait for the disk.
        let least = if synchronous == Synchronous::Normal { 0 } else { written };
        no_crash_state_is_damaged(&home, &recording, (least, written), seed).await;
        assert!(db.close().await.unwrap().is_clean());
        no_crash_state_is_damaged(&home, &recording, (written, written), seed).await;
    }
}

#[tokio::test]
async fn after_a_failed_sync_of_a_checkpoint_by_words_everything_is_copied_anew() {
    faults::quick();
    for way in ["as it was opened", "altered", "closure that hides it"] {
        let home = Home::new(Kind::PlainFile);
        let recording = Recording::of(home.directory.path());
        let db = home.open().await;
        with_table(&db).await;
        db.execute("CREATE TABLE big (bytes)", ()).await.unwrap();
        let write = async |first: i64| {
            let rows = (first..first + 100).map(|n| (n, n));
            db.execute_many("INSERT INTO t VALUES ($1, $2)", rows).await.unwrap();
            db.execute(
                &format!("INSERT INTO big {}", common::numbers(200).replace("SELECT i", "SELECT randomblob(3900)")),
                (),
            )
            .await
            .unwrap();
        };
        write(0).await;
        let mut reader = db.read_connection().await.unwrap();
        reader.execute("BEGIN", ()).await.unwrap();
        reader.fetch_one("SELECT count(*) FROM t", ()).await.unwrap();
        write(100).await;
        let mut writer = db.connection().await.unwrap();
        if way == "altered" {
            writer.execute("PRAGMA cache_size = 700", ()).await.unwrap();
        }
        writer.fetch_one("PRAGMA wal_checkpoint(PASSIVE)", ()).await.unwrap();
        reader.execute("COMMIT", ()).await.unwrap();
        drop(reader);
        faults::fail(&file_of(&home), Call::Sync, 0, 1, libc::EIO);
        if way.starts_with("closure") {
            writer.interact(|c| Ok(c.query_row("PRAGMA wal_checkpoint", (), |_| Ok(())).is_ok())).await.unwrap();
        } else {
            let error = writer.fetch_one("PRAGMA wal_checkpoint(PASSIVE)", ()).await.unwrap_err();
            assert_eq!(kinds(&error), FAILED, "{way}: {error}");
        }
        assert_eq!(faults::heal(&file_of(&home)), 1, "{way}");
        drop(writer);
        db.execute("INSERT INTO t VALUES (200, 200)", ()).await.unwrap();
        assert_eq!(db.checkpoint().await.unwrap().left, 0);
        db.execute("INSERT INTO t VALUES (201, 201)", ()).await.unwrap();
        for seed in 0..4 {
            no_crash_state_is_damaged(&home, &recording, (202, 202), seed).await;
        }
        db.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_reports_all_it_closed_and_what_failed_however_connections_come_back() {
    for (round, fault) in (0..40).zip([false, true].into_iter().cycle()) {
        let home = Home::new(Kind::PlainFile);
        let db = home.builder().pool_max(4).open().await.unwrap();
        with_table(&db).await;
        db.execute("INSERT INTO t VALUES (1, 1)", ()).await.unwrap();
        let mut loans = Vec::new();
        for n in 0..3 {
            let mut loan = db.read_connection().await.unwrap();
            if n == round % 3 {
                // It has to be put in order, or is closed at once.
                loan.execute(if round % 2 == 0 { "BEGIN" } else { "PRAGMA cache_size = 7" }, ()).await.unwrap();
            }
            loans.push(loan);
        }
        if round % 4 < 2 {
            loans.push(db.connection().await.unwrap());
        }
        let open = db.stats().total_connections;
        if fault {
            faults::fail(&file_of(&home), Call::Sync, 0, usize::MAX, libc::EIO);
        }
        // Closing begins first, so that nothing is closed before it.
        let coming_back = async {
            for loan in loans {
                tokio::task::yield_now().await;
                drop(loan);
            }
        };
        let (one, two, ()) = tokio::join!(db.close(), db.close(), coming_back);
        let reports = [one, two];
        let failed = faults::heal(&file_of(&home)) > 0;
        let reports: Vec<_> = reports.into_iter().map(Result::unwrap).collect();
        let closed: u32 = reports.iter().map(|report| report.closed).sum();
        assert_eq!(closed, open, "round {round}: {reports:?}");
        assert_eq!(reports.iter().all(CloseReport::is_clean), !failed, "round {round}: {reports:?}");
        assert_eq!(failed, fault, "round {round}: the last checkpoint was not synced");
    }
}

#[tokio::test]
async fn a_close_of_readers_alone_reports_a_copy_of_the_log_that_failed() {
    for fault in [true, false] {
        let home = Home::new(Kind::KeyedFile);
        let db = home.builder().pool_min(0).open().await.unwrap();
        with_table(&db).await;
        db.execute("INSERT INTO t VALUES (1, 1)", ()).await.unwrap();
        faults::fail(&file_of(&home), Call::Sync, 0, usize::MAX, libc::EIO);
        assert!(!db.suspend().await.unwrap().is_clean(), "the log is copied");
        // Only a reader is opened for it.
        assert_eq!(count(&db).await, 1);
        if !fault {
            faults::heal(&file_of(&home));
        }
        let report = db.close().await.unwrap();
        let failed = faults::heal(&file_of(&home)) > 0;
        assert_eq!((failed, report.closed, report.is_clean()), (fault, 1, !fault), "{report:?}");
        assert_eq!(log_of(&home).exists(), fault, "{report:?}");
        let db = home.open().await;
        assert_eq!(count(&db).await, 1);
        db.close().await.unwrap();
    }
}
