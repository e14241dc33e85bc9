//! The write lane: who waits, how long, and what the statistics say of it.
#![cfg(feature = "sqlite")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use strongroom::database::{Event, Observer};
use strongroom::sqlcipher::Tuning;
use strongroom::{AsyncDatabase, ErrorKind, Reason};

async fn database() -> AsyncDatabase {
    let db = AsyncDatabase::builder(":memory:").pool_timeout(Duration::from_secs(1)).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a INTEGER UNIQUE)").await.unwrap();
    db
}

#[tokio::test]
async fn one_statement_that_waits_in_vain_is_one_waiter_and_one_timeout() {
    let db = database().await;
    let before = db.stats();
    let guard = db.begin().await.unwrap();
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap_err() }
    });
    while db.stats().waiting == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(db.stats().waiting, 1);
    let error = waiting.await.unwrap();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::PoolExhausted, Reason::AllInUse));
    assert!(error.to_string().contains("1 waiting"), "{error}");
    assert_eq!(db.stats().total_timeouts - before.total_timeouts, 1);
    guard.rollback().await.unwrap();
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(0), "it came too late");
    assert!(db.close().await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_statements_gets_its_own_result_and_a_failing_one_disturbs_nobody() {
    let db = database().await;
    let guard = db.begin().await.unwrap();
    let inserts: Vec<_> = (0..40_i64)
        .map(|number| {
            let db = db.clone();
            // Every tenth collides with the one before, every eleventh cannot even be prepared.
            let (value, sql) = match number {
                n if n % 10 == 9 => (n - 1, "INSERT INTO t VALUES ($1)"),
                n if n % 11 == 10 => (n, "INSERT INTO nowhere VALUES ($1)"),
                n => (n, "INSERT INTO t VALUES ($1)"),
            };
            tokio::spawn(async move { (value, sql, db.execute(sql, (value,)).await) })
        })
        .collect();
    while db.stats().waiting < 40 {
        tokio::task::yield_now().await;
    }
    guard.rollback().await.unwrap();
    let (mut done, mut collided) = (Vec::new(), 0);
    for insert in inserts {
        match insert.await.unwrap() {
            (value, _, Ok(changes)) => {
                assert_eq!(changes.rows_affected, 1);
                done.push(value);
            }
            (_, sql, Err(error)) if sql.contains("nowhere") => assert_eq!(error.kind(), ErrorKind::Query),
            (_, _, Err(error)) => {
                assert_eq!(error.reason(), Reason::Unique);
                collided += 1;
            }
        }
    }
    done.sort_unstable();
    assert_eq!(db.fetch_all_as::<i64>("SELECT a FROM t ORDER BY a", ()).await.unwrap(), done);
    assert_eq!((done.len(), collided), (33, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_rolls_back_everything_takes_nobody_else_with_it() {
    let db = database().await;
    db.execute("INSERT INTO t VALUES (1000)", ()).await.unwrap();
    let guard = db.begin().await.unwrap();
    let inserts: Vec<_> = (0..20_i64)
        .map(|number| {
            let db = db.clone();
            let sql =
                if number == 10 { "INSERT OR ROLLBACK INTO t VALUES (1000)" } else { "INSERT INTO t VALUES ($1)" };
            tokio::spawn(async move {
                let params = if number == 10 { vec![] } else { vec![number] };
                db.execute(sql, params).await.is_ok()
            })
        })
        .collect();
    while db.stats().waiting < 20 {
        tokio::task::yield_now().await;
    }
    guard.rollback().await.unwrap();
    let mut ok = 0;
    for insert in inserts {
        ok += i64::from(insert.await.unwrap());
    }
    assert_eq!(ok, 19);
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(20));
}

/// A statement that is run for others is the same as one that is run by its caller: when nobody waits for it any more,
/// it stops.
#[tokio::test]
async fn a_long_statement_whose_caller_has_gone_is_stopped_in_the_lane_too() {
    let db = database().await;
    let writer = db.connection().await.unwrap();
    let endless = format!("INSERT INTO t (a) {}", common::numbers(1_000_000_000));
    let gone = tokio::spawn({
        let db = db.clone();
        async move { db.execute(&endless, ()).await }
    });
    common::eventually("the statement waits", || db.stats().waiting == 1).await;
    drop(writer);
    common::eventually("the statement runs", || db.stats().active_connections == 1).await;
    // Long enough to be inside the engine.
    tokio::time::sleep(common::millis(200)).await;
    gone.abort();
    let next = tokio::time::timeout(common::secs(3), db.execute("INSERT INTO t (a) VALUES (1)", ())).await;
    next.expect("the lane still runs what nobody waits for").unwrap();
    assert_eq!(common::count(&db).await, 1);
    common::assert_whole(&db, "after a statement that was stopped").await;
}

#[tokio::test]
async fn a_statement_whose_caller_goes_away_while_it_waits_never_runs() {
    let db = database().await;
    let writer = db.connection().await.unwrap();
    let sql: Vec<_> = (0..4).map(|n| format!("INSERT INTO t VALUES ({n})")).collect();
    let mut calls: Vec<_> = sql.iter().map(|sql| Box::pin(db.execute(sql, ()))).collect();
    for call in &mut calls {
        assert!(common::poll_once(call.as_mut()).is_pending());
    }
    drop(calls.remove(2));
    drop(writer);
    for outcome in futures_util::future::join_all(calls).await {
        outcome.unwrap();
    }
    let there: Vec<i64> = db.fetch_all_as("SELECT a FROM t ORDER BY a", ()).await.unwrap();
    assert_eq!(there, [0, 1, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_every_call_has_its_answer_no_connection_is_in_use() {
    let db = database().await;
    for round in 0..150_i64 {
        let calls = (0..12_i64).map(|number| {
            let db = db.clone();
            // Some fail, and some are refused before anything runs.
            let sql = match number {
                3 => "INSERT INTO nowhere VALUES ($1)",
                5 => "BEGIN",
                _ => "INSERT INTO t VALUES ($1)",
            };
            tokio::spawn(async move {
                let params = if sql == "BEGIN" { vec![] } else { vec![round * 100 + number / 2 * 2] };
                db.execute(sql, params).await.is_ok()
            })
        });
        futures_util::future::join_all(calls.collect::<Vec<_>>()).await;
        let stats = db.stats();
        assert_eq!((stats.active_connections, stats.waiting), (0, 0), "{stats:?}");
        assert_eq!(stats.total_acquired, stats.total_released);
    }
    assert!(db.close().await.unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_database_takes_no_more_writes_however_busy_its_lane_is() {
    let file = tempfile::tempdir().unwrap();
    let db = AsyncDatabase::builder(file.path().join("busy.db")).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a INTEGER)").await.unwrap();
    let writers: Vec<_> = (0..16_i64)
        .map(|task| {
            let db = db.clone();
            tokio::spawn(async move {
                loop {
                    if let Err(error) = db.execute("INSERT INTO t VALUES ($1)", (task,)).await {
                        return error;
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let closing = db.close_within(Duration::from_secs(20));
    let report =
        tokio::time::timeout(Duration::from_secs(10), closing).await.expect("it waits for those who come").unwrap();
    assert!(report.is_clean(), "{report:?}");
    for writer in writers {
        let error = writer.await.unwrap();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    }
}

/// Counts the groups that ran.
#[derive(Clone, Default)]
struct Groups(Arc<AtomicU32>);

impl Observer for Groups {
    fn observe(&self, event: &Event<'_>) {
        if matches!(event, Event::GroupRan { .. }) {
            self.0.fetch_add(1, SeqCst);
        }
    }
}

#[tokio::test]
async fn one_who_writes_alone_leaves_the_lane_after_the_first_statement_that_had_to_wait() {
    let groups = Groups::default();
    let tuning = Tuning::default().group_commit(true);
    let db = AsyncDatabase::builder(":memory:").tuning(tuning).observer(groups.clone()).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a INTEGER UNIQUE)").await.unwrap();
    let guard = db.begin().await.unwrap();
    let writing = tokio::spawn({
        let db = db.clone();
        async move {
            for number in 0..50 {
                db.execute("INSERT INTO t VALUES ($1)", (number,)).await.unwrap();
            }
        }
    });
    while db.stats().waiting == 0 {
        tokio::task::yield_now().await;
    }
    guard.rollback().await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), writing).await.unwrap().unwrap();
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(50));
    assert_eq!(groups.0.load(SeqCst), 1, "the others found the writer free");
}
