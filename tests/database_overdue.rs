//! Transactions, borrowed connections and streams that are held for too long: said once, by name, and ended if asked.
#![cfg(all(feature = "testing", feature = "sqlite"))]

mod common;
#[path = "common/log.rs"]
mod log;

use std::time::Duration;

use common::{Home, Kind, assert_whole, count, kinds, millis, numbers, secs, with_table};
use futures_util::{StreamExt, TryStreamExt};
use log::Log;
use strongroom::database::TransactionOptions;
use strongroom::engine::TransactionMode;
use strongroom::testing::ScriptedConnector;
use strongroom::{AsyncDatabase, DatabaseBuilder, ErrorKind, Pool, Reason, Result, Transaction};

const PUT: &str = "INSERT INTO t (n) VALUES (1)";

fn mocked() -> DatabaseBuilder<ScriptedConnector> {
    let rows: Vec<[i64; 1]> = (0..1000).map(|n| [n]).collect();
    AsyncDatabase::with_connector(ScriptedConnector::new().changes(PUT, 1).rows("SELECT n FROM t", ["n"], rows))
}

#[tokio::test(start_paused = true)]
async fn the_holder_is_named_once_with_place_label_and_age() {
    let (log, _guard) = Log::listen();
    let db = mocked().max_transaction_age(secs(5)).build();
    let mut tx = db.begin().await.unwrap();
    let line = line!() - 1;
    tx.label("nightly report");
    tokio::time::sleep(secs(4)).await;
    let mut second = db.connection().await.unwrap();
    second.label("by hand");
    assert!(log.lines().is_empty(), "{:?}", log.lines());
    tokio::time::sleep(millis(1001)).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let place = format!("database_overdue.rs:{line}");
    for part in [place.as_str(), "nightly report", "longer than 5s", "held=5", "in_transaction=true", "WARN"] {
        assert!(lines[0].contains(part), "{part}: {lines:?}");
    }
    tokio::time::sleep(secs(30)).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "each once: {lines:?}");
    assert!(lines[1].contains("by hand") && lines[1].contains("in_transaction=false"), "{lines:?}");
    tx.execute(PUT, ()).await.expect("a warning stops nothing");
    tx.commit().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whatever_lasts_as_long_as_its_holder_likes_is_watched_and_single_calls_are_not() {
    let (log, _guard) = Log::listen();
    let db = mocked().max_transaction_age(secs(5)).build();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..10 {
        db.execute(PUT, ()).await.unwrap();
        db.fetch_all("SELECT n FROM t", ()).await.unwrap();
    }
    assert_eq!(tasks(), before, "no task for single calls");
    let mut expected = 0;
    let reading = db.begin_with(TransactionMode::READ).await.unwrap();
    tokio::time::sleep(secs(6)).await;
    drop(reading);
    expected += 1;
    assert_eq!(log.lines().len(), expected);
    let mut rows = db.fetch_stream("SELECT n FROM t", ());
    rows.try_next().await.unwrap().unwrap();
    tokio::time::sleep(secs(6)).await;
    drop(rows);
    expected += 1;
    assert_eq!(log.lines().len(), expected);
    let reader = db.read_connection().await.unwrap();
    tokio::time::sleep(secs(6)).await;
    drop(reader);
    expected += 1;
    assert_eq!(log.lines().len(), expected);
    let slow = async |_: &mut Transaction<ScriptedConnector>| {
        tokio::time::sleep(secs(6)).await;
        Ok(())
    };
    db.transaction(slow).await.unwrap();
    db.transaction_with(TransactionOptions::new().label("labelled"), slow).await.unwrap();
    expected += 2;
    assert_eq!(log.lines().len(), expected);
    assert!(log.lines()[expected - 1].contains("labelled"), "{:?}", log.lines());
    for _ in 0..10 {
        let quick = db.begin().await.unwrap();
        tokio::time::sleep(secs(1)).await;
        quick.rollback().await.unwrap();
    }
    tokio::time::sleep(secs(20)).await;
    assert_eq!(log.lines().len(), expected, "{:?}", log.lines());
    assert_eq!(tasks(), before, "the task that looks after them has ended");
    let pool = Pool::builder(ScriptedConnector::new()).max_loan_age(Some(secs(1))).build();
    let lent = pool.get().await.unwrap();
    tokio::time::sleep(secs(2)).await;
    drop(lent);
    assert_eq!(log.lines().len(), expected + 1, "a pool alone does it too");
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_nothing_is_watched() {
    let (log, _guard) = Log::listen();
    let db = mocked().build();
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let tx = db.begin().await.unwrap();
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), before);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    tx.commit().await.unwrap();
    assert!(log.lines().is_empty(), "{:?}", log.lines());
}

#[tokio::test]
async fn what_is_overdue_is_rolled_back_and_the_next_call_says_so() {
    for kind in [Kind::KeyedFile, Kind::KeyedMemory] {
        let home = Home::new(kind);
        let db = home.builder().max_transaction_age(millis(100)).end_overdue_transactions(true).open().await.unwrap();
        with_table(&db).await;
        let begin = std::time::Instant::now();
        let error = db
            .transaction(async |tx| {
                tx.execute(PUT, ()).await?;
                std::future::pending::<Result<()>>().await
            })
            .await
            .unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Timeout, Reason::RolledBack), "{error}");
        assert!(error.to_string().contains("maximum age of 100ms"), "{error}");
        assert!(begin.elapsed() < secs(2));

        let mut guard = db.begin().await.unwrap();
        guard.execute(PUT, ()).await.unwrap();
        tokio::time::sleep(millis(150)).await;
        let error = guard.execute(PUT, ()).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Timeout, Reason::RolledBack), "{error}");
        assert_eq!(guard.commit().await.unwrap_err().reason(), Reason::Doomed);

        let mut raw = db.connection().await.unwrap();
        raw.execute("BEGIN IMMEDIATE", ()).await.unwrap();
        raw.execute(PUT, ()).await.unwrap();
        tokio::time::sleep(millis(150)).await;
        assert_eq!(raw.execute(PUT, ()).await.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(raw.interact(|c| Ok(c.is_autocommit())).await.unwrap(), "rolled back already");
        drop(raw);

        let mut rows = db.fetch_stream(&numbers(100_000), ());
        rows.try_next().await.unwrap().unwrap();
        tokio::time::sleep(millis(150)).await;
        let error = loop {
            match rows.next().await {
                Some(Ok(_)) => {}
                other => break other.expect("an error before the end").unwrap_err(),
            }
        };
        assert_eq!(kinds(&error), (ErrorKind::Timeout, Reason::RolledBack), "{error}");
        drop(rows);
        assert_eq!(count(&db).await, 0, "{kind:?}");
        assert_whole(&db, "after many were ended").await;
    }
}

#[tokio::test]
async fn the_shorter_of_age_and_limit_counts() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.builder().max_transaction_age(secs(60)).end_overdue_transactions(true).open().await.unwrap();
    let error = db
        .with_timeout(millis(50))
        .transaction(async |_| std::future::pending::<Result<()>>().await)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("time limit of 50ms"), "{error}");
}

#[test]
fn a_loan_is_named_though_the_runtime_that_looks_after_loans_stands_still() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (log, _guard) = Log::listen();
    let (still, living) = (runtime(), runtime());
    let db = mocked().pool_max(4).max_transaction_age(millis(50)).build();
    let _first = still.block_on(db.connection()).unwrap();
    living.block_on(async {
        // Long enough that its absence is no mere lateness.
        tokio::time::sleep(millis(1200)).await;
        let _second = db.connection().await.unwrap();
        let named = async {
            while log.lines().len() < 2 {
                tokio::time::sleep(millis(5)).await;
            }
        };
        tokio::time::timeout(secs(20), named).await.expect("nobody looks");
    });
    // The chore that it has replaced says nothing more.
    still.block_on(async { tokio::time::sleep(millis(100)).await });
    assert_eq!(log.lines().len(), 2, "{:?}", log.lines());
}
