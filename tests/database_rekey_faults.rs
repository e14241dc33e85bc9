//! A change of key on a disk that is full or fails: the database has the old key or the new one, the call says which, and
//! everybody works on with it. And a power failure at any moment of it.
//!
//! `STRONGROOM_REKEY_CRASHES` (1 by default) is the number of power failures after each write, `STRONGROOM_KILL_SEED` replays them.
#![cfg(all(feature = "sqlcipher", target_os = "linux", target_env = "gnu"))]

mod common;
#[path = "common/faults.rs"]
mod faults;

use std::collections::BTreeSet;

use common::{count, numbers};
use faults::record::Recording;
use faults::{Call, states};
use strongroom::database::CheckDepth;
use strongroom::keys::{CandidateKeySource, async_trait};
use strongroom::pool::NoRetry;
use strongroom::{AsyncDatabase, ErrorKind, KeySource, Reason, Result, Secret};

struct Named(&'static str, u8);

#[async_trait]
impl KeySource for Named {
    async fn resolve(&self) -> Result<Secret> {
        Ok(Secret::raw_key([self.1; 32]))
    }

    fn describe(&self) -> String {
        self.0.into()
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
    let (path, log) = (directory.join("app.db"), directory.join("app.db-wal"));
    let db = AsyncDatabase::builder(&path).key(Named("old", 1)).open().await.unwrap();
    db.execute_script(&format!("CREATE TABLE t AS SELECT i, hex(i) h FROM ({})", numbers(500))).await.unwrap();
    db.suspend().await.unwrap();
    let recording = Recording::of(&directory);
    db.rekey(Named("new", 2)).await.unwrap();
    db.execute("INSERT INTO t VALUES (0, 'more')", ()).await.unwrap();
    let record = recording.so_far();
    let events = record.events.len();
    assert!(events > 30, "{events} events");
    let (mut random, mut seen) = (fastrand::Rng::with_seed(seed), BTreeSet::new());
    for round in 0..rounds {
        let until = match round {
            0 => 0,
            1 => events,
            _ => random.usize(..=events),
        };
        let what = format!("seed {seed}, round {round}, after {until} of {events} events");
        let crashed = tempfile::tempdir().unwrap();
        states::write(&states::crash(&record, until, &mut random), crashed.path());
        let either = CandidateKeySource::new(Named("new", 2)).or(Named("old", 1));
        let after = AsyncDatabase::builder(crashed.path().join("app.db")).key(either).open().await;
        let after = after.unwrap_or_else(|error| panic!("{what}: {error}"));
        let rows = count(&after).await;
        assert!((1000..=1001).contains(&rows), "{what}: {rows} rows");
        let report = after.check(CheckDepth::Full).await.unwrap();
        assert!(report.is_ok(), "{what}: {report:?}");
        seen.insert(after.key_source().unwrap().to_owned());
        after.close().await.unwrap();
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    db.close().await.unwrap();
}
