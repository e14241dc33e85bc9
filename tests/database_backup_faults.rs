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
