//! Copies, and what takes the place of a database, on a disk that is full or fails: what stood there stands there, and
//! nothing else.
#![cfg(all(feature = "sqlcipher", target_os = "linux", target_env = "gnu"))]

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{Home, Kind, key, kinds, numbers};
use faults::Call;
use strongroom::database::BackupOptions;
use strongroom::sqlcipher::ReplaceOptions;
use strongroom::{AsyncDatabase, ErrorKind, Reason};

#[tokio::test]
async fn a_full_disk_or_a_failed_sync_leaves_the_target_as_it_was() {
    for (call, errno, reason) in [
        (Call::Write, libc::ENOSPC, Reason::DiskFull),
        (Call::Sync, libc::EIO, Reason::Io),
        (Call::Open, libc::EACCES, Reason::NotPermitted),
    ] {
        for (plaintext, skip) in [(false, 0), (false, 7), (true, 0), (true, 7)] {
            let what = format!("{call:?} {errno} after {skip}, plaintext {plaintext}");
            if skip > 0 && call != Call::Write {
                continue;
            }
            let home = Home::new(Kind::KeyedFile);
            let db = home.open().await;
            db.execute_script(&format!("CREATE TABLE t AS SELECT i, hex(i) h FROM ({})", numbers(4000))).await.unwrap();
            let target = home.directory.path().join("copy.db");
            std::fs::write(&target, "an older copy").unwrap();
            let options = || {
                let options = BackupOptions::new().replace(true).step_pages(1);
                if plaintext { options.plaintext() } else { options }
            };
            let pattern = home.directory.path().canonicalize().unwrap().join("copy.db-copy-*");
            faults::fail(&pattern, call, skip, usize::MAX, errno);
            let error = db.backup_with(&target, options()).await.unwrap_err();
            faults::heal(&pattern);
            assert_eq!(error.reason(), reason, "{what}: {error}");
            assert!(matches!(error.kind(), ErrorKind::Storage | ErrorKind::Connection), "{what}: {:?}", kinds(&error));
            assert!(error.to_string().contains("copy.db"), "{what}: {error}");
            assert_eq!(std::fs::read(&target).unwrap(), b"an older copy", "{what}");
            let left = home
                .directory
                .path()
                .read_dir()
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .filter(|name| name.to_string_lossy().contains("-copy-"));
            assert_eq!(left.count(), 0, "{what}");
            // Nothing of it stays in the database.
            db.execute("INSERT INTO t VALUES (0, 'more')", ()).await.unwrap();
            db.backup_with(&target, options()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_full_disk_leaves_a_database_that_was_to_be_replaced_as_it_was() {
    for (call, errno, reason) in [(Call::Write, libc::ENOSPC, Reason::DiskFull), (Call::Sync, libc::EIO, Reason::Io)] {
        for (way, skip) in
            [("encrypt", 0), ("encrypt", 5), ("decrypt", 0), ("decrypt", 5), ("restore", 0), ("restore", 5)]
        {
            let what = format!("{way}, {call:?} after {skip}");
            if skip > 0 && call != Call::Write {
                continue;
            }
            let home = Home::new(if way == "encrypt" { Kind::PlainFile } else { Kind::KeyedFile });
            let copy = home.directory.path().join("copy.db");
            let db = home.open().await;
            db.execute_script(&format!("CREATE TABLE t AS SELECT i, hex(i) h FROM ({})", numbers(4000))).await.unwrap();
            db.backup_to(&copy).await.unwrap();
            db.execute("DELETE FROM t WHERE i > 2000", ()).await.unwrap();
            db.close().await.unwrap();
            let run = async |options| {
                let builder = AsyncDatabase::builder(home.path()).key(key());
                match way {
                    "encrypt" => builder.encrypt(options).await,
                    "decrypt" => builder.decrypt(options).await,
                    _ => builder.restore_from(&copy, options).await,
                }
            };
            let pattern = home.directory.path().canonicalize().unwrap().join("app.db-copy-*");
            faults::fail(&pattern, call, skip, usize::MAX, errno);
            let error = run(ReplaceOptions::new().keep(home.directory.path().join("kept.db"))).await.unwrap_err();
            faults::heal(&pattern);
            assert_eq!(error.reason(), reason, "{what}: {error}");
            let mut left: Vec<_> =
                home.directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
            left.sort();
            assert_eq!(left, ["app.db", "copy.db"], "{what}");
            let db = home.open().await;
            assert_eq!(common::count(&db).await, 2000, "{what}");
            db.close().await.unwrap();
            run(ReplaceOptions::new()).await.unwrap();
        }
    }
}

/// What stands in the directory; of what was kept, without the digits in its name.
fn files(home: &Home) -> Vec<String> {
    let names =
        home.directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let unmarked = |name: String| match name.split_once("-copy-") {
        Some((start, rest)) => {
            format!("{start}-copy-{}", rest.trim_start_matches(|digit: char| digit.is_ascii_hexdigit()))
        }
        None => name,
    };
    let mut names: Vec<_> = names.map(unmarked).collect();
    names.sort();
    names
}

fn assert_may_not_last(error: &strongroom::Error, what: &str) {
    assert_eq!(kinds(error), (ErrorKind::OutcomeUnknown, Reason::Io), "{what}: {error}");
    assert!(error.to_string().contains("is in its place, whole, but"), "{what}: {error}");
    assert!(!error.is_transient(), "{what}: {error}");
}

#[tokio::test]
async fn a_copy_whose_directory_cannot_be_synced_is_in_its_place_and_says_that_it_may_not_last() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script(&format!("CREATE TABLE t AS SELECT i FROM ({})", numbers(4000))).await.unwrap();
    let directory = home.directory.path().canonicalize().unwrap();
    let target = directory.join("copy.db");
    for replaces in [false, true] {
        let options = || BackupOptions::new().replace(replaces);
        faults::fail(&directory, Call::Sync, 0, usize::MAX, libc::EIO);
        let error = db.backup_with(&target, options()).await.unwrap_err();
        assert!(faults::heal(&directory) > 0);
        assert_may_not_last(&error, "backup");
        let copy = AsyncDatabase::builder(&target).key(key()).create_if_missing(false).open().await.unwrap();
        assert_eq!(common::count(&copy).await, 4000);
        copy.close().await.unwrap();
        assert_eq!(files(&home), ["app.db", "app.db-shm", "app.db-wal", "copy.db"]);
        // The way out that it names.
        assert!(error.to_string().ends_with("copy again, with .replace(true)"), "{error}");
        if !replaces {
            assert_eq!(db.backup_with(&target, options()).await.unwrap_err().kind(), ErrorKind::Config);
        }
        db.backup_with(&target, BackupOptions::new().replace(true)).await.unwrap();
    }
    db.close().await.unwrap();
}

#[tokio::test]
async fn what_has_taken_a_place_that_cannot_be_synced_is_worked_with_and_what_was_there_is_kept_by_name() {
    for way in ["encrypt", "decrypt", "restore", "restore over a log that nobody can fold"] {
        let home = Home::new(if way == "encrypt" { Kind::PlainFile } else { Kind::KeyedFile });
        let directory = home.directory.path().canonicalize().unwrap();
        let copy = directory.join("copy.db");
        let db = home.open().await;
        db.execute_script(&format!("CREATE TABLE t AS SELECT i FROM ({})", numbers(4000))).await.unwrap();
        db.backup_to(&copy).await.unwrap();
        db.close().await.unwrap();
        let keeps = way.ends_with("fold");
        if keeps {
            std::fs::write(home.path(), "no database").unwrap();
            std::fs::write(directory.join("app.db-wal"), "its log").unwrap();
        }
        let run = async || {
            let builder = AsyncDatabase::builder(home.path()).key(key());
            match way {
                "encrypt" => builder.encrypt(ReplaceOptions::new()).await,
                "decrypt" => builder.decrypt(ReplaceOptions::new()).await,
                _ => builder.restore_from(&copy, ReplaceOptions::new()).await,
            }
        };
        // To give what is there a second name takes a sync, too.
        faults::fail(&directory, Call::Sync, usize::from(keeps), usize::MAX, libc::EIO);
        let error = run().await.unwrap_err();
        assert!(faults::heal(&directory) > 0, "{way}");
        assert_may_not_last(&error, way);
        let kept: &[&str] = if keeps { &["app.db-copy--before", "app.db-copy--before-wal"] } else { &[] };
        let there = [&["app.db"], kept, &["copy.db"]].concat();
        assert_eq!(files(&home), there, "{way}");
        assert_eq!(error.to_string().contains("-before"), keeps, "{way}: {error}");
        let builder = AsyncDatabase::builder(home.path()).create_if_missing(false);
        let db = if way == "decrypt" { builder } else { builder.key(key()) }.open().await.unwrap();
        assert_eq!(common::count(&db).await, 4000, "{way}");
        db.execute("DELETE FROM t WHERE i > 1000", ()).await.unwrap();
        assert_eq!(common::count(&db).await, 1000, "{way}");
        db.close().await.unwrap();
        // What was encrypted is so.
        assert_eq!(
            run().await.map_err(|error| error.kind()).err(),
            match way {
                "encrypt" | "decrypt" => Some(ErrorKind::Encryption),
                _ => None,
            },
            "{way}"
        );
        assert_eq!(files(&home), there, "{way}");
    }
}
