//! A new database is there as a whole or not at all, and a piece of a database is never taken for a new one.
#![cfg(all(feature = "sqlcipher", target_os = "linux"))]

mod common;
#[path = "common/faults.rs"]
mod faults;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Home, Kind, count, key, kinds, secs, with_table};
use faults::Call;
use strongroom::{AsyncDatabase, ErrorKind, PassphraseKeySource, Reason, Secret};

const CHILD: &str = "STRONGROOM_TEST_CREATE";

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_creation_that_fails_at_any_write_or_sync_leaves_nothing_and_the_same_handle_heals() {
    for kind in Kind::FILES {
        let mut failures = 0;
        for (call, errno) in [(Call::Write, libc::ENOSPC), (Call::Sync, libc::EIO)] {
            for skip in 0.. {
                let home = Home::new(kind);
                let db = home.builder().max_retries(1).build();
                let all = home.directory.path().canonicalize().unwrap().join("app.db-new-*");
                faults::fail(&all, call, skip, usize::MAX, errno);
                let outcome = db.connect().await;
                if faults::heal(&all) == 0 {
                    outcome.unwrap();
                    break;
                }
                failures += 1;
                let error = outcome.unwrap_err();
                let reason = if call == Call::Write { Reason::DiskFull } else { Reason::Io };
                assert_eq!(kinds(&error), (ErrorKind::Storage, reason), "{kind:?}: {error}");
                assert_eq!(files(home.directory.path()), [""; 0], "{kind:?}, {call:?} {skip}");
                with_table(&db).await;
                assert_eq!(count(&db).await, 0);
                db.close().await.unwrap();
                assert_eq!(files(home.directory.path()), ["app.db"]);
            }
        }
        assert!(failures >= 2, "{kind:?}: only {failures} places to fail");
    }
}

/// SQLite commits the switch to the write-ahead log after it has said that it was made.
#[tokio::test]
async fn a_switch_to_the_log_that_fails_is_told_and_made_good_by_the_same_handle() {
    for kind in Kind::FILES {
        for (call, errno) in [(Call::Sync, libc::EIO), (Call::Write, libc::ENOSPC)] {
            let home = Home::new(kind);
            let db = home.builder().max_retries(1).build();
            let directory = home.directory.path().canonicalize().unwrap();
            for file in ["app.db", "app.db-journal"] {
                faults::fail(&directory.join(file), call, 0, usize::MAX, errno);
            }
            let error = db.connect().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Storage, "{kind:?}, {call:?}: {error}");
            for file in ["app.db", "app.db-journal"] {
                faults::heal(&directory.join(file));
            }
            with_table(&db).await;
            let mode: Option<String> = db.fetch_value("PRAGMA journal_mode", ()).await.unwrap();
            assert_eq!(mode.as_deref(), Some("wal"), "{kind:?}, {call:?}");
            db.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_process_that_is_killed_while_it_creates_leaves_a_path_that_opens() {
    if let Some(path) = std::env::var_os(CHILD) {
        let db = AsyncDatabase::builder(path).key(key()).open().await.unwrap();
        with_table(&db).await;
        return;
    }
    let me = std::env::current_exe().unwrap();
    for round in 0..12_u64 {
        let home = Home::new(Kind::KeyedFile);
        let name = "a_process_that_is_killed_while_it_creates_leaves_a_path_that_opens";
        let mut child = Command::new(&me).args([name, "--exact"]).env(CHILD, home.path()).spawn().unwrap();
        let patience = std::time::Instant::now() + secs(10);
        while files(home.directory.path()).is_empty() && std::time::Instant::now() < patience {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(round * 150));
        child.kill().unwrap();
        child.wait().unwrap();
        let db = home.open().await;
        db.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, n INTEGER)", ()).await.unwrap();
        assert_eq!(count(&db).await, 0);
        db.close().await.unwrap();
        assert_eq!(files(home.directory.path()), ["app.db"], "round {round}");
    }
}

#[tokio::test]
async fn what_a_dead_process_left_is_swept_away_and_the_log_of_a_lost_database_is_not_taken_over() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let old = home.open().await;
        with_table(&old).await;
        // The log of a database that was deleted without it.
        std::fs::copy(home.directory.path().join("app.db-wal"), home.directory.path().join("kept")).unwrap();
        old.close().await.unwrap();
        std::fs::remove_file(home.path()).unwrap();
        std::fs::rename(home.directory.path().join("kept"), home.directory.path().join("app.db-wal")).unwrap();
        std::fs::write(home.directory.path().join("app.db-new-0123456789abcdef"), "half").unwrap();
        std::fs::write(home.directory.path().join("app.db-new-version"), "the user's").unwrap();
        let db = home.open().await;
        assert!(!db.table_exists("t").await.unwrap(), "{kind:?}");
        db.close().await.unwrap();
        assert_eq!(files(home.directory.path()), ["app.db", "app.db-new-version"]);
    }
}

#[tokio::test]
async fn a_link_to_nothing_is_followed_to_where_the_database_is_created() {
    let home = Home::new(Kind::KeyedFile);
    std::fs::create_dir(home.directory.path().join("data")).unwrap();
    std::os::unix::fs::symlink("data/real.db", home.path()).unwrap();
    let db = home.open().await;
    with_table(&db).await;
    db.close().await.unwrap();
    assert_eq!(files(&home.directory.path().join("data")), ["real.db"]);
    assert_eq!(count(&home.open().await).await, 0);
}

#[tokio::test]
async fn a_database_that_was_cut_off_is_never_taken_for_a_new_one() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        db.close().await.unwrap();
        let whole = std::fs::read(home.path()).unwrap();
        for length in [1, 2, 15, 16, 17, 100, 511, 512, 1024, 4095] {
            for wrong_key in [false, true] {
                std::fs::write(home.path(), &whole[..length]).unwrap();
                let builder = home.builder().max_retries(1);
                let builder = if wrong_key && kind.is_keyed() {
                    builder.key(PassphraseKeySource::new(Secret::raw_key([8; 32])))
                } else {
                    builder
                };
                let error = builder.open().await.unwrap_err();
                // As long as a page of an older format, it cannot be told from one that has another key.
                let unsure = kind.is_keyed() && length == 1024;
                let expected = if unsure { ErrorKind::Encryption } else { ErrorKind::Storage };
                assert_eq!(error.kind(), expected, "{kind:?}, {length} bytes: {error}");
                assert_eq!(std::fs::read(home.path()).unwrap(), whole[..length], "{kind:?}, {length}: it was changed");
                assert_eq!(files(home.directory.path()), ["app.db"], "{kind:?}, {length}");
            }
        }
        // Emptied, but with a log: SQLite would delete that.
        std::fs::write(home.path(), "").unwrap();
        std::fs::write(home.directory.path().join("app.db-wal"), &whole).unwrap();
        let error = home.builder().max_retries(1).open().await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Storage, Reason::Damaged), "{error}");
        assert_eq!(std::fs::read(home.directory.path().join("app.db-wal")).unwrap(), whole);
    }
}
