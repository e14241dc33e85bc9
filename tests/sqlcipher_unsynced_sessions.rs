//! A session that was told not to sync: what others were told is done survives a power failure all the same.
#![cfg(all(feature = "sqlite", target_os = "linux"))]

mod common;
#[path = "common/faults.rs"]
mod faults;

use common::{Home, Kind, count, with_table};
use faults::record::{Record, Recording};
use faults::states;
use strongroom::AsyncDatabase;
use strongroom::database::CheckDepth;
use strongroom::sqlcipher::{Checkpoints, Tuning};

/// Power failures at the end of a record.
async fn nothing_is_lost(home: &Home, record: &Record, rows: i64, what: &str) {
    for seed in 0..8 {
        let crashed = Home::new(home.kind);
        let left = states::crash(record, record.events.len(), &mut fastrand::Rng::with_seed(seed));
        states::write(&left, crashed.directory.path());
        let db = crashed.open().await;
        let report = db.check(CheckDepth::Full).await.unwrap();
        assert!(report.is_ok(), "{what}, seed {seed}: {report:?}");
        assert_eq!(count(&db).await, rows, "{what}, seed {seed}");
        db.close().await.unwrap();
    }
}

async fn switched_off(db: &AsyncDatabase, way: &str) {
    let off = "PRAGMA synchronous = OFF";
    match way {
        "script that fails" => drop(db.execute_script("PRAGMA synchronous = OFF\nDROP TABLE t").await.unwrap_err()),
        "script" => db.execute_script(off).await.unwrap(),
        "closure" => db.interact(|c| c.execute_batch("PRAGMA synchronous = OFF")).await.unwrap(),
        "commit that copies" => {
            let mut writer = db.connection().await.unwrap();
            writer.execute(off, ()).await.unwrap();
            let much = "INSERT INTO big WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c LIMIT 1100)
                        SELECT randomblob(3900) FROM c";
            writer.execute(much, ()).await.unwrap();
        }
        _ => db.connection().await.unwrap().execute(off, ()).await.map(drop).unwrap(),
    }
}

#[tokio::test]
async fn a_session_that_does_not_sync_copies_no_log_without_a_sync() {
    faults::quick();
    for kind in Kind::FILES {
        for way in ["script that fails", "script", "closure", "commit that copies", "connection"] {
            let home = Home::new(kind);
            let recording = Recording::of(home.directory.path());
            let checkpoints = if way == "commit that copies" { Checkpoints::AtCommit } else { Checkpoints::Background };
            let db = home.builder().tuning(Tuning::default().checkpoints(checkpoints)).open().await.unwrap();
            with_table(&db).await;
            db.execute("CREATE TABLE big (bytes)", ()).await.unwrap();
            for n in 0..20 {
                db.execute("INSERT INTO t VALUES ($1, $1)", (n,)).await.unwrap();
            }
            switched_off(&db, way).await;
            // The log starts over with this.
            db.execute("INSERT INTO t VALUES (20, 20)", ()).await.unwrap();
            nothing_is_lost(&home, &recording.so_far(), 21, &format!("{kind:?}, {way}")).await;
            db.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_last_session_to_close_syncs_whatever_it_was_told() {
    faults::quick();
    for access in ["reader", "writer"] {
        let home = Home::new(Kind::KeyedFile);
        let recording = Recording::of(home.directory.path());
        let db = home.open().await;
        with_table(&db).await;
        db.execute("INSERT INTO t VALUES (1, 1)", ()).await.unwrap();
        let lent = if access == "reader" { db.read_connection().await } else { db.connection().await };
        lent.unwrap().execute("PRAGMA synchronous = OFF", ()).await.unwrap();
        db.close().await.unwrap();
        nothing_is_lost(&home, &recording.so_far(), 1, access).await;
    }
}
