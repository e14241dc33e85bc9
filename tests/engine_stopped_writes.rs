//! A write that is stopped has not happened, and one that has happened is not called stopped.
#![cfg(feature = "sqlite")]

mod common;

use common::{ENDLESS, Home, Kind, count, kinds, millis, with_table};
use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::{ErrorKind, Reason};
use tokio::time::timeout;

/// SQLite asks whether to stop once more when a statement has ended, and its commit is done.
#[tokio::test]
async fn a_write_of_any_length_is_done_once_wherever_it_runs() {
    let home = Home::new(Kind::PlainFile);
    let tuning = Tuning::default().synchronous(Synchronous::Normal).inline_writes(true);
    let db = home.builder().tuning(tuning).open().await.unwrap();
    with_table(&db).await;
    for rows in 1..400_i64 {
        // A text of its own for each length: a statement found to be long is not tried inline again.
        let sql = format!(
            "INSERT INTO t (n) WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c LIMIT {rows}) \
             SELECT i FROM c"
        );
        for _ in 0..3 {
            let before = count(&db).await;
            let said = db.execute(&sql, ()).await.unwrap().rows_affected;
            assert_eq!((said, count(&db).await - before), (u64::try_from(rows).unwrap(), rows), "{rows} rows");
        }
    }
}

#[tokio::test]
async fn a_transaction_that_the_engine_gave_up_disturbs_no_later_borrower() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.builder().pool_max(2).open().await.unwrap();
        with_table(&db).await;
        db.execute("INSERT INTO t VALUES (1, 1)", ()).await.unwrap();
        let mut guard = db.begin().await.unwrap();
        guard.execute("INSERT OR ROLLBACK INTO t VALUES (1, 2)", ()).await.unwrap_err();
        drop(guard);
        db.execute("INSERT INTO t VALUES (2, 2)", ()).await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert_eq!(count(&db).await, 2, "{kind:?}");
    }
}

/// SQLite gives up the whole transaction when a write in it is stopped; what came next would be committed by itself.
#[tokio::test]
async fn nothing_is_committed_alone_after_a_stopped_write_gave_up_a_transaction_begun_by_hand() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let endless = format!("INSERT INTO t (n) {ENDLESS}");
        let put = "INSERT INTO t (n) VALUES (1)";
        let mut raw = db.connection().await.unwrap();
        for _ in 0..2 {
            raw.execute("BEGIN", ()).await.unwrap();
            raw.execute(put, ()).await.unwrap();
            assert!(timeout(millis(50), raw.execute(&endless, ())).await.is_err());
            for error in [
                raw.execute(put, ()).await.unwrap_err(),
                raw.execute(put, ()).await.unwrap_err(),
                raw.execute_script(put).await.unwrap_err(),
                raw.execute_many(put, [()]).await.unwrap_err(),
            ] {
                assert_eq!(kinds(&error), (ErrorKind::Transaction, Reason::Doomed), "{kind:?}: {error}");
                assert!(error.to_string().contains("ROLLBACK"), "the way out: {error}");
            }
            // There is nothing to roll back any more, but saying so is how one goes on.
            raw.execute("ROLLBACK", ()).await.ok();
            assert_eq!(raw.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(0));
        }
        raw.execute("BEGIN", ()).await.unwrap();
        raw.execute(put, ()).await.unwrap();
        raw.execute("COMMIT", ()).await.unwrap();
        raw.execute("BEGIN", ()).await.unwrap();
        assert!(timeout(millis(50), raw.execute(&endless, ())).await.is_err());
        drop(raw);
        db.execute(put, ()).await.unwrap();
        assert_eq!(count(&db).await, 2, "{kind:?}: and no later borrower is disturbed");
        common::assert_whole(&db, "after lost transactions").await;
    }
}

#[tokio::test]
async fn a_transaction_begun_by_hand_may_be_ended_by_execute_many_too() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let put = "INSERT INTO t (n) VALUES (1)";
        let mut raw = db.connection().await.unwrap();
        for _ in 0..2 {
            raw.execute("BEGIN", ()).await.unwrap();
            raw.execute(put, ()).await.unwrap();
            raw.execute_many("COMMIT", [()]).await.unwrap();
            raw.execute(put, ()).await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        }
        drop(raw);
        assert_eq!(count(&db).await, 4, "{kind:?}");
    }
}
