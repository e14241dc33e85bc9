//! Bulk inserts on the caller's own task: in slices, as long as they are plain, and to be stopped like any other call.
#![cfg(feature = "sqlite")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::{Home, Kind, count, kinds, millis, with_table};
use strongroom::engine::{Access, Resource, TransactionMode};
use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::values::IntoParams;
use strongroom::{AsyncDatabase, Connection, Connector, ErrorKind, Reason, SqlCipherConnector};

const PUT: &str = "INSERT INTO t (n) VALUES ($1)";

async fn quick(home: &Home) -> AsyncDatabase {
    let tuning = Tuning::default().synchronous(Synchronous::Normal).inline_writes(true);
    let db = home.builder().tuning(tuning).open().await.unwrap();
    with_table(&db).await;
    // From here on the statement is known.
    db.execute(PUT, (0,)).await.unwrap();
    db
}

fn ran_inline(db: &AsyncDatabase) -> u64 {
    db.engine_stats().inline_runs
}

#[tokio::test]
async fn plain_inserts_take_no_thread_and_leave_the_others_their_turn() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = quick(&home).await;
        // Sets that take long on any machine: the engine looks at the clock after 32 of them, and ends the slice each time.
        // Where other programs stretch two slices, the rest takes a thread, so that two are certain.
        let indexes: String = (0..40).map(|i| format!("CREATE INDEX i{i} ON t (n + {i});")).collect();
        db.execute_script(&indexes).await.unwrap();
        db.execute(PUT, (-1,)).await.unwrap();
        let turns = Arc::new(AtomicU64::new(0));
        let other = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move {
                loop {
                    turns.fetch_add(1, Relaxed);
                    tokio::task::yield_now().await;
                }
            }
        });
        let before = ran_inline(&db);
        db.execute_many(PUT, (0..1000).map(|n| (n,))).await.unwrap();
        let slices = ran_inline(&db) - before;
        other.abort();
        assert!(slices >= 2, "{kind:?}: {slices} slices");
        assert!(turns.load(Relaxed) >= slices - 1, "{kind:?}: {turns:?} turns between {slices} slices");
        assert_eq!(count(&db).await, 1002, "{kind:?}");
    }
}

#[tokio::test]
async fn whatever_is_not_plain_takes_a_thread() {
    let home = Home::new(Kind::PlainFile);
    let db = quick(&home).await;
    db.execute_script("CREATE TABLE seen (n); CREATE TABLE watched (n)").await.unwrap();
    db.execute_script("CREATE TRIGGER w AFTER INSERT ON watched BEGIN INSERT INTO seen VALUES (new.n); END")
        .await
        .unwrap();
    for sql in [
        "INSERT INTO t (n) SELECT $1",
        "INSERT INTO t (n) VALUES (abs($1))",
        "INSERT INTO t (n) VALUES ((SELECT max(n) + $1 FROM t))",
        "INSERT INTO t (id, n) VALUES (1, $1) ON CONFLICT DO UPDATE SET n = excluded.n",
        "INSERT INTO watched VALUES ($1)",
        "UPDATE t SET n = $1 WHERE id = 1",
        "DELETE FROM seen WHERE n = $1",
    ] {
        db.execute(sql, (1,)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let before = ran_inline(&db);
        db.execute_many(sql, (0..100).map(|n| (n,))).await.unwrap();
        assert_eq!(ran_inline(&db), before, "{sql}");
    }
}

#[tokio::test]
async fn a_failing_set_is_named_by_its_number_and_undoes_all() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = quick(&home).await;
        let put = "INSERT INTO t (id, n) VALUES ($1, 1)";
        db.execute(put, (5000,)).await.unwrap();
        let error = db.execute_many(put, (4001..).take(3000).map(|id| (id,))).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Constraint, Reason::Unique), "{kind:?}: {error}");
        assert!(error.to_string().contains("set 1000 of parameters"), "{kind:?}: {error}");
        assert_eq!(count(&db).await, 2, "{kind:?}");
    }
}

#[tokio::test]
async fn a_cancel_from_outside_stops_it_between_slices_too() {
    let directory = tempfile::tempdir().unwrap();
    let tuning = Tuning::default().synchronous(Synchronous::Normal);
    let connector = SqlCipherConnector::new(directory.path().join("a.db")).tuning(tuning);
    let mut connection = connector.connect(Access::Write).await.unwrap();
    connection.run_script("CREATE TABLE t (n)".into()).await.unwrap();
    connection.classify(PUT).unwrap();
    let sets = (0..80_000).map(|n| (n,).into_params().unwrap()).collect();
    let canceller = connection.canceller();
    connection.begin(TransactionMode::WRITE).await.unwrap();
    let running = connection.run_many(PUT.into(), sets);
    let cancelling = async {
        // On this runtime it is polled between two slices only.
        tokio::task::yield_now().await;
        canceller.cancel();
    };
    let (outcome, ()) = tokio::join!(running, cancelling);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
    connection.rollback().await.unwrap();
    let rows = connection.run(strongroom::engine::Statement::new("SELECT count(*) FROM t", ()).unwrap()).await.unwrap();
    assert_eq!(rows.first().unwrap().get::<i64>(0).unwrap(), 0);
}

#[tokio::test]
async fn a_dropped_bulk_insert_leaves_nothing_behind() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = quick(&home).await;
        let endless = db.execute_many(PUT, (0..).map(|n| (n,)));
        assert!(tokio::time::timeout(millis(30), endless).await.is_err(), "{kind:?}");
        db.execute(PUT, (1,)).await.unwrap();
        assert_eq!(count(&db).await, 2, "{kind:?}");
        common::assert_whole(&db, "after a dropped bulk insert").await;
    }
}
