//! Many callers at once: nobody sees a lock, sums are right, the order is fair, and the numbers are true.
#![cfg(feature = "sqlite")]

mod common;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Home, Kind, assert_capacity, assert_whole, count, kinds, millis, secs, with_table};
use futures_util::TryStreamExt;
use strongroom::engine::TransactionMode;
use strongroom::sqlcipher::Tuning;
use strongroom::{AsyncDatabase, Error, ErrorKind, Reason, Result};
use tokio::time::timeout;

/// How long the mixed load runs.
fn soak() -> Duration {
    let asked = std::env::var("STRONGROOM_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    secs(asked.unwrap_or(3))
}

const ACCOUNTS: i64 = 64;
const EACH: i64 = 1000;

/// What the tasks did, to be compared with what the database says.
#[derive(Default)]
struct Tally {
    rounds: AtomicU64,
    logged: AtomicI64,
}

async fn bank(db: &AsyncDatabase) {
    db.execute_script("CREATE TABLE account (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL); CREATE TABLE log (a, b)")
        .await
        .unwrap();
    let sets = (0..ACCOUNTS).map(|id| (id, EACH));
    db.execute_many("INSERT INTO account VALUES ($1, $2)", sets).await.unwrap();
}

/// One of the things that programs do, by turns.
async fn act(db: &AsyncDatabase, random: &mut fastrand::Rng, tally: &Tally) -> Result<()> {
    let (from, to, cents) = (random.i64(..ACCOUNTS), random.i64(..ACCOUNTS), random.i64(1..50));
    let take = "UPDATE account SET cents = cents - $2 WHERE id = $1";
    let give = "UPDATE account SET cents = cents + $2 WHERE id = $1";
    match random.u8(..8) {
        0 => {
            db.execute("INSERT INTO log VALUES ($1, $2)", (from, to)).await?;
            tally.logged.fetch_add(1, SeqCst);
        }
        1 => {
            db.transaction(async |tx| {
                tx.execute(take, (from, cents)).await?;
                tokio::task::yield_now().await;
                tx.execute(give, (to, cents)).await
            })
            .await?;
        }
        2 => {
            let mut tx = db.begin().await?;
            tx.execute(take, (from, cents)).await?;
            drop(tx);
        }
        3 => {
            let mut conn = db.connection().await?;
            conn.execute_script(&format!(
                "BEGIN IMMEDIATE; UPDATE account SET cents = cents - {cents} WHERE id = {from};
                 UPDATE account SET cents = cents + {cents} WHERE id = {to}; COMMIT"
            ))
            .await?;
        }
        4 => {
            let sum: Option<i64> = db.fetch_value("SELECT sum(cents) FROM account", ()).await?;
            assert_eq!(sum, Some(ACCOUNTS * EACH), "a reader saw half a transaction");
        }
        5 => {
            let mut tx = db.begin_with(TransactionMode::READ).await?;
            let sum = "SELECT sum(cents) FROM account";
            let one: Option<i64> = tx.fetch_value(sum, ()).await?;
            let two: Option<i64> = tx.fetch_value(sum, ()).await?;
            assert_eq!((one, two), (Some(ACCOUNTS * EACH), Some(ACCOUNTS * EACH)));
            tx.commit().await?;
        }
        6 => {
            let mut rows = db.fetch_stream("SELECT id FROM account ORDER BY id", ());
            let mut next = 0;
            while let Some(row) = rows.try_next().await? {
                assert_eq!(row.get::<i64>(0)?, next);
                next += 1;
            }
            assert_eq!(next, ACCOUNTS);
        }
        _ => {
            let row = db.fetch_one("INSERT INTO log VALUES ($1, $2) RETURNING a", (from, to)).await?;
            assert!(row.is_some());
            tally.logged.fetch_add(1, SeqCst);
        }
    }
    tally.rounds.fetch_add(1, SeqCst);
    Ok(())
}

/// Every statement takes the writer, and commits, by itself.
fn alone() -> Tuning {
    Tuning::default().group_commit(false)
}

async fn mixed_load(kind: Kind, pool_max: u32, duration: Duration, tuning: Tuning) {
    let one_loan_each = tuning == alone();
    let home = Home::new(kind);
    let db = home.builder().tuning(tuning).pool_timeout(secs(60)).pool_max(pool_max).open().await.unwrap();
    bank(&db).await;
    let tally = Arc::new(Tally::default());
    let end = Instant::now() + duration;
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let (db, tally) = (db.clone(), Arc::clone(&tally));
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(task);
                while Instant::now() < end {
                    act(&db, &mut random, &tally).await?;
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap_or_else(|error| panic!("{kind:?}: {error:?}"));
    }
    let sum: Option<i64> = db.fetch_value("SELECT sum(cents) FROM account", ()).await.unwrap();
    assert_eq!(sum, Some(ACCOUNTS * EACH), "{kind:?}: money was made or lost");
    let logged: Option<i64> = db.fetch_value("SELECT count(*) FROM log", ()).await.unwrap();
    assert_eq!(logged, Some(tally.logged.load(SeqCst)), "{kind:?}: what was acknowledged is there, once");
    let readers = if kind.is_file() { pool_max - 1 } else { 0 };
    assert_capacity(&db, readers, "after a mixed load").await;
    let stats = db.stats();
    assert_eq!((stats.total_errors, stats.total_timeouts, stats.waiting), (0, 0, 0), "{kind:?}: {stats:?}");
    // Statements that share a commit share a loan.
    assert!(!one_loan_each || stats.total_acquired >= tally.rounds.load(SeqCst), "{stats:?}");
    assert!(stats.total_connections <= pool_max && stats.total_opened <= u64::from(pool_max), "{stats:?}");
    println!("{kind:?}, pool of {pool_max}: {} rounds in {duration:?}, {stats:?}", tally.rounds.load(SeqCst));
    let report = db.close().await.unwrap();
    assert!(report.is_clean(), "{kind:?}: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_tasks_mix_everything_on_an_encrypted_file() {
    mixed_load(Kind::KeyedFile, 10, soak(), Tuning::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_tasks_mix_everything_in_memory() {
    mixed_load(Kind::KeyedMemory, 10, soak(), Tuning::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_tasks_mix_everything_with_a_single_connection() {
    mixed_load(Kind::PlainFile, 1, soak() / 3, alone()).await;
    mixed_load(Kind::PlainMemory, 1, soak() / 3, alone()).await;
}

#[tokio::test]
async fn sixty_four_tasks_mix_everything_on_one_thread() {
    mixed_load(Kind::PlainFile, 4, soak() / 3, alone()).await;
    mixed_load(Kind::PlainMemory, 4, soak() / 3, alone()).await;
}

#[tokio::test]
async fn writers_are_served_in_the_order_in_which_they_came() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let guard = db.begin().await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..30_i64 {
            let (task_db, order) = (db.clone(), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                match number % 3 {
                    0 => drop(task_db.execute("INSERT INTO t (n) VALUES ($1)", (number,)).await?),
                    1 => {
                        let put = async |tx: &mut strongroom::Transaction| {
                            tx.execute("INSERT INTO t (n) VALUES ($1)", (number,)).await
                        };
                        task_db.transaction(put).await?;
                    }
                    _ => drop(task_db.connection().await?.execute("INSERT INTO t (n) VALUES ($1)", (number,)).await?),
                }
                order.lock().unwrap().push(number);
                Ok::<_, Error>(())
            }));
            while db.stats().waiting as usize <= usize::try_from(number).unwrap() {
                tokio::task::yield_now().await;
            }
        }
        guard.commit().await.unwrap();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        let written: Vec<i64> = db.fetch_all_as("SELECT n FROM t ORDER BY id", ()).await.unwrap();
        assert_eq!(written, (0..30).collect::<Vec<_>>(), "{kind:?}");
    }
}

#[tokio::test]
async fn a_transaction_held_across_awaits_delays_writers_and_no_reader() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let mut tx = db.begin().await.unwrap();
        tx.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
        for _ in 0..20 {
            assert_eq!(timeout(secs(2), count(&db)).await.expect("no reader waits"), 0);
        }
        let write = db.execute("INSERT INTO t (n) VALUES (2)", ());
        assert!(timeout(millis(200), write).await.is_err(), "{kind:?}: the writer waits its turn");
        tx.commit().await.unwrap();
        db.execute("INSERT INTO t (n) VALUES (3)", ()).await.unwrap();
        assert_eq!(count(&db).await, 2, "{kind:?}: who gave up waiting wrote nothing");
        assert_whole(&db, "after a long transaction").await;
    }
}

#[tokio::test]
async fn a_database_in_memory_is_one_lane_so_that_readers_wait_instead_of_failing() {
    for kind in [Kind::PlainMemory, Kind::KeyedMemory] {
        let home = Home::new(kind);
        let db = home.builder().pool_timeout(secs(1)).pool_max(10).open().await.unwrap();
        with_table(&db).await;
        let mut tx = db.begin().await.unwrap();
        tx.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
        let read = db.fetch_value::<i64>("SELECT count(*) FROM t", ());
        let error = read.await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::PoolExhausted, Reason::AllInUse), "{kind:?}: {error}");
        assert!(!format!("{error:?}").contains("locked"), "{error:?}");
        tx.commit().await.unwrap();
        assert_eq!(count(&db).await, 1);
        assert_eq!(db.stats().total_opened, 1, "{kind:?}");
    }
}

#[tokio::test]
async fn a_pool_of_one_reads_and_writes_on_the_same_connection() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.builder().pool_min(0).pool_max(1).open().await.unwrap();
        with_table(&db).await;
        let (one, two, three) = tokio::join!(
            db.execute("INSERT INTO t (n) VALUES (1)", ()),
            db.fetch_all("SELECT * FROM t", ()),
            db.fetch_value::<i64>("INSERT INTO t (n) VALUES (2) RETURNING n", ()),
        );
        one.unwrap();
        two.unwrap();
        assert_eq!(three.unwrap(), Some(2));
        assert_eq!(count(&db).await, 2, "{kind:?}");
        let error = Box::pin(db.transaction(async |_| db.fetch_all("SELECT 1", ()).await)).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::PoolExhausted, Reason::WouldDeadlock), "{kind:?}: {error}");
        assert_eq!(db.stats().total_opened, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_schema_changes_under_readers_and_nobody_notices() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let done = Arc::new(AtomicU64::new(0));
        let readers: Vec<_> = (0..8)
            .map(|_| {
                let (db, done) = (db.clone(), Arc::clone(&done));
                tokio::spawn(async move {
                    while done.load(SeqCst) == 0 {
                        db.fetch_all("SELECT id, n FROM t", ()).await?;
                        db.table_exists("t").await?;
                    }
                    Ok::<_, Error>(())
                })
            })
            .collect();
        for number in 0..30 {
            db.execute_script(&format!("CREATE TABLE x{number} (a); CREATE INDEX i{number} ON t (n)")).await.unwrap();
            db.execute(&format!("DROP TABLE x{number}"), ()).await.unwrap();
            db.execute("VACUUM", ()).await.unwrap_or_else(|error| panic!("{kind:?}: {error:?}"));
        }
        done.store(1, SeqCst);
        for reader in readers {
            reader.await.unwrap().unwrap_or_else(|error| panic!("{kind:?}: {error:?}"));
        }
        assert_whole(&db, "after schema changes").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_every_read_has_its_answer_no_connection_is_in_use() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.builder().pool_max(4).open().await.unwrap();
        with_table(&db).await;
        db.execute_many("INSERT INTO t VALUES ($1, $1)", (0..500_i64).map(|n| (n,))).await.unwrap();
        for _round in 0..60 {
            let calls = (0..12_i64).map(|number| {
                let db = db.clone();
                tokio::spawn(async move {
                    match number % 6 {
                        0 => drop(db.fetch_all_as::<(i64, i64)>("SELECT id, n FROM t", ()).await.unwrap()),
                        1 => drop(db.fetch_one("SELECT id FROM t ORDER BY n DESC", ()).await.unwrap()),
                        2 => drop(db.fetch_value::<i64>("SELECT n FROM t WHERE id = $1", (number,)).await.unwrap()),
                        3 => drop(db.fetch_all("SELECT nothing FROM t", ()).await.unwrap_err()),
                        4 => drop(db.explain("SELECT id FROM t", ()).await.unwrap()),
                        _ => {
                            let rows = db.fetch_stream("SELECT id FROM t", ());
                            assert_eq!(rows.try_fold(0, |n, _| async move { Ok(n + 1) }).await.unwrap(), 500);
                        }
                    }
                })
            });
            for call in futures_util::future::join_all(calls.collect::<Vec<_>>()).await {
                call.unwrap();
            }
            let stats = db.stats();
            assert_eq!((stats.active_connections, stats.waiting), (0, 0), "{kind:?}: {stats:?}");
            assert_eq!(stats.total_acquired, stats.total_released, "{kind:?}");
        }
    }
}
