//! Transactions on the caller's own task: what is short waits for no thread, and what is not costs nobody anything.
#![cfg(feature = "sqlite")]

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::task::Poll;

use common::{Home, Kind, assert_whole, count, kinds, millis, numbers, secs, with_table};
use futures_util::{FutureExt, poll};
use strongroom::engine::{Phase, TransactionMode};
use strongroom::sqlcipher::{Checkpoints, Synchronous, Tuning};
use strongroom::{AsyncDatabase, ErrorKind, Reason, Result, Transaction};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::timeout;

const GET: &str = "SELECT n FROM t WHERE id = $1";
const RAISE: &str = "UPDATE t SET n = n + 1 WHERE id = $1";
const PUT: &str = "INSERT INTO t (n) VALUES ($1)";
const RAISE_ALL: &str = "UPDATE t SET n = n + 1";

fn tuning(synchronous: Synchronous) -> Tuning {
    let tuning = Tuning::default().synchronous(synchronous).checkpoints(Checkpoints::Background);
    tuning.inline_reads(true).inline_writes(true)
}

/// With one row, and a connection that knows the statements.
async fn open(home: &Home, tuning: Tuning) -> AsyncDatabase {
    let db = home.builder().tuning(tuning).open().await.unwrap();
    with_table(&db).await;
    db.execute(PUT, (0,)).await.unwrap();
    db.transaction(work).await.unwrap();
    db
}

async fn work(tx: &mut Transaction) -> Result<()> {
    let n: i64 = tx.fetch_value(GET, (1,)).await?.unwrap();
    tx.execute(RAISE, (1,)).await?;
    let mut nested = tx.begin().await?;
    nested.execute(PUT, (n,)).await?;
    nested.rollback().await?;
    tx.execute(PUT, (n,)).await.map(drop)
}

/// On a runtime with one thread for blocking work. While that is [taken](take_thread), whatever needs one waits for long.
fn run(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.max_blocking_threads(1).enable_all().build().unwrap().block_on(test);
}

/// Takes the thread until the answer is dropped.
async fn take_thread() -> mpsc::Sender<()> {
    let (sender, receiver) = mpsc::channel::<()>();
    let (begun, has_begun) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        begun.send(()).unwrap();
        receiver.recv().ok();
    });
    has_begun.await.unwrap();
    sender
}

/// Runs the call to its end, and says whether it waited for a thread.
async fn waits<T>(call: impl Future<Output = T>) -> (T, bool) {
    let taken = take_thread().await;
    let mut call = pin!(call);
    let done = poll!(&mut call);
    drop(taken);
    match done {
        Poll::Ready(done) => (done, false),
        Poll::Pending => (call.await, true),
    }
}

/// Whether one of many runs waits for nothing: any may be at the end of its turn, or on a machine that is busy.
async fn one_waits_for_nothing(mut run: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..30 {
        if !run().await {
            return true;
        }
        yield_now().await;
    }
    false
}

#[test]
fn a_short_transaction_waits_for_nothing_where_its_commit_does_not_wait_for_the_disk() {
    run(async {
        for kind in Kind::ALL {
            let home = Home::new(kind);
            let db = open(&home, tuning(Synchronous::Normal)).await;
            let whole = async || {
                let (done, waited) = waits(db.transaction(work)).await;
                done.unwrap();
                waited
            };
            assert!(one_waits_for_nothing(whole).await, "{kind:?}");
            let undone = async || {
                let mut tx = db.begin().await.unwrap();
                tx.execute(PUT, (9,)).await.unwrap();
                let (done, waited) = waits(tx.rollback()).await;
                done.unwrap();
                waited
            };
            assert!(one_waits_for_nothing(undone).await, "{kind:?}: a rollback");
            let (n, rows): (i64, i64) = db.fetch_one_as("SELECT max(n), count(*) FROM t", ()).await.unwrap().unwrap();
            assert_eq!(n + 1, rows, "{kind:?}");
            assert_whole(&db, "after short transactions").await;
        }
    });
}

#[test]
fn a_durable_transaction_waits_for_nothing_but_its_commit() {
    run(async {
        for kind in Kind::FILES {
            let home = Home::new(kind);
            let db = open(&home, tuning(Synchronous::Full)).await;
            let mut committing = true;
            let before_commit = async || {
                let (tx, began) = waits(db.begin()).await;
                let mut tx = tx.unwrap();
                let (worked, waited) = waits(work(&mut tx)).await;
                worked.unwrap();
                let (committed, durable) = waits(tx.commit()).await;
                committed.unwrap();
                committing &= durable;
                began || waited
            };
            assert!(one_waits_for_nothing(before_commit).await, "{kind:?}");
            assert!(committing, "{kind:?}: a commit has waited for the disk on the caller's task");
        }
    });
}

#[test]
fn a_transaction_that_reads_waits_for_nothing() {
    run(async {
        let home = Home::new(Kind::PlainFile);
        let db = open(&home, tuning(Synchronous::Full)).await;
        let reading = async || {
            let (done, waited) = waits(async {
                let mut tx = db.begin_with(TransactionMode::READ).await?;
                let n = tx.fetch_value::<i64>(GET, (1,)).await?;
                tx.commit().await.map(|()| n)
            })
            .await;
            assert_eq!(done.unwrap(), Some(1));
            waited
        };
        assert!(one_waits_for_nothing(reading).await);
    });
}

#[test]
fn without_the_short_cuts_each_step_takes_a_thread() {
    run(async {
        let home = Home::new(Kind::PlainFile);
        let db = open(&home, Tuning::default().synchronous(Synchronous::Normal).plain()).await;
        for _ in 0..3 {
            let (tx, began) = waits(db.begin()).await;
            let mut tx = tx.unwrap();
            let (read, reading) = waits(tx.fetch_value::<i64>(GET, (1,))).await;
            let (wrote, writing) = waits(tx.execute(PUT, (1,))).await;
            let (committed, committing) = waits(tx.commit()).await;
            assert_eq!((read.unwrap(), wrote.unwrap().rows_affected, committed.unwrap()), (Some(1), 1, ()));
            assert_eq!([began, reading, writing, committing], [true; 4]);
        }
    });
}

/// How often another task of this thread had its turn while the call ran. The runtime's own thread is taken, as the call
/// might be done there before this one looks again.
async fn turns_beside<T>(call: impl Future<Output = T>) -> (T, u64) {
    let _thread = take_thread().await;
    let turns = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            counting.fetch_add(1, Relaxed);
            yield_now().await;
        }
    });
    let done = call.await;
    other.abort();
    (done, turns.load(Relaxed))
}

#[test]
fn a_long_statement_in_a_transaction_takes_a_thread_each_time_and_loses_nothing() {
    run(async {
        for kind in Kind::ALL {
            let home = Home::new(kind);
            let db = open(&home, tuning(Synchronous::Normal)).await;
            db.execute(&format!("INSERT INTO t (n) {}", numbers(50_000)), ()).await.unwrap();
            let long = format!("SELECT count(*) FROM ({})", numbers(200_000));
            let sum = async || db.fetch_value::<i64>("SELECT sum(n) FROM t", ()).await.unwrap().unwrap();
            let rows = count(&db).await;
            for round in 0..3 {
                let before = sum().await;
                let mut tx = db.begin().await.unwrap();
                tx.execute(RAISE, (1,)).await.unwrap();
                let (raised, turns) = turns_beside(tx.execute(RAISE_ALL, ())).await;
                assert_eq!(raised.unwrap().rows_affected, rows.cast_unsigned());
                assert!(turns > 3, "{kind:?}, round {round}: {turns} turns beside a long write");
                let (read, turns) = turns_beside(tx.fetch_value::<i64>(&long, ())).await;
                assert_eq!(read.unwrap(), Some(200_000));
                assert!(turns > 3, "{kind:?}, round {round}: {turns} turns beside a long read");
                let ((), committing) = waits(tx.commit().map(|done| done.unwrap())).await;
                assert!(committing, "{kind:?}: so many pages are written on a thread");
                assert_eq!(sum().await, before + rows + 1, "{kind:?}");
            }
        }
    });
}

#[tokio::test]
async fn a_statement_that_fails_on_the_task_dooms_and_a_savepoint_contains_it() {
    let home = Home::new(Kind::PlainFile);
    let db = open(&home, tuning(Synchronous::Normal)).await;
    let twice = "INSERT INTO t (id, n) VALUES ($1, $2)";
    for _ in 0..3 {
        let rows = count(&db).await;
        let mut tx = db.begin().await.unwrap();
        tx.execute(PUT, (1,)).await.unwrap();
        let mut nested = tx.begin().await.unwrap();
        nested.execute(PUT, (2,)).await.unwrap();
        assert_eq!(nested.execute(twice, (1, 1)).await.unwrap_err().kind(), ErrorKind::Constraint);
        assert_eq!(nested.commit().await.unwrap_err().reason(), Reason::Doomed);
        tx.execute(PUT, (3,)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(count(&db).await, rows + 2);

        let mut tx = db.begin().await.unwrap();
        tx.execute(PUT, (4,)).await.unwrap();
        tx.execute(twice, (1, 1)).await.unwrap_err();
        assert_eq!(kinds(&tx.execute(PUT, (5,)).await.unwrap_err()), (ErrorKind::Transaction, Reason::Doomed));
        tx.commit().await.unwrap_err();
        assert_eq!(count(&db).await, rows + 2);

        // SQLite ends the whole transaction.
        let mut tx = db.begin().await.unwrap();
        tx.execute(PUT, (6,)).await.unwrap();
        tx.execute("INSERT OR ROLLBACK INTO t (id, n) VALUES ($1, $2)", (1, 1)).await.unwrap_err();
        tx.execute(PUT, (7,)).await.unwrap_err();
        drop(tx);
        assert_eq!(count(&db).await, rows + 2);
    }
    assert_whole(&db, "after failures").await;
}

#[tokio::test]
async fn a_commit_that_fails_on_the_task_rolls_back_and_says_why() {
    let home = Home::new(Kind::PlainFile);
    let db = open(&home, tuning(Synchronous::Normal)).await;
    let child = "CREATE TABLE child (id INTEGER PRIMARY KEY, t REFERENCES t DEFERRABLE INITIALLY DEFERRED)";
    db.execute_script(child).await.unwrap();
    for _ in 0..4 {
        let mut tx = db.begin().await.unwrap();
        tx.execute("INSERT INTO child (t) VALUES ($1)", (77,)).await.unwrap();
        let error = tx.commit().await.unwrap_err();
        assert_eq!((error.kind(), error.phase()), (ErrorKind::Constraint, Some(Phase::Commit)));
        assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM child", ()).await.unwrap(), Some(0));
        db.transaction(work).await.unwrap();
    }
    assert_whole(&db, "after commits that failed").await;
}

#[tokio::test]
async fn the_lock_of_somebody_else_is_waited_for_on_a_thread() {
    let home = Home::new(Kind::KeyedFile);
    let db = open(&home, tuning(Synchronous::Normal)).await;
    let other = home.builder().tuning(tuning(Synchronous::Normal)).open().await.unwrap();
    for _ in 0..3 {
        let holder = other.begin().await.unwrap();
        let mut beginning = Box::pin(db.begin());
        for turn in 0..4 {
            assert!(futures_util::poll!(&mut beginning).is_pending(), "turn {turn} beside a begin that waits");
            tokio::time::sleep(millis(5)).await;
        }
        holder.commit().await.unwrap();
        let tx = timeout(secs(5), beginning).await.expect("the lock is free").unwrap();
        tx.commit().await.unwrap();
    }
    let hasty = home.builder().tuning(tuning(Synchronous::Normal).busy_timeout(millis(20))).open().await.unwrap();
    let holder = other.begin().await.unwrap();
    let error = hasty.begin().await.unwrap_err();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Busy, Some(Phase::Begin)));
    drop(holder);
    assert_whole(&db, "after waiting").await;
}

#[tokio::test]
async fn a_transaction_dropped_at_any_await_is_whole_or_undone() {
    for kind in Kind::ALL {
        for synchronous in [Synchronous::Normal, Synchronous::Full] {
            let home = Home::new(kind);
            let db = open(&home, tuning(synchronous)).await;
            let mut rows = count(&db).await;
            for polls in 0..40 {
                let step = async |tx: &mut Transaction| {
                    for _ in 0..2 {
                        tx.execute(PUT, (1,)).await?;
                        yield_now().await;
                        work(tx).await?;
                        tx.execute(RAISE_ALL, ()).await?;
                    }
                    Ok(())
                };
                let mut running = Box::pin(db.transaction(step));
                let mut done = false;
                for _ in 0..polls {
                    if let Some(outcome) = timeout(millis(0), &mut running).now_or_never().and_then(Result::ok) {
                        outcome.unwrap();
                        done = true;
                        break;
                    }
                    yield_now().await;
                }
                drop(running);
                // What it left behind, be it a commit under way, is over when the writer can be had.
                drop(db.connection().await.unwrap());
                let now = count(&db).await;
                assert!(now == rows + 4 || (!done && now == rows), "{kind:?}, {polls} polls: {rows}, then {now}");
                rows = now;
            }
            assert_whole(&db, "after drops").await;
        }
    }
}
