//! Transactions that PostgreSQL gives up are run again.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use common::{Server, server_with};
use strongroom::database::Isolation;
use strongroom::database::TransactionOptions;
use strongroom::pool::{FixedDelay, NoRetry};
use strongroom::postgres::PostgresConnector;
use strongroom::{AsyncDatabase, ErrorKind, Reason, Transaction};
use tokio::sync::Barrier;

type Tx = Transaction<PostgresConnector>;

async fn fixture() -> Option<(Server, AsyncDatabase<PostgresConnector>)> {
    let server = server_with("deadlock_timeout = 50ms")?;
    let db = AsyncDatabase::with_connector(server.connector()).pool_max(4).open().await.unwrap();
    db.execute_script("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0)").await.unwrap();
    Some((server, db))
}

fn options() -> TransactionOptions {
    TransactionOptions::new().retry(FixedDelay::new(5, Duration::from_millis(100)))
}

async fn sum(db: &AsyncDatabase<PostgresConnector>) -> i64 {
    db.fetch_value("SELECT sum(n) FROM t", ()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_serialization_conflict_runs_the_closure_again() {
    let Some((_server, db)) = fixture().await else { return };
    for isolation in [Isolation::Snapshot, Isolation::Serializable] {
        let (runs, before) = (AtomicU32::new(0), sum(&db).await);
        let raise = async |tx: &mut Tx| {
            let n: i64 = tx.fetch_value("SELECT n FROM t WHERE id = 1", ()).await?.unwrap();
            if runs.fetch_add(1, SeqCst) == 0 {
                // Somebody else comes in between.
                db.execute("UPDATE t SET n = n + 10 WHERE id = 1", ()).await?;
            }
            tx.execute("UPDATE t SET n = $1 WHERE id = 1", (n + 1,)).await
        };
        let error = db.transaction_with(options().isolation(isolation).retry(NoRetry), raise).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Serialization, "{isolation:?}: {error}");
        runs.store(0, SeqCst);
        db.transaction_with(options().isolation(isolation), raise).await.unwrap();
        assert_eq!(runs.load(SeqCst), 2, "{isolation:?}");
        assert_eq!(sum(&db).await, before + 10 + 10 + 1, "{isolation:?}: no update was lost");
    }
}

#[tokio::test]
async fn two_that_deadlock_both_commit_in_the_end() {
    let Some((_server, db)) = fixture().await else { return };
    let (both_hold_one, runs) = (Barrier::new(2), AtomicU32::new(0));
    let cross = |first: i64, second: i64| {
        let (db, runs, both_hold_one) = (&db, &runs, &both_hold_one);
        async move {
            let met = AtomicU32::new(0);
            db.transaction_with(options(), async |tx: &mut Tx| {
                runs.fetch_add(1, SeqCst);
                tx.execute("UPDATE t SET n = n + 1 WHERE id = $1", (first,)).await?;
                if met.fetch_add(1, SeqCst) == 0 {
                    both_hold_one.wait().await;
                }
                tx.execute("UPDATE t SET n = n + 1 WHERE id = $1", (second,)).await
            })
            .await
        }
    };
    let (one, two) = tokio::join!(cross(1, 2), cross(2, 1));
    one.unwrap();
    two.unwrap();
    assert_eq!((runs.load(SeqCst), sum(&db).await), (3, 4), "one of them was the victim once");
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_commit_is_replaced_and_the_work_done_once() {
    let Some((_server, db)) = fixture().await else { return };
    let runs = AtomicU32::new(0);
    db.transaction_with(options(), async |tx: &mut Tx| {
        tx.execute("UPDATE t SET n = n + 1 WHERE id = 1", ()).await?;
        if runs.fetch_add(1, SeqCst) == 0 {
            let session: i64 = tx.fetch_value("SELECT pg_backend_pid()", ()).await?.unwrap();
            db.fetch_value::<bool>("SELECT pg_terminate_backend($1)", (session,)).await?;
        }
        tx.execute("UPDATE t SET n = n + 1 WHERE id = 2", ()).await
    })
    .await
    .unwrap();
    assert_eq!((runs.load(SeqCst), sum(&db).await), (2, 2));
}

#[tokio::test]
async fn a_swallowed_error_is_told_and_rolled_back() {
    let Some((_server, db)) = fixture().await else { return };
    let runs = AtomicU32::new(0);
    let error = db
        .transaction_with(options(), async |tx: &mut Tx| {
            runs.fetch_add(1, SeqCst);
            tx.execute("UPDATE t SET n = n + 1", ()).await?;
            tx.execute("INSERT INTO t VALUES (1, 1)", ()).await.unwrap_err();
            Ok(())
        })
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Transaction, Reason::Doomed), "{error}");
    assert_eq!((runs.load(SeqCst), sum(&db).await), (1, 0));
}

#[tokio::test]
async fn a_late_call_is_stopped_at_the_server_and_says_that_it_was_rolled_back() {
    let Some((_server, db)) = fixture().await else { return };
    let brief = db.with_timeout(Duration::from_millis(100));
    let error = brief.execute("UPDATE t SET n = 7 WHERE pg_sleep(30) IS NOT NULL", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Timeout, Reason::RolledBack), "{error}");
    let error = brief.transaction(async |tx| tx.execute("SELECT pg_sleep(30)", ()).await).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Timeout, Reason::RolledBack), "{error}");
    assert_eq!(sum(&db).await, 0);
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND state = 'active' \
                   AND pid <> pg_backend_pid()";
    assert_eq!(db.fetch_value::<i64>(running, ()).await.unwrap(), Some(0));
}
