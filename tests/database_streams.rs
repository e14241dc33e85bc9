//! Rows that are fetched while their statement runs: order, backpressure, and the end, early or with an error.
#![cfg(feature = "sqlite")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use common::{Home, Kind, assert_whole, count, kinds, memory, millis, numbers, with_table};
use futures_util::{StreamExt, TryStreamExt};
use strongroom::rusqlite::functions::FunctionFlags;
use strongroom::{AsyncDatabase, ErrorKind, Reason, Row, rusqlite};

fn number(row: Row) -> i64 {
    row.get(0).unwrap()
}

/// A database whose SQL function `seen(x)` counts how often it is called, and fails at `limit`.
async fn counting(home: &Home, limit: u64) -> (AsyncDatabase, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&calls);
    let builder = home.builder().on_connect(move |connection| {
        let calls = Arc::clone(&shared);
        Box::pin(connection.interact(move |c| {
            c.create_scalar_function("seen", 1, FunctionFlags::SQLITE_UTF8, move |context| {
                if calls.fetch_add(1, SeqCst) == limit {
                    return Err(rusqlite::Error::UserFunctionError("enough".into()));
                }
                context.get::<i64>(0)
            })
        }))
    });
    (builder.open().await.unwrap(), calls)
}

fn seen(n: u64) -> String {
    numbers(n).replace("SELECT i FROM c", "SELECT seen(i) FROM c")
}

#[tokio::test]
async fn all_rows_arrive_in_order_whatever_their_number() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        for n in [0, 1, 255, 256, 257, 512, 10_000] {
            let sql = if n == 0 { "SELECT 1 WHERE 0".to_owned() } else { numbers(n) };
            let rows: Vec<i64> = db.fetch_stream(&sql, ()).map_ok(number).try_collect().await.unwrap();
            assert_eq!(rows, (1..=i64::try_from(n).unwrap()).collect::<Vec<_>>(), "{kind:?}");
        }
        assert_whole(&db, "after streams").await;
    }
}

#[tokio::test]
async fn the_engine_does_not_run_ahead_of_a_slow_reader() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let (db, calls) = counting(&home, u64::MAX).await;
        let mut rows = db.fetch_stream(&seen(1_000_000), ());
        assert_eq!(calls.load(SeqCst), 0, "nothing happens before the first poll");
        assert_eq!(db.stats().active_connections, 0);
        for expected in 1..=1000 {
            assert_eq!(number(rows.next().await.unwrap().unwrap()), expected);
        }
        tokio::time::sleep(millis(100)).await;
        let made = calls.load(SeqCst);
        assert!(made <= 1000 + 4 * 256, "{kind:?}: {made} rows were made for 1000 that were read");
        drop(rows);
        assert_whole(&db, "after a slow reader").await;
        assert!(calls.load(SeqCst) <= made + 2 * 256, "the statement ended with its stream");
    }
}

#[tokio::test]
async fn a_stream_dropped_early_gives_its_connection_back_clean() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let sql = numbers(1_000_000_000);
        for taken in [0, 1, 300] {
            let mut rows = db.fetch_stream(&sql, ());
            for _ in 0..taken {
                rows.next().await.unwrap().unwrap();
            }
            drop(rows);
            db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
            assert_whole(&db, "after a stream dropped early").await;
        }
        assert_eq!(count(&db).await, 3);
        assert!(db.stats().total_opened <= 3, "{kind:?}: no connection was lost over it: {:?}", db.stats());
    }
}

#[tokio::test]
async fn an_error_in_the_middle_comes_after_the_rows_before_it_and_ends_the_stream() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let (db, calls) = counting(&home, 1000).await;
        let mut rows = db.fetch_stream(&seen(5000), ());
        let mut arrived = 0;
        let error = loop {
            match rows.next().await.unwrap() {
                Ok(row) => {
                    arrived += 1;
                    assert_eq!(number(row), arrived);
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Query, "{error}");
        assert!(arrived >= 768, "{kind:?}: the whole chunks before the error arrived, {arrived} rows");
        assert!(rows.next().await.is_none(), "nothing comes after an error");
        drop(rows);
        assert_eq!(calls.load(SeqCst), 1001);
        assert_whole(&db, "after an error in the middle").await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_statement_is_the_first_and_only_item() {
    let db = memory().await;
    for (sql, kind, reason) in [
        ("nonsense", ErrorKind::Query, Reason::Syntax),
        ("SELECT $1", ErrorKind::Query, Reason::Parameters),
        ("BEGIN", ErrorKind::Unsupported, Reason::Control),
    ] {
        let mut rows = db.fetch_stream(sql, ());
        assert_eq!(kinds(&rows.next().await.unwrap().unwrap_err()), (kind, reason), "{sql}");
        assert!(rows.next().await.is_none());
    }
    let error = db.fetch_stream("SELECT $1", (u64::MAX,)).next().await.unwrap().unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Query, Reason::Type));
    assert_whole(&db, "after streams that never began").await;
}

#[tokio::test]
async fn a_stream_in_a_transaction_and_on_a_raw_connection_is_followed_at_once_by_other_calls() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let sql = numbers(1_000_000_000);
        let mut tx = db.begin().await.unwrap();
        tx.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
        for taken in [0, 1, 300] {
            let mut rows = tx.fetch_stream(&sql, ());
            for expected in 1..=taken {
                assert_eq!(number(rows.next().await.unwrap().unwrap()), expected);
            }
            drop(rows);
            tx.execute("INSERT INTO t (n) VALUES (2)", ()).await.expect("a stream of reads may be left");
        }
        let own: Vec<i64> = tx.fetch_stream("SELECT n FROM t", ()).map_ok(number).try_collect().await.unwrap();
        assert_eq!(own, [1, 2, 2, 2], "it sees what the transaction wrote");
        tx.commit().await.unwrap();

        let mut conn = db.connection().await.unwrap();
        let mut rows = conn.fetch_stream(&sql, ());
        rows.next().await.unwrap().unwrap();
        drop(rows);
        assert_eq!(conn.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(4), "{kind:?}");
        let mut rows = conn.fetch_stream(&sql, ());
        rows.next().await.unwrap().unwrap();
        drop(rows);
        assert!(conn.interact(|c| Ok(c.is_autocommit())).await.unwrap());
        let mut rows = conn.fetch_stream(&sql, ());
        rows.next().await.unwrap().unwrap();
        drop(rows);
        drop(conn);
        assert_whole(&db, "after streams on a raw connection").await;
    }
}

#[tokio::test]
async fn an_error_in_a_stream_dooms_its_transaction() {
    let home = Home::new(Kind::PlainMemory);
    let (db, _) = counting(&home, 10).await;
    with_table(&db).await;
    let mut tx = db.begin().await.unwrap();
    tx.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
    let outcome: Result<Vec<Row>, _> = tx.fetch_stream(&seen(100), ()).try_collect().await;
    outcome.unwrap_err();
    assert_eq!(kinds(&tx.commit().await.unwrap_err()), (ErrorKind::Transaction, Reason::Doomed));
    assert_eq!(count(&db).await, 0);
}

#[tokio::test]
async fn a_stream_of_a_writing_statement_writes_once_and_commits_at_its_end() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let sql = format!("INSERT INTO t (n) {} RETURNING n", numbers(1000));
        let rows: Vec<i64> = db.fetch_stream(&sql, ()).map_ok(number).try_collect().await.unwrap();
        assert_eq!((rows.len(), count(&db).await), (1000, 1000), "{kind:?}");
        let mut rows = db.fetch_stream(&sql, ());
        rows.next().await.unwrap().unwrap();
        drop(rows);
        assert_whole(&db, "after a writing stream was dropped").await;
        let left = count(&db).await;
        assert!(left == 1000 || left == 2000, "{kind:?}: all or nothing, not {left}");
    }
}

#[tokio::test]
async fn many_streams_run_side_by_side_and_a_writer_beside_them() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.builder().pool_max(5).open().await.unwrap();
    with_table(&db).await;
    let sql = numbers(3000);
    let mut streams: Vec<_> = (0..4).map(|_| db.fetch_stream(&sql, ())).collect();
    for round in 1..=3000 {
        for stream in &mut streams {
            assert_eq!(number(stream.next().await.unwrap().unwrap()), round);
        }
        if round % 500 == 0 {
            db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
        }
    }
    for stream in &mut streams {
        assert!(stream.next().await.is_none());
    }
    drop(streams);
    assert_eq!(count(&db).await, 6);
    assert_whole(&db, "after streams side by side").await;
}
