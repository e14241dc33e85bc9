//! A change of key on a disk that is full or fails: the database has the old key or the new one, the call says which, and
//! everybody works on with it. And a power failure at any moment of it.
//!
//! `STRONGROOM_REKEY_CRASHES` (1 by default) is the number of power failures after each write, `STRONGROOM_KILL_SEED` replays them.
#![cfg(all(feature = "sqlcipher", target_os = "linux", target_env = "gnu"))]

mod common;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/named.rs"]
mod named;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use common::{count, numbers};
use faults::record::{Event, Record, Recording};
use faults::{Call, states};
use named::Named;
use strongroom::database::{BackupStage, CheckDepth, RekeyOptions};
use strongroom::keys::CandidateKeySource;
use strongroom::pool::NoRetry;
use strongroom::{AsyncDatabase, ErrorKind, Reason};

/// Between the change and the look at what it wrote.
#[tokio::test]
async fn a_page_that_was_damaged_on_the_way_is_named() {
    for page in [1, 6, 150] {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("app.db");
        let db = AsyncDatabase::builder(&path).key(Named("old", 1)).open().await.unwrap();
        db.execute_script(&format!("CREATE TABLE t AS SELECT i, hex(i) h FROM ({})", numbers(40_000))).await.unwrap();
        let damaged = path.clone();
        let options = RekeyOptions::new().on_progress(move |now| {
            if (now.stage, now.done) == (BackupStage::Check, 0) {
                // Not by a handle of this process, which would end the locks of the database.
                let seek = (page - 1) * 4096 + 1000;
                let flip =
                    format!("printf '\\xa5\\x5a\\xa5' | dd of={} bs=1 seek={seek} conv=notrunc", damaged.display());
                assert!(Command::new("bash").args(["-c", &flip]).stderr(Stdio::null()).status().unwrap().success());
            }
        });
        let error = db.rekey_with(Named("new", 2), options).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Damaged, "{error}");
        assert!(error.to_string().contains("has the new key now"), "{error}");
        assert!(error.to_string().contains(&format!("page {page} fails its seal")), "{error}");
    }
}

#[tokio::test]
async fn whatever_fails_the_call_says_which_key_is_in_use() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().canonicalize().unwrap().join("app.db");
    let log = path.with_file_name("app.db-wal");
    let mut seen = BTreeSet::new();
    for (file, call, errno) in [
        (&log, Call::Write, libc::ENOSPC),
        (&log, Call::Write, libc::EDQUOT),
        (&log, Call::Sync, libc::EIO),
        (&log, Call::Open, libc::EACCES),
        (&path, Call::Write, libc::EIO),
        (&path, Call::Sync, libc::EIO),
        (&path, Call::Read, libc::EIO),
    ] {
        for skip in [0, 1, 3, 100] {
            for end in ["", "-wal", "-shm"] {
                std::fs::remove_file(path.with_file_name(format!("app.db{end}"))).ok();
            }
            let what = format!("{call:?} {errno} of {} after {skip}", file.display());
            let old = CandidateKeySource::new(Named("old", 1)).or(Named("new", 2));
            let db = AsyncDatabase::builder(&path).key(old).open().await.unwrap();
            db.execute_script(&format!("CREATE TABLE t AS SELECT i, hex(i) h FROM ({})", numbers(1000))).await.unwrap();
            // Its log is in the file by now, and what fails is the change.
            db.suspend().await.unwrap();
            faults::fail(file, call, skip, usize::MAX, errno);
            let outcome = db.rekey(Named("new", 2)).await;
            let failed = faults::heal(file);
            let in_use = match &outcome {
                Ok(_) => "new",
                Err(error) if error.to_string().contains("has the new key now") => "new",
                Err(_) => "old",
            };
            if let Err(error) = &outcome {
                assert!(failed > 0, "{what}: {error}");
                assert!(matches!(error.kind(), ErrorKind::Storage | ErrorKind::Connection), "{what}: {error}");
                assert!(error.to_string().contains("app.db") && error.advice().is_some(), "{what}: {error}");
                assert_ne!(error.reason(), Reason::Damaged, "{what}: {error}");
                if [libc::ENOSPC, libc::EDQUOT].contains(&errno) && in_use == "old" {
                    assert_eq!(error.reason(), Reason::DiskFull, "{what}: {error}");
                }
            }
            seen.insert((outcome.is_ok(), in_use));
            assert_eq!(db.key_source(), Some(in_use), "{what}: {outcome:?}");
            // Nothing of the failure stays.
            db.execute("INSERT INTO t VALUES (0, 'more')", ()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(count(&db).await, 1001, "{what}");
            let report = db.check(CheckDepth::Full).await.unwrap();
            assert!(report.is_ok(), "{what}: {report:?}");
            db.close().await.unwrap();
            let either = CandidateKeySource::new(Named("new", 2)).or(Named("old", 1));
            let db = AsyncDatabase::builder(&path)
                .key(either)
                .open()
                .await
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!((db.key_source(), count(&db).await), (Some(in_use), 1001), "{what}");
            db.close().await.unwrap();
        }
    }
    assert_eq!(seen, BTreeSet::from([(false, "new"), (false, "old"), (true, "new")]), "each way was met");
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test]
async fn after_a_power_failure_the_file_opens_with_the_old_key_or_the_new_one() {
    let (rounds, seed) = (number("STRONGROOM_REKEY_CRASHES", 1), number("STRONGROOM_KILL_SEED", fastrand::u64(..)));
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().canonicalize().unwrap();
    let path = directory.join("app.db");
    let db = AsyncDatabase::builder(&path).key(Named("old", 1)).open().await.unwrap();
    db.execute_script(&format!("CREATE TABLE t AS SELECT i, hex(i) h FROM ({})", numbers(500))).await.unwrap();
    db.suspend().await.unwrap();
    let recording = Recording::of(&directory);
    db.rekey(Named("new", 2)).await.unwrap();
    db.execute("INSERT INTO t VALUES (0, 'more')", ()).await.unwrap();
    let record = recording.so_far();
    let events = record.events.len();
    assert!(events > 20, "{events} events");
    let (mut random, mut seen) = (fastrand::Rng::with_seed(seed), BTreeSet::new());
    let moments = (0..rounds)
        .flat_map(|_| 0..=events)
        .flat_map(|until| [Loss::Any, Loss::None, Loss::One].map(|loss| (until, loss)));
    // Half of them tell as much as all.
    for (until, loss) in moments.step_by(2) {
        let what = format!("seed {seed}, after {until} of {events} events, {loss:?}");
        let files = match loss {
            Loss::Any => states::crash(&record, until, &mut random),
            Loss::None => states::whole(&cut(&record, until)),
            Loss::One => states::whole(&without_one(cut(&record, until), &mut random)),
        };
        let crashed = tempfile::tempdir().unwrap();
        let mut found = Vec::new();
        // Whichever is tried first, the other one is found.
        for names in [["new", "old"], ["old", "new"]] {
            states::write(&files, crashed.path());
            let [first, second] = names.map(|name| Named(name, if name == "old" { 1 } else { 2 }));
            let either = CandidateKeySource::new(first).or(second);
            let after = AsyncDatabase::builder(crashed.path().join("app.db")).key(either).retry(NoRetry).open().await;
            let after = after.unwrap_or_else(|error| panic!("{what}, {names:?}: {error}"));
            let rows = count(&after).await;
            assert!((500..=501).contains(&rows), "{what}: {rows} rows");
            if found.is_empty() && loss == Loss::Any {
                let report = after.check(CheckDepth::Full).await.unwrap();
                assert!(report.is_ok(), "{what}: {report:?}");
            }
            found.push(after.key_source().unwrap().to_owned());
            after.close().await.unwrap();
        }
        assert_eq!(found[0], found[1], "{what}");
        seen.extend(found);
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    db.close().await.unwrap();
}

/// What is lost of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Any,
    None,
    One,
}

fn cut(record: &Record, until: usize) -> Record {
    Record { events: record.events[..until].to_vec(), ..record.clone() }
}

/// Loses one of the writes since the last sync.
fn without_one(mut record: Record, random: &mut fastrand::Rng) -> Record {
    let synced = record.events.iter().rposition(|event| matches!(event, Event::Sync { .. })).map_or(0, |at| at + 1);
    let mut writes: Vec<_> = record.events[synced..]
        .iter_mut()
        .filter_map(|event| if let Event::Write { bytes, .. } = event { Some(bytes) } else { None })
        .collect();
    if !writes.is_empty() {
        let lost = random.usize(..writes.len());
        writes[lost].clear();
    }
    record
}
