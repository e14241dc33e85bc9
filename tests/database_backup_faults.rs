//! Copies on a disk that is full or fails: what stood there stands there, and nothing else.
#![cfg(all(feature = "sqlcipher", target_os = "linux", target_env = "gnu"))]

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{Home, Kind, kinds, numbers};
use faults::Call;
use strongroom::database::BackupOptions;
use strongroom::{ErrorKind, Reason};

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
                let options = BackupOptions::new().replace(true);
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
