//! Transactions that are run again: when, how often, and when never.
#![cfg(all(feature = "testing", feature = "sqlite"))]

mod common;

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use common::{Home, Kind, count, kinds, memory, millis, secs, with_table};
use strongroom::database::Isolation;
use strongroom::database::TransactionOptions;
use strongroom::engine::{Dialect, Phase, TransactionMode};
use strongroom::pool::{ExponentialBackoff, FixedDelay, NoRetry};
use strongroom::sqlcipher::Tuning;
use strongroom::testing::{Call, Fault, Faults, FaultyConnector, Point, ScriptedConnector};
use strongroom::{AsyncDatabase, Capabilities, Connection, Error, ErrorKind, Reason, Result, Transaction};
use tokio::time::Instant;

const PUT: &str = "INSERT INTO t (n) VALUES (1)";
type Mocked = AsyncDatabase<FaultyConnector<ScriptedConnector>>;
type MockedTransaction = Transaction<FaultyConnector<ScriptedConnector>>;

fn mocked() -> (Mocked, Faults, ScriptedConnector) {
    let script =
        ScriptedConnector::new().capabilities(Capabilities::new("toy", Dialect::Sqlite)).changes(PUT, 1).table("t");
    let connector = FaultyConnector::new(script.clone());
    let faults = connector.faults();
    (AsyncDatabase::with_connector(connector).build(), faults, script)
}

fn options() -> TransactionOptions {
    TransactionOptions::new().retry(FixedDelay::new(4, millis(200)))
}

/// Puts a row, and counts how often it was asked to.
async fn put_counting(db: &Mocked, options: TransactionOptions, runs: &AtomicU32) -> Result<u64> {
    db.transaction_with(options, async |tx: &mut MockedTransaction| {
        runs.fetch_add(1, SeqCst);
        Ok(tx.execute(PUT, ()).await?.rows_affected)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_runs_the_whole_closure_again_in_a_new_transaction() {
    for (point, fault) in [
        (Point::Begin, Fault::Fail(ErrorKind::Busy)),
        (Point::Run, Fault::Fail(ErrorKind::Serialization)),
        (Point::Run, Fault::Break),
        (Point::Commit, Fault::Fail(ErrorKind::Serialization)),
        (Point::Commit, Fault::Fail(ErrorKind::Busy)),
    ] {
        let (db, faults, script) = mocked();
        faults.at(point, fault);
        let (runs, begin) = (AtomicU32::new(0), Instant::now());
        assert_eq!(put_counting(&db, options(), &runs).await.unwrap(), 1, "{point:?}");
        let expected = if point == Point::Begin { 1 } else { 2 };
        assert_eq!(runs.load(SeqCst), expected, "{point:?}: the whole closure");
        assert_eq!(begin.elapsed(), millis(200), "{point:?}: after the pause of the policy");
        let calls = script.calls();
        assert_eq!(calls.last(), Some(&Call::Commit), "{point:?}: {calls:?}");
        assert_eq!(calls.iter().filter(|call| **call == Call::Commit).count(), 1, "{point:?}");
        if fault != Fault::Break && point != Point::Begin {
            let first =
                calls.iter().position(|call| *call == Call::Rollback).expect("the first attempt was rolled back");
            assert!(calls[first..].contains(&Call::Begin(TransactionMode::WRITE)), "before the second began");
        }
        db.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_policy_decides_how_often_and_the_last_error_says_how_often_it_was_tried() {
    let (db, faults, _) = mocked();
    let runs = AtomicU32::new(0);
    for _ in 0..9 {
        faults.at(Point::Run, Fault::Fail(ErrorKind::Busy));
    }
    let begin = Instant::now();
    let error = put_counting(&db, options(), &runs).await.unwrap_err();
    assert_eq!((runs.load(SeqCst), begin.elapsed()), (4, millis(600)));
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(!error.is_transient(), "whoever retries outside would only repeat it");
    assert!(error.to_string().starts_with("after 4 attempts: "), "{error}");
    let error = put_counting(&db, options().retry(NoRetry), &runs).await.unwrap_err();
    assert_eq!((runs.load(SeqCst), error.is_transient()), (5, false));
    let none_left = ExponentialBackoff::new(millis(10), millis(10), Duration::ZERO);
    put_counting(&db, options().retry(none_left), &runs).await.unwrap_err();
    assert_eq!(runs.load(SeqCst), 6);
}

#[tokio::test(start_paused = true)]
async fn what_will_not_pass_is_not_tried_again() {
    for kind in [ErrorKind::Constraint, ErrorKind::Query, ErrorKind::Storage, ErrorKind::Cancelled] {
        let (db, faults, _) = mocked();
        let runs = AtomicU32::new(0);
        faults.at(Point::Run, Fault::Fail(kind));
        let error = put_counting(&db, options(), &runs).await.unwrap_err();
        assert_eq!((error.kind(), runs.load(SeqCst)), (kind, 1));
        assert!(!error.to_string().contains("attempts"), "{error}");
    }
    let (db, ..) = mocked();
    let runs = AtomicU32::new(0);
    let own = db.transaction_with(options(), async |_: &mut MockedTransaction| {
        runs.fetch_add(1, SeqCst);
        Err::<(), _>(Error::new(ErrorKind::Config, "not today"))
    });
    assert_eq!(own.await.unwrap_err().to_string(), "not today");
    assert_eq!(runs.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_tried_again_only_if_the_work_is_called_idempotent() {
    let (db, faults, script) = mocked();
    let runs = AtomicU32::new(0);
    faults.at(Point::Commit, Fault::LoseAnswer);
    let error = put_counting(&db, options(), &runs).await.unwrap_err();
    assert_eq!((error.kind(), error.phase(), runs.load(SeqCst)), (ErrorKind::OutcomeUnknown, Some(Phase::Commit), 1));

    faults.at(Point::Commit, Fault::LoseAnswer);
    put_counting(&db, options().idempotent(true), &runs).await.unwrap();
    assert_eq!(runs.load(SeqCst), 3);
    let commits = script.calls().into_iter().filter(|call| *call == Call::Commit).count();
    assert_eq!(commits, 3, "the two whose answers were lost had happened");

    for _ in 0..4 {
        faults.at(Point::Commit, Fault::LoseAnswer);
    }
    let error = put_counting(&db, options().idempotent(true), &runs).await.unwrap_err();
    assert_eq!((error.kind(), runs.load(SeqCst)), (ErrorKind::OutcomeUnknown, 7), "the policy still counts");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_for_all_attempts_together() {
    let (db, faults, _) = mocked();
    let runs = AtomicU32::new(0);
    for _ in 0..100 {
        faults.at(Point::Run, Fault::Fail(ErrorKind::Busy));
    }
    let steady = FixedDelay::new(10, secs(1));
    let begin = Instant::now();
    let error = put_counting(&db, options().retry(steady).deadline(millis(2500)), &runs).await.unwrap_err();
    assert_eq!((error.kind(), runs.load(SeqCst), begin.elapsed()), (ErrorKind::Busy, 3, secs(2)));

    let begin = Instant::now();
    let error = put_counting(&db.with_timeout(millis(1500)), options().retry(steady).deadline(secs(60)), &runs).await;
    assert_eq!((error.unwrap_err().kind(), begin.elapsed()), (ErrorKind::Busy, secs(1)), "the shorter one counts");

    faults.heal();
    faults.at(Point::Run, Fault::Hang);
    let begin = Instant::now();
    let error = put_counting(&db, options().deadline(secs(2)), &runs).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Timeout, Reason::RolledBack), "{error}");
    assert_eq!(begin.elapsed(), secs(2), "and no attempt after it");
}

#[tokio::test]
async fn options_reach_the_engine() {
    let (db, _, script) = mocked();
    let options = options().mode(TransactionMode::READ).isolation(Isolation::Serializable).label("a report");
    db.transaction_with(options.clone(), async |_: &mut MockedTransaction| Ok(())).await.unwrap();
    let begun =
        script.calls().into_iter().find_map(|call| if let Call::Begin(mode) = call { Some(mode) } else { None });
    assert_eq!(begun.unwrap(), TransactionMode::READ.isolation(Isolation::Serializable));
    assert!(format!("{options:?}").contains("a report"), "{options:?}");

    let db = AsyncDatabase::builder(":memory:").pool_max(1).pool_timeout(secs(1)).open().await.unwrap();
    let error = db
        .transaction_with(TransactionOptions::new().label("the nightly report"), async |_: &mut Transaction| {
            db.fetch_value::<i64>("SELECT 1", ()).await
        })
        .await
        .unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::PoolExhausted, Reason::WouldDeadlock));
    assert!(error.to_string().contains("the nightly report"), "{error}");
    assert!(error.to_string().contains("database_retry.rs"), "{error}");
}

#[tokio::test]
async fn an_error_that_is_swallowed_rolls_back_and_is_told_and_not_retried() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let runs = AtomicU32::new(0);
        let error = db
            .transaction_with(options(), async |tx: &mut Transaction| {
                runs.fetch_add(1, SeqCst);
                tx.execute(PUT, ()).await?;
                tx.execute("INSERT INTO nowhere VALUES (1)", ()).await.unwrap_err();
                Ok(())
            })
            .await
            .unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Transaction, Reason::Doomed), "{error}");
        assert_eq!(error.phase(), Some(Phase::Commit));
        assert!(error.to_string().contains("nowhere"), "it names the first error: {error}");
        assert_eq!((runs.load(SeqCst), count(&db).await), (1, 0), "{kind:?}");

        db.transaction_with(options(), async |tx: &mut Transaction| {
            tx.execute(PUT, ()).await?;
            let nested = tx.transaction(async |tx| tx.execute("INSERT INTO nowhere VALUES (1)", ()).await).await;
            assert!(nested.is_err());
            Ok(())
        })
        .await
        .expect("a savepoint contains it");
        assert_eq!(count(&db).await, 1, "{kind:?}");
    }
}

#[tokio::test]
async fn a_file_that_another_process_holds_is_waited_for_by_trying_again() {
    let home = Home::new(Kind::KeyedFile);
    let patience = Tuning::default().busy_timeout(Duration::ZERO);
    let db = home.builder().tuning(patience.clone()).open().await.unwrap();
    with_table(&db).await;
    let other = home.builder().tuning(patience).open().await.unwrap();
    let mut held = Some(other.begin().await.unwrap());
    let error = db.transaction(async |tx| tx.execute(PUT, ()).await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.is_transient());

    let runs = AtomicU32::new(0);
    let retried = db.transaction_with(options(), async |tx: &mut Transaction| {
        runs.fetch_add(1, SeqCst);
        tx.execute(PUT, ()).await
    });
    let release = async {
        tokio::time::sleep(millis(300)).await;
        held.take().unwrap().rollback().await.unwrap();
    };
    let (done, ()) = tokio::join!(retried, release);
    done.unwrap();
    assert_eq!((runs.load(SeqCst), count(&db).await), (1, 1));
}

async fn borrows(db: AsyncDatabase, names: Vec<String>) -> Result<(u32, i64)> {
    let (runs, length) = (AtomicU32::new(0), names.len());
    let sum = db
        .transaction_with(options(), async |tx: &mut Transaction| {
            tx.execute("DELETE FROM t", ()).await?;
            for name in &names {
                tx.execute("INSERT INTO t (n) VALUES (length($1))", (name,)).await?;
            }
            assert_eq!(length, 2);
            if runs.fetch_add(1, SeqCst) < 2 {
                return Err(Error::new(ErrorKind::Busy, "not yet").transient());
            }
            Ok(tx.fetch_value("SELECT sum(n) FROM t", ()).await?.unwrap_or(0))
        })
        .await?;
    Ok((runs.into_inner(), sum))
}

async fn delete_all<C: strongroom::Connector<Connection: Connection>>(tx: &mut Transaction<C>) -> Result<u64> {
    Ok(tx.execute("DELETE FROM t", ()).await?.rows_affected)
}

/// A caller that promises `Send` for any engine.
fn promised<'d, C: strongroom::Connector<Connection: Connection>>(
    db: &'d AsyncDatabase<C>,
    sql: &'d str,
) -> impl Future<Output = Result<u64>> + Send + 'd {
    db.transaction_with(options(), async move |tx: &mut Transaction<C>| Ok(tx.execute(sql, ()).await?.rows_affected))
}

#[test]
fn closures_that_borrow_can_be_spawned_on_both_kinds_of_runtime() {
    for runtime in common::runtimes() {
        runtime.block_on(async {
            let db = memory().await;
            with_table(&db).await;
            let names = vec!["a".to_owned(), "bcd".to_owned()];
            let spawned = tokio::spawn(borrows(db.clone(), names));
            assert_eq!(spawned.await.unwrap().unwrap(), (3, 4));
            let spawned = tokio::spawn({
                let db = db.clone();
                async move { promised(&db, "UPDATE t SET n = 1").await }
            });
            assert_eq!(spawned.await.unwrap().unwrap(), 2);
            assert_eq!(db.transaction_with(options(), delete_all).await.unwrap(), 2);
            db.close().await.unwrap();
        });
    }
}

#[tokio::test]
async fn a_panic_in_the_closure_rolls_back_and_is_not_caught() {
    let db = memory().await;
    with_table(&db).await;
    let task = tokio::spawn({
        let db = db.clone();
        async move {
            db.transaction_with(options(), async |tx: &mut Transaction| {
                tx.execute(PUT, ()).await?;
                let count: Option<i64> = tx.fetch_value("SELECT count(*) FROM t", ()).await?;
                assert_eq!(count, None, "by the closure");
                Ok(())
            })
            .await
        }
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(count(&db).await, 0);
    common::assert_whole(&db, "after a panic").await;
}
