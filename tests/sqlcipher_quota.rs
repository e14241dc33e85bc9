//! A quota that is used up is answered like a full disk: by name, and without a loss.
#![cfg(all(feature = "sqlite", target_os = "linux", target_env = "gnu"))]

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{Home, Kind, count, kinds, with_table};
use faults::Call;
use strongroom::{ErrorKind, Reason};

const FULL: (ErrorKind, Reason) = (ErrorKind::Storage, Reason::DiskFull);

#[tokio::test]
async fn whatever_writes_says_that_the_disk_is_full() {
    for (kind, errno) in [
        (Kind::PlainFile, libc::ENOSPC),
        (Kind::PlainFile, libc::EDQUOT),
        (Kind::KeyedFile, libc::ENOSPC),
        (Kind::KeyedFile, libc::EDQUOT),
    ] {
        let (home, what) = (Home::new(kind), format!("{kind:?}, {errno}"));
        let directory = home.directory.path().canonicalize().unwrap();
        let log = directory.join("app.db-wal");
        let db = home.open().await;
        with_table(&db).await;
        faults::fail(&log, Call::Write, 0, usize::MAX, errno);
        let insert = "INSERT INTO t (n) VALUES (1)";
        let errors = [
            db.execute(insert, ()).await.map(drop),
            db.fetch_all(&format!("{insert} RETURNING n"), ()).await.map(drop),
            db.execute_script(insert).await.map(drop),
            db.execute_many("INSERT INTO t (n) VALUES ($1)", [(1,), (2,)]).await.map(drop),
            db.transaction(async |tx| tx.execute(insert, ()).await.map(drop)).await,
            db.interact(move |c| c.execute(insert, ()).map(drop)).await,
        ];
        for (number, outcome) in errors.into_iter().enumerate() {
            let error = outcome.unwrap_err();
            assert_eq!(kinds(&error), FULL, "{what}, call {number}: {error}");
            assert!(error.advice().is_some_and(|advice| advice.contains("free space")), "{what}: {error}");
        }
        assert!(faults::heal(&log) >= 6, "{what}");
        assert_eq!(count(&db).await, 0, "{what}");
        db.execute(insert, ()).await.unwrap();
        assert_eq!(count(&db).await, 1, "{what}");

        let draft = directory.join("copy.db-copy-*");
        faults::fail(&draft, Call::Write, 0, usize::MAX, errno);
        let error = db.backup_to(directory.join("copy.db")).await.unwrap_err();
        assert_eq!(kinds(&error), FULL, "{what}: {error}");
        faults::heal(&draft);
        db.close().await.unwrap();

        let new = Home::new(kind);
        let draft = new.directory.path().canonicalize().unwrap().join("app.db-new-*");
        faults::fail(&draft, Call::Write, 0, usize::MAX, errno);
        let error = new.builder().retry(strongroom::pool::NoRetry).open().await.unwrap_err();
        assert_eq!(kinds(&error), FULL, "{what}: {error}");
        faults::heal(&draft);
        new.open().await.close().await.unwrap();
    }
}

/// A sync that fails says nothing of what was written.
#[tokio::test]
async fn a_quota_that_is_found_used_up_by_a_sync_leaves_the_outcome_open() {
    let home = Home::new(Kind::PlainFile);
    let log = home.directory.path().canonicalize().unwrap().join("app.db-wal");
    let db = home.open().await;
    with_table(&db).await;
    faults::fail(&log, Call::Sync, 0, 1, libc::EDQUOT);
    let error = db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap_err();
    assert_eq!(faults::heal(&log), 1);
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    db.close().await.unwrap();
}
