//! Transactions: what is kept, what is undone, and what a failed or dropped call does to them.
#![cfg(feature = "sqlite")]

mod common;

use std::panic::AssertUnwindSafe;

use common::{ENDLESS, Home, Kind, assert_whole, count, kinds, memory, millis, numbers, secs, with_table};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use strongroom::engine::{Phase, TransactionMode};
use strongroom::{AsyncDatabase, Error, ErrorKind, Reason, Result, Transaction};
use tokio::time::timeout;

const DOOMED: (ErrorKind, Reason) = (ErrorKind::Transaction, Reason::Doomed);

async fn put(tx: &mut Transaction, n: i64) -> Result<()> {
    tx.execute("INSERT INTO t (n) VALUES ($1)", (n,)).await.map(drop)
}

#[tokio::test]
async fn a_closure_commits_on_ok_and_rolls_back_on_error_panic_and_drop() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        assert_eq!(db.transaction(async |tx| put(tx, 1).await.map(|()| 7)).await.unwrap(), 7);
        assert_eq!(count(&db).await, 1);

        let error = db
            .transaction(async |tx| {
                put(tx, 2).await?;
                Err::<(), _>(Error::new(ErrorKind::Config, "mine"))
            })
            .await;
        assert_eq!(error.unwrap_err().to_string(), "mine", "the caller's own error comes back as it is");
        assert_eq!(count(&db).await, 1);

        let panicking = db.transaction(async |tx| {
            put(tx, 3).await?;
            let seen: Option<i64> = tx.fetch_value("SELECT count(*) FROM t", ()).await?;
            assert_eq!(seen, Some(1), "user code");
            Ok(())
        });
        AssertUnwindSafe(Box::pin(panicking)).catch_unwind().await.unwrap_err();
        assert_eq!(count(&db).await, 1);

        let hanging = db.transaction(async |tx| {
            put(tx, 4).await?;
            std::future::pending::<Result<()>>().await
        });
        assert!(timeout(millis(100), hanging).await.is_err());
        assert_eq!(count(&db).await, 1, "{kind:?}");
        assert_whole(&db, "after closures").await;
    }
}

#[tokio::test]
async fn a_guard_commits_rolls_back_and_rolls_back_when_dropped() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let mut tx = db.begin().await.unwrap();
        put(&mut tx, 1).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = db.begin().await.unwrap();
        put(&mut tx, 2).await.unwrap();
        tx.rollback().await.unwrap();
        let mut tx = db.begin().await.unwrap();
        put(&mut tx, 3).await.unwrap();
        drop(tx);
        assert_eq!(count(&db).await, 1, "{kind:?}");
        assert_whole(&db, "after guards").await;
    }
}

#[tokio::test]
async fn nested_transactions_keep_and_undo_what_was_done_in_them() {
    let db = memory().await;
    with_table(&db).await;
    let mut tx = db.begin().await.unwrap();
    put(&mut tx, 1).await.unwrap();
    let mut kept = tx.begin().await.unwrap();
    put(&mut kept, 2).await.unwrap();
    let mut inner = kept.begin().await.unwrap();
    put(&mut inner, 3).await.unwrap();
    inner.rollback().await.unwrap();
    kept.commit().await.unwrap();
    let mut dropped = tx.begin().await.unwrap();
    put(&mut dropped, 4).await.unwrap();
    drop(dropped);
    tx.transaction(async |nested| put(nested, 5).await).await.unwrap();
    let failed = tx
        .transaction(async |nested| {
            put(nested, 6).await?;
            nested.execute("nonsense", ()).await
        })
        .await;
    assert_eq!(kinds(&failed.unwrap_err()), (ErrorKind::Query, Reason::Syntax));
    put(&mut tx, 7).await.unwrap();
    tx.commit().await.unwrap();
    let left: Vec<i64> = db.fetch_all_as("SELECT n FROM t ORDER BY n", ()).await.unwrap();
    assert_eq!(left, [1, 2, 5, 7]);
}

#[tokio::test]
async fn a_dropped_guard_deep_inside_is_undone_with_the_one_around_it() {
    let db = memory().await;
    with_table(&db).await;
    let mut tx = db.begin().await.unwrap();
    put(&mut tx, 1).await.unwrap();
    let mut middle = tx.begin().await.unwrap();
    put(&mut middle, 2).await.unwrap();
    drop(middle.begin().await.unwrap());
    middle.rollback().await.unwrap();
    put(&mut tx, 3).await.expect("the outer transaction goes on");

    let mut middle = tx.begin().await.unwrap();
    let mut inner = middle.begin().await.unwrap();
    put(&mut inner, 4).await.unwrap();
    drop(inner);
    put(&mut middle, 5).await.unwrap();
    middle.commit().await.unwrap();

    let mut middle = tx.begin().await.unwrap();
    drop(middle.begin().await.unwrap());
    drop(middle);
    put(&mut tx, 6).await.unwrap();
    tx.commit().await.unwrap();
    let left: Vec<i64> = db.fetch_all_as("SELECT n FROM t ORDER BY n", ()).await.unwrap();
    assert_eq!(left, [1, 3, 5, 6]);
}

#[tokio::test]
async fn a_failed_statement_dooms_the_transaction_and_commit_rolls_back_and_says_so() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let mut tx = db.begin().await.unwrap();
        tx.execute("INSERT INTO t VALUES (1, 1)", ()).await.unwrap();
        let error = tx.execute("INSERT INTO t VALUES (1, 2)", ()).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Constraint, Reason::Unique));
        let error = tx.fetch_all("SELECT * FROM t", ()).await.unwrap_err();
        assert_eq!(kinds(&error), DOOMED);
        assert!(error.to_string().contains("UNIQUE constraint failed"), "the first error is named: {error}");
        let error = tx.commit().await.unwrap_err();
        assert_eq!((kinds(&error), error.phase()), (DOOMED, Some(Phase::Commit)));
        assert_eq!(count(&db).await, 0, "{kind:?}");

        let swallowed = db.transaction(async |tx| {
            put(tx, 1).await?;
            tx.execute("nonsense", ()).await.ok();
            Ok(())
        });
        assert_eq!(kinds(&swallowed.await.unwrap_err()), DOOMED);
        assert_eq!(count(&db).await, 0);
        assert_whole(&db, "after a doomed transaction").await;
    }
}

#[tokio::test]
async fn a_failure_inside_a_nested_transaction_dooms_only_that_one() {
    let db = memory().await;
    with_table(&db).await;
    let mut tx = db.begin().await.unwrap();
    put(&mut tx, 1).await.unwrap();
    let mut nested = tx.begin().await.unwrap();
    nested.execute("nonsense", ()).await.unwrap_err();
    assert_eq!(kinds(&put(&mut nested, 2).await.unwrap_err()), DOOMED);
    assert_eq!(kinds(&nested.commit().await.unwrap_err()), DOOMED, "commit undoes instead");
    put(&mut tx, 3).await.expect("the outer transaction goes on");
    let mut nested = tx.begin().await.unwrap();
    nested.execute("nonsense", ()).await.unwrap_err();
    drop(nested);
    put(&mut tx, 4).await.expect("the outer transaction goes on");
    tx.commit().await.unwrap();
    let left: Vec<i64> = db.fetch_all_as("SELECT n FROM t ORDER BY n", ()).await.unwrap();
    assert_eq!(left, [1, 3, 4]);
}

#[tokio::test]
async fn a_statement_dropped_half_way_dooms_the_transaction_and_nothing_later_runs_outside_of_it() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let fill = format!("INSERT INTO t (n) {}", numbers(1_000_000_000));
        for sql in [ENDLESS, &fill] {
            let mut tx = db.begin().await.unwrap();
            put(&mut tx, 1).await.unwrap();
            assert!(timeout(millis(100), tx.execute(sql, ())).await.is_err());
            assert_eq!(kinds(&put(&mut tx, 2).await.unwrap_err()), DOOMED, "{kind:?}");
            assert_eq!(kinds(&tx.commit().await.unwrap_err()), DOOMED);
            assert_eq!(count(&db).await, 0, "{kind:?}: nothing was committed by itself");

            let mut tx = db.begin().await.unwrap();
            let mut nested = tx.begin().await.unwrap();
            assert!(timeout(millis(100), nested.execute(sql, ())).await.is_err());
            drop(nested);
            // Stopping a statement that writes makes SQLite give up the whole transaction.
            let after = put(&mut tx, 3).await;
            let committed = tx.commit().await;
            assert_eq!(after.is_ok(), committed.is_ok(), "{kind:?}: {after:?} {committed:?}");
            assert_eq!(count(&db).await, i64::from(committed.is_ok()), "{kind:?}");
            db.execute("DELETE FROM t", ()).await.unwrap();
        }
        assert_whole(&db, "after statements dropped half-way").await;
    }
}

#[tokio::test]
async fn a_writing_stream_dropped_in_a_transaction_never_lets_later_statements_out_of_it() {
    let home = Home::new(Kind::PlainFile);
    let db = home.open().await;
    with_table(&db).await;
    for nested in [false, true] {
        let mut tx = db.begin().await.unwrap();
        put(&mut tx, 1).await.unwrap();
        let sql = format!("INSERT INTO t (n) {} RETURNING n", numbers(100_000_000));
        if nested {
            let mut inner = tx.begin().await.unwrap();
            let mut rows = inner.fetch_stream(&sql, ());
            assert!(timeout(millis(100), rows.next()).await.is_err(), "the engine inserts all before the first row");
            drop(rows);
            drop(inner);
        } else {
            let mut rows = tx.fetch_stream(&sql, ());
            assert!(timeout(millis(100), rows.next()).await.is_err(), "the engine inserts all before the first row");
            drop(rows);
        }
        let error = put(&mut tx, 2).await.expect_err("the transaction is gone, so this must not run by itself");
        assert_eq!(error.kind(), ErrorKind::Transaction, "{error}");
        drop(tx);
        assert_eq!(count(&db).await, 0);
    }
}

#[tokio::test]
async fn a_commit_that_the_engine_refuses_leaves_no_transaction_open() {
    let db = memory().await;
    db.execute_script(
        "CREATE TABLE a (id INTEGER PRIMARY KEY);
         CREATE TABLE b (a INTEGER REFERENCES a (id) DEFERRABLE INITIALLY DEFERRED)",
    )
    .await
    .unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.execute("INSERT INTO b VALUES (1)", ()).await.expect("checked at the commit");
    let error = tx.commit().await.unwrap_err();
    assert_eq!((kinds(&error), error.phase()), ((ErrorKind::Constraint, Reason::ForeignKey), Some(Phase::Commit)));
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM b", ()).await.unwrap(), Some(0));
    assert_whole(&db, "after a refused commit").await;
}

#[tokio::test]
async fn a_reading_transaction_sees_one_view_and_holds_up_no_writer() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let mut tx = db.begin_with(TransactionMode::READ).await.unwrap();
        let seen = async |tx: &mut Transaction| tx.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap();
        assert_eq!(seen(&mut tx).await, Some(0));
        timeout(secs(2), db.execute("INSERT INTO t (n) VALUES (1)", ())).await.expect("no writer waits").unwrap();
        assert_eq!(seen(&mut tx).await, Some(0), "{kind:?}: the view stays");
        tx.commit().await.unwrap();
        assert_eq!(count(&db).await, 1);
    }
}

#[tokio::test]
async fn a_reading_transaction_writes_nothing_on_any_kind_of_database() {
    for kind in Kind::ALL {
        for pool_max in [1, 4] {
            let home = Home::new(kind);
            let db = home.builder().pool_max(pool_max).open().await.unwrap();
            with_table(&db).await;
            let mut tx = db.begin_with(TransactionMode::READ).await.unwrap();
            let error = tx.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{kind:?}, {pool_max}: {error}");
            assert!(error.to_string().contains("; "), "{error}");
            tx.execute_script("INSERT INTO t (n) VALUES (1)").await.unwrap_err();
            drop(tx);
            assert_eq!(count(&db).await, 0, "{kind:?}, {pool_max}");
        }
    }
}

#[tokio::test]
async fn a_second_connection_asked_for_inside_the_closure_is_refused_at_once() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let begin = std::time::Instant::now();
        let writing = db.transaction(async |tx| {
            put(tx, 1).await?;
            db.execute("INSERT INTO t (n) VALUES (2)", ()).await
        });
        let error = Box::pin(writing).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::PoolExhausted, Reason::WouldDeadlock), "{kind:?}: {error}");
        assert!(begin.elapsed() < secs(2), "{kind:?}: at once");
        assert!(error.to_string().contains("database_transactions.rs"), "the holder is named: {error}");
        let nested = db.transaction(async |_| Box::pin(db.transaction(async |tx| put(tx, 3).await)).await);
        assert_eq!(
            kinds(&Box::pin(nested).await.unwrap_err()),
            (ErrorKind::PoolExhausted, Reason::WouldDeadlock),
            "{kind:?}"
        );
        assert_eq!(count(&db).await, 0);
    }
}

#[tokio::test]
async fn two_transactions_joined_in_one_task_wait_for_each_other_and_both_commit() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let slow = async |tx: &mut Transaction| {
            put(tx, 1).await?;
            tokio::task::yield_now().await;
            put(tx, 2).await
        };
        let (one, two) = tokio::join!(db.transaction(slow), db.transaction(slow));
        one.unwrap();
        two.unwrap();
        assert_eq!(count(&db).await, 4, "{kind:?}");
    }
}

#[tokio::test]
async fn two_guards_side_by_side_in_one_task_are_told_apart_from_a_queue_only_by_the_timeout() {
    let db = AsyncDatabase::builder(":memory:").pool_timeout(secs(1)).open().await.unwrap();
    let task = tokio::spawn(async move {
        let mut first = db.begin().await.unwrap();
        first.label("the nightly report");
        let error = db.begin().await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::PoolExhausted, Reason::AllInUse), "{error}");
        let text = error.to_string();
        for part in ["database_transactions.rs", "this very task", "in a transaction", "nightly report"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        drop(first);
        db.begin().await.unwrap();
    });
    task.await.unwrap();
}

async fn borrows(db: AsyncDatabase, names: Vec<String>) -> Result<(usize, Option<i64>)> {
    let mut done = 0;
    let last = db
        .transaction(async |tx| {
            for name in &names {
                tx.execute("INSERT INTO t (n) VALUES (length($1))", (name,)).await?;
                done += 1;
            }
            let mut nested = tx.begin().await?;
            nested.execute("DELETE FROM t", ()).await?;
            nested.rollback().await?;
            let sum: Vec<i64> =
                tx.fetch_stream("SELECT n FROM t", ()).map_ok(|row| row.get::<i64>(0).unwrap()).try_collect().await?;
            assert_eq!(sum.len(), names.len());
            tx.fetch_value::<i64>("SELECT sum(n) FROM t", ()).await
        })
        .await?;
    Ok((done, last))
}

#[test]
fn closures_that_borrow_can_be_spawned_on_both_kinds_of_runtime() {
    for runtime in common::runtimes() {
        runtime.block_on(async {
            let db = memory().await;
            with_table(&db).await;
            let names = vec!["a".to_owned(), "bcd".to_owned()];
            let spawned = tokio::spawn(borrows(db.clone(), names));
            assert_eq!(spawned.await.unwrap().unwrap(), (2, Some(4)));
            db.close().await.unwrap();
        });
    }
}
