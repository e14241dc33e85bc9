//! Futures that are dropped half-way: nothing is lost, nothing stays open, and nothing happens by halves.
#![cfg(feature = "sqlite")]

mod common;

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use common::{
    ENDLESS, Home, Kind, Walked, assert_capacity, assert_whole, count, eventually, millis, numbers, open_files, secs,
    walk, with_table,
};
use futures_util::StreamExt;
use strongroom::engine::TransactionMode;
use strongroom::{AsyncDatabase, ErrorKind, rusqlite};
use tokio::time::timeout;

const PUT: &str = "INSERT INTO t (n) VALUES (1)";

/// What a call may leave behind: how many rows when it was dropped, and how many when it was not.
struct Effect {
    dropped: RangeInclusive<i64>,
    whole: i64,
    /// Whether it is all or nothing, and not something in between.
    atomic: bool,
}

fn all_or_nothing(whole: i64) -> Effect {
    Effect { dropped: 0..=whole, whole, atomic: true }
}

fn nothing() -> Effect {
    all_or_nothing(0)
}

/// Polls a call 0, 1, 2, ... times before dropping it, until it completes, and looks at what is left each time.
async fn survives(db: &AsyncDatabase, name: &str, effect: Effect, call: impl AsyncFn(&AsyncDatabase)) {
    let readers = if db.capabilities().concurrent_readers { 2 } else { 0 };
    let mut before = count(db).await;
    for polls in 0..1000 {
        let outcome = Box::pin(walk(call(db), polls)).await;
        let what = format!("{name} dropped after {polls} polls");
        assert_capacity(db, readers, &what).await;
        let left = count(db).await - before;
        before += left;
        match outcome {
            Walked::Done(()) => return assert_eq!(left, effect.whole, "{name}"),
            Walked::Dropped => {
                assert!(effect.dropped.contains(&left), "{what}: {left} rows");
                assert!(!effect.atomic || left == 0 || left == effect.whole, "{what}: {left} rows is half");
            }
        }
    }
    panic!("{name} never completes");
}

async fn fixture(kind: Kind) -> (Home, AsyncDatabase) {
    let home = Home::new(kind);
    let db = home.builder().pool_max(3).open().await.unwrap();
    with_table(&db).await;
    db.execute(PUT, ()).await.unwrap();
    (home, db)
}

async fn close(home: &Home, db: &AsyncDatabase) {
    let stats = db.stats();
    assert_eq!((stats.total_errors, stats.total_timeouts), (0, 0), "{stats:?}");
    let report = db.close().await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(open_files(&home.path()), 0, "every connection that was opened is closed");
}

#[tokio::test]
async fn one_liners_dropped_at_every_await_leave_everything_whole() {
    for kind in [Kind::KeyedFile, Kind::KeyedMemory] {
        let (home, db) = fixture(kind).await;
        survives(&db, "execute", all_or_nothing(1), async |db| {
            db.execute(PUT, ()).await.unwrap();
        })
        .await;
        survives(&db, "execute_many", all_or_nothing(3000), async |db| {
            db.execute_many("INSERT INTO t (n) VALUES ($1)", (0..3000).map(|n| (n,))).await.unwrap();
        })
        .await;
        let parts = Effect { dropped: 0..=2, whole: 2, atomic: false };
        let script = format!("{PUT}; {PUT}");
        survives(&db, "execute_script", parts, async |db| db.execute_script(&script).await.unwrap()).await;
        let script = format!("BEGIN; {PUT}; {PUT}; COMMIT");
        let both = all_or_nothing(2);
        survives(&db, "execute_script with BEGIN", both, async |db| db.execute_script(&script).await.unwrap()).await;
        let all = "SELECT * FROM t";
        survives(&db, "fetch_all", nothing(), async |db| drop(db.fetch_all(all, ()).await.unwrap())).await;
        survives(&db, "fetch_one", nothing(), async |db| drop(db.fetch_one(all, ()).await.unwrap())).await;
        survives(&db, "fetch_one that writes", all_or_nothing(1), async |db| {
            db.fetch_one("INSERT INTO t (n) VALUES (1) RETURNING id", ()).await.unwrap().unwrap();
        })
        .await;
        survives(&db, "fetch_value", nothing(), async |db| {
            db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap().unwrap();
        })
        .await;
        survives(&db, "fetch_one_as", nothing(), async |db| {
            db.fetch_one_as::<(i64, i64)>(all, ()).await.unwrap().unwrap();
        })
        .await;
        survives(&db, "fetch_all_as", nothing(), async |db| {
            drop(db.fetch_all_as::<(i64, i64)>(all, ()).await.unwrap());
        })
        .await;
        survives(&db, "table_exists", nothing(), async |db| assert!(db.table_exists("t").await.unwrap())).await;
        survives(&db, "connect", nothing(), async |db| db.connect().await.unwrap()).await;
        close(&home, &db).await;
    }
}

#[tokio::test]
async fn streams_dropped_at_every_await_leave_everything_whole() {
    for kind in [Kind::KeyedFile, Kind::KeyedMemory] {
        let (home, db) = fixture(kind).await;
        let sql = numbers(1000);
        survives(&db, "fetch_stream", nothing(), async |db| {
            assert_eq!(db.fetch_stream(&sql, ()).count().await, 1000);
        })
        .await;
        let sql = format!("INSERT INTO t (n) {} RETURNING n", numbers(600));
        survives(&db, "fetch_stream that writes", all_or_nothing(600), async |db| {
            assert_eq!(db.fetch_stream(&sql, ()).count().await, 600);
        })
        .await;
        close(&home, &db).await;
    }
}

#[tokio::test]
async fn transactions_dropped_at_every_await_are_rolled_back() {
    for kind in [Kind::KeyedFile, Kind::KeyedMemory] {
        let (home, db) = fixture(kind).await;
        survives(&db, "transaction", all_or_nothing(4), async |db| {
            db.transaction(async |tx| {
                tx.execute(PUT, ()).await?;
                tx.execute_many("INSERT INTO t (n) VALUES ($1)", [(1,), (2,)]).await?;
                tx.transaction(async |nested| nested.execute(PUT, ()).await).await
            })
            .await
            .unwrap();
        })
        .await;
        survives(&db, "begin and commit", all_or_nothing(2), async |db| {
            let mut tx = db.begin().await.unwrap();
            tx.execute(PUT, ()).await.unwrap();
            let mut nested = tx.begin().await.unwrap();
            nested.execute(PUT, ()).await.unwrap();
            nested.commit().await.unwrap();
            let mut undone = tx.begin().await.unwrap();
            undone.execute(PUT, ()).await.unwrap();
            undone.rollback().await.unwrap();
            let mut dropped = tx.begin().await.unwrap();
            dropped.execute_script(PUT).await.unwrap();
            drop(dropped);
            assert_eq!(tx.fetch_stream(&numbers(300), ()).count().await, 300);
            tx.commit().await.unwrap();
        })
        .await;
        survives(&db, "begin and rollback", nothing(), async |db| {
            let mut tx = db.begin().await.unwrap();
            tx.execute(PUT, ()).await.unwrap();
            tx.rollback().await.unwrap();
        })
        .await;
        survives(&db, "reading transaction", nothing(), async |db| {
            let mut tx = db.begin_with(TransactionMode::READ).await.unwrap();
            tx.fetch_all("SELECT * FROM t", ()).await.unwrap();
            tx.commit().await.unwrap();
        })
        .await;
        close(&home, &db).await;
    }
}

#[tokio::test]
async fn raw_connections_dropped_at_every_await_come_back_clean() {
    for kind in [Kind::KeyedFile, Kind::KeyedMemory] {
        let (home, db) = fixture(kind).await;
        survives(&db, "connection", Effect { dropped: 0..=3, whole: 3, atomic: false }, async |db| {
            let mut conn = db.connection().await.unwrap();
            conn.execute("BEGIN", ()).await.unwrap();
            conn.execute(PUT, ()).await.unwrap();
            conn.execute("COMMIT", ()).await.unwrap();
            conn.execute_many("INSERT INTO t (n) VALUES ($1)", [(1,), (2,)]).await.unwrap();
        })
        .await;
        survives(&db, "interact", Effect { dropped: 0..=1, whole: 1, atomic: true }, async |db| {
            let put = |c: &mut rusqlite::Connection| c.execute(PUT, ());
            assert_eq!(db.interact(put).await.unwrap(), 1);
        })
        .await;
        survives(&db, "read_connection", nothing(), async |db| {
            let mut conn = db.read_connection().await.unwrap();
            conn.fetch_all("SELECT * FROM t", ()).await.unwrap();
        })
        .await;
        close(&home, &db).await;
    }
}

#[tokio::test]
async fn calls_dropped_on_a_handle_that_lives_on_leave_it_usable_or_doomed() {
    for kind in [Kind::KeyedFile, Kind::KeyedMemory] {
        let (home, db) = fixture(kind).await;
        let mut expected = count(&db).await;
        for polls in 0..8 {
            let mut conn = db.connection().await.unwrap();
            let sets = (0..3000).map(|n| (n,));
            let bulk = conn.execute_many("INSERT INTO t (n) VALUES ($1)", sets);
            let done = matches!(Box::pin(walk(bulk, polls)).await, Walked::Done(_));
            conn.execute(PUT, ()).await.unwrap();
            drop(conn);
            expected += 1 + if done { 3000 } else { 0 };
            let found = count(&db).await;
            assert!(
                found == expected || (!done && found == expected + 3000),
                "{kind:?}: after {polls} polls of execute_many, what was acknowledged later is lost: {found}, {expected}"
            );
            expected = found;
        }
        for polls in 0..8 {
            let mut tx = db.begin().await.unwrap();
            let done = matches!(walk(tx.execute(PUT, ()), polls).await, Walked::Done(_));
            let again = tx.execute(PUT, ()).await;
            let committed = tx.commit().await;
            assert_eq!(again.is_ok(), committed.is_ok(), "{kind:?}: {polls} polls: {again:?} {committed:?}");
            expected += if committed.is_ok() { 1 + i64::from(done) } else { 0 };
            assert_eq!(count(&db).await, expected, "{kind:?}: {polls} polls");
        }
        close(&home, &db).await;
    }
}

#[tokio::test]
async fn opening_dropped_at_every_await_can_be_done_again() {
    for kind in [Kind::PlainFile, Kind::KeyedFile, Kind::KeyedMemory] {
        for polls in 0.. {
            let home = Home::new(kind);
            let opened = Box::pin(walk(home.builder().pool_min(3).pool_max(3).open(), polls)).await;
            let db = home.builder().pool_max(3).build();
            // What was dropped may still be creating the file.
            let wait = Instant::now() + secs(5);
            while let Err(error) = db.connect().await {
                assert!(Instant::now() < wait, "{kind:?}, {polls} polls: {error}");
            }
            with_table(&db).await;
            let readers = if kind.is_file() { 2 } else { 0 };
            assert_capacity(&db, readers, "after an open that was dropped").await;
            let done = matches!(opened, Walked::Done(_));
            drop(opened);
            db.close().await.unwrap();
            eventually("connections of a dropped open are closed", || open_files(&home.path()) == 0).await;
            if done {
                break;
            }
        }
    }
}

#[tokio::test]
async fn connecting_dropped_at_every_await_leaves_the_same_database_able_to_connect() {
    for kind in [Kind::KeyedFile, Kind::KeyedMemory] {
        for polls in 0.. {
            let home = Home::new(kind);
            let db = home.builder().pool_min(3).pool_max(3).build();
            let done = matches!(Box::pin(walk(db.connect(), polls)).await, Walked::Done(_));
            db.connect().await.unwrap_or_else(|error| panic!("{kind:?}, {polls} polls: {error:?}"));
            with_table(&db).await;
            assert_whole(&db, "after a connect that was dropped").await;
            close(&home, &db).await;
            if done {
                break;
            }
        }
    }
}

#[tokio::test]
async fn closing_dropped_at_every_await_can_be_finished() {
    for kind in [Kind::KeyedFile, Kind::KeyedMemory] {
        for polls in 0.. {
            let (home, db) = fixture(kind).await;
            let done = matches!(Box::pin(walk(db.close(), polls)).await, Walked::Done(_));
            if polls > 0 {
                assert_eq!(db.execute(PUT, ()).await.unwrap_err().kind(), ErrorKind::Closed, "{polls} polls");
            }
            db.close().await.unwrap();
            eventually("all is closed", || open_files(&home.path()) == 0).await;
            assert_eq!(db.stats().total_connections, 0);
            if done {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_dropped_statement_stops_within_a_second_wherever_it_runs() {
    for kind in [Kind::PlainFile, Kind::KeyedMemory] {
        let (home, db) = fixture(kind).await;
        let stopped = async |what: &str| {
            let begin = Instant::now();
            assert_whole(&db, what).await;
            assert!(begin.elapsed() < secs(1), "{kind:?}: {what} stopped after {:?}", begin.elapsed());
        };
        assert!(timeout(millis(100), db.fetch_all(ENDLESS, ())).await.is_err());
        stopped("a read").await;
        let fill = format!("INSERT INTO t (n) {}", numbers(1_000_000_000));
        assert!(timeout(millis(100), db.execute(&fill, ())).await.is_err());
        stopped("a write").await;
        assert!(timeout(millis(100), db.execute_script(&fill)).await.is_err());
        stopped("a script").await;
        assert!(timeout(millis(100), db.fetch_stream(ENDLESS, ()).next()).await.is_err());
        stopped("a stream").await;
        let query = |c: &mut rusqlite::Connection| c.query_row(ENDLESS, (), |row| row.get::<_, i64>(0));
        assert!(timeout(millis(100), db.interact(query)).await.is_err());
        stopped("a call of interact").await;
        assert_eq!(count(&db).await, 1, "{kind:?}: what was stopped had no effect");
        close(&home, &db).await;
    }
}

#[tokio::test]
async fn a_cancelled_call_never_hits_the_next_one_on_the_same_connection() {
    for kind in [Kind::PlainFile, Kind::KeyedMemory] {
        let (home, db) = fixture(kind).await;
        let mut conn = db.connection().await.unwrap();
        let (work, next) = (numbers(20_000), numbers(3000));
        for round in 0..150_u64 {
            {
                let mut call = Box::pin(conn.fetch_all(&work, ()));
                drop(common::poll_once(call.as_mut()));
                std::thread::sleep(Duration::from_micros(round * 40));
            }
            let rows = conn.fetch_all(&next, ()).await.unwrap_or_else(|error| panic!("{kind:?}, {round}: {error:?}"));
            assert_eq!(rows.len(), 3000);
        }
        drop(conn);
        close(&home, &db).await;
    }
}

#[tokio::test]
async fn a_connection_that_was_cancelled_once_still_reads_a_large_schema() {
    let home = Home::new(Kind::PlainFile);
    let db = home.builder().pool_max(2).open().await.unwrap();
    with_table(&db).await;
    assert!(timeout(millis(50), db.fetch_all(ENDLESS, ())).await.is_err(), "the only reader was cancelled");
    let schema: Vec<String> = (0..2000).map(|n| format!("CREATE TABLE x{n} (a, b, c)")).collect();
    db.execute_script(&format!("BEGIN; {}; COMMIT", schema.join("; "))).await.unwrap();
    for sql in ["SELECT * FROM x7", "SELECT a.* FROM x1 a, x2 b, x3 c, x4 d, x5 e, x6 f"] {
        db.fetch_all(sql, ()).await.expect("preparing reads the schema, and nobody asked that to stop");
    }
}
