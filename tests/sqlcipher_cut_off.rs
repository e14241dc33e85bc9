//! Files that lack their end.
#![cfg(feature = "sqlite")]

mod common;

use std::fs;

use common::{Home, Kind, count, kinds, with_table};
use strongroom::database::CheckDepth;
use strongroom::{ErrorKind, Reason};

const PAGE: usize = 4096;

#[tokio::test]
async fn a_file_whose_end_is_missing_is_refused_unless_the_log_has_it() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        db.execute_many("INSERT INTO t (n) VALUES ($1)", (0..5000).map(|n| (n,))).await.unwrap();
        db.close().await.unwrap();
        let (path, log) = (home.path(), home.directory.path().join("app.db-wal"));
        let whole = fs::read(&path).unwrap();
        for lost in [1, 1000, PAGE, PAGE + 1000, 4 * PAGE] {
            fs::write(&path, &whole[..whole.len() - lost]).unwrap();
            let Err(error) = home.builder().open().await else { panic!("{kind:?}: {lost}") };
            assert_eq!(kinds(&error), (ErrorKind::Storage, Reason::Damaged), "{kind:?}: {lost}: {error}");
            assert_eq!(fs::metadata(&path).unwrap().len(), (whole.len() - lost) as u64, "it was left alone");
        }
        // Copies of both files while the later pages stand in the log alone.
        fs::write(&path, &whole).unwrap();
        let db = home.open().await;
        db.execute_many("INSERT INTO t (n) VALUES ($1)", (0..5000).map(|n| (n,))).await.unwrap();
        let (file, frames) = (fs::read(&path).unwrap(), fs::read(&log).unwrap());
        db.close().await.unwrap();
        assert!(frames.len() > 4 * PAGE, "{kind:?}: the log holds the later pages");
        fs::write(&path, &file).unwrap();
        fs::write(&log, &frames).unwrap();
        let db = home.open().await;
        assert_eq!(count(&db).await, 10_000, "{kind:?}");
        db.close().await.unwrap();
        for lost in [1000, PAGE, 8 * PAGE] {
            let keep = whole.len() - lost;
            fs::write(&path, &file[..keep]).unwrap();
            fs::write(&log, &frames).unwrap();
            match home.builder().open().await {
                // What is missing stands in the log.
                Ok(db) => {
                    assert_eq!(count(&db).await, 10_000, "{kind:?}: {lost}");
                    db.close().await.unwrap();
                    // Now the file is whole again.
                    let db = home.open().await;
                    assert!(db.check(CheckDepth::Full).await.unwrap().is_ok(), "{kind:?}: {lost}");
                    db.close().await.unwrap();
                }
                Err(error) => {
                    assert_eq!(kinds(&error), (ErrorKind::Storage, Reason::Damaged), "{kind:?}: {error}");
                    assert_eq!(fs::read(&log).unwrap(), frames, "{kind:?}: the log was left alone");
                }
            }
        }
    }
}
