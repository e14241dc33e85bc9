//! How a commit reaches the disk, as each connection of a database is told.
#![cfg(feature = "sqlite")]

use strongroom::AsyncDatabase;
use strongroom::sqlcipher::{Synchronous, Tuning};

/// Apple's `fsync` leaves what was written in the memory of the drive, and only there do the two pragmas change anything;
/// that they are set can be seen everywhere.
#[tokio::test]
async fn every_connection_is_told_how_durable_a_commit_is_and_to_empty_the_memory_of_the_drive() {
    for (synchronous, level) in [(Synchronous::Full, 3), (Synchronous::FullShared, 3), (Synchronous::Normal, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let tuning = Tuning::default().synchronous(synchronous);
        let db = AsyncDatabase::builder(folder.path().join("app.db")).tuning(tuning).open().await.unwrap();
        let mut writer = db.connection().await.unwrap();
        let mut reader = db.read_connection().await.unwrap();
        for connection in [&mut writer, &mut reader] {
            for (pragma, expected) in [("synchronous", level), ("fullfsync", 1), ("checkpoint_fullfsync", 1)] {
                let found: i64 = connection.fetch_value(&format!("PRAGMA {pragma}"), ()).await.unwrap().unwrap();
                assert_eq!(found, expected, "{pragma} with {synchronous:?}");
            }
        }
    }
}
