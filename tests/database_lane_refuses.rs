//! What only the holder of a connection may ask is refused in the write lane, however many ask at once.
#![cfg(feature = "sqlite")]

mod common;

use common::{Home, Kind, count, eventually, kinds, with_table};
use futures_util::future::join_all;
use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::{ErrorKind, Reason};

const REFUSED: (ErrorKind, Reason) = (ErrorKind::Unsupported, Reason::Control);

#[tokio::test]
async fn nobody_in_the_lane_learns_what_another_has_inserted() {
    for kind in Kind::ALL {
        for inline in [false, true] {
            let home = Home::new(kind);
            let tuning = Tuning::default().synchronous(Synchronous::Normal).inline_writes(inline);
            let db = home.builder().tuning(tuning).open().await.unwrap();
            with_table(&db).await;
            db.execute("INSERT INTO t (id, n) VALUES (77, 1)", ()).await.unwrap();
            for sql in ["INSERT INTO t (n) VALUES (last_insert_rowid())", "UPDATE t SET n = total_changes()"] {
                for round in 0..3 {
                    let held = db.connection().await.unwrap();
                    let calls = (0..10).map(|_| {
                        let db = db.clone();
                        tokio::spawn(async move { db.execute(sql, ()).await })
                    });
                    let calls: Vec<_> = calls.collect();
                    eventually("they wait", || db.stats().waiting > 0).await;
                    drop(held);
                    for outcome in join_all(calls).await {
                        let error = outcome.unwrap().expect_err("it may not run here");
                        assert_eq!(kinds(&error), REFUSED, "{kind:?}, inline {inline}, round {round}: {error}");
                    }
                }
            }
            assert_eq!(count(&db).await, 1, "{kind:?}, inline {inline}");
            let n: Option<i64> = db.fetch_value("SELECT n FROM t", ()).await.unwrap();
            assert_eq!(n, Some(1), "{kind:?}, inline {inline}");
        }
    }
}

#[tokio::test]
async fn who_is_refused_disturbs_nobody_beside_them() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.builder().tuning(Tuning::default().synchronous(Synchronous::Normal)).open().await.unwrap();
        with_table(&db).await;
        for _ in 0..3 {
            let held = db.connection().await.unwrap();
            let calls = (0..20).map(|n| {
                let db = db.clone();
                let value = if n % 2 == 0 { "last_insert_rowid()" } else { "1" };
                tokio::spawn(async move { db.execute(&format!("INSERT INTO t (n) VALUES ({value})"), ()).await })
            });
            let calls: Vec<_> = calls.collect();
            eventually("they wait", || db.stats().waiting > 0).await;
            drop(held);
            for (n, outcome) in join_all(calls).await.into_iter().enumerate() {
                assert_eq!(outcome.unwrap().is_err(), n % 2 == 0, "{kind:?}, {n}");
            }
        }
        assert_eq!(count(&db).await, 30, "{kind:?}");
    }
}
