//! Letting go of a database: while it sleeps nothing of it is open, and nobody notices but by waiting.
//!
//! `STRONGROOM_SUSPENDS` (12 by default) is the number of times under load.
#![cfg(all(feature = "sqlcipher", target_os = "linux"))]

mod common;
#[path = "common/other.rs"]
mod other;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use async_trait::async_trait;
use common::{Home, Kind, Walked, count, eventually, kinds, millis, numbers, open_files, secs, walk, with_table};
use futures_util::{StreamExt as _, TryStreamExt as _};
use other::Other;
use strongroom::pool::SuspendOptions;
use strongroom::sqlcipher::Tuning;
use strongroom::{AsyncDatabase, ErrorKind, KeySource, Reason, Result, Secret};
use tokio::time::{sleep, timeout};

/// A passphrase that counts how often it was asked for.
struct Asked(Arc<AtomicU32>);

#[async_trait]
impl KeySource for Asked {
    async fn resolve(&self) -> Result<Secret> {
        self.0.fetch_add(1, SeqCst);
        Ok(Secret::new("correct horse"))
    }

    fn describe(&self) -> String {
        "a passphrase of the test".into()
    }
}

fn held() -> SuspendOptions {
    SuspendOptions::new().until_resumed()
}

/// Nothing of it is open, and the log is in the file.
fn assert_let_go(home: &Home, what: &str) {
    assert_eq!(open_files(&home.path()), 0, "{what}: descriptors are open");
    assert!(!home.directory.path().join("app.db-wal").exists(), "{what}: the log was not copied");
}

/// Writes, reads, transactions and streams until told to stop; says how many rows it wrote.
async fn work(db: AsyncDatabase, task: u32, stop: Arc<AtomicBool>) -> Result<i64> {
    let mut rows = 0;
    while !stop.load(SeqCst) {
        match task % 4 {
            0 => {
                db.execute("INSERT INTO t (n) VALUES ($1)", (task,)).await?;
                rows += 1;
            }
            1 => {
                // Reads beside its own transaction.
                db.transaction(async |tx| {
                    tx.execute("INSERT INTO t (n) VALUES ($1)", (task,)).await?;
                    db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.map(drop)
                })
                .await?;
                rows += 1;
            }
            2 => drop(db.fetch_value::<i64>("SELECT count(*) FROM t WHERE n = $1", (task,)).await?),
            _ => {
                // Writes beside its own stream.
                let mut stream = db.fetch_stream(&numbers(3), ());
                while stream.try_next().await?.is_some() {
                    db.execute("INSERT INTO t (n) VALUES ($1)", (task,)).await?;
                    rows += 1;
                }
            }
        }
        tokio::task::yield_now().await;
    }
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_nobody_notices_but_by_waiting_and_the_key_is_derived_once() {
    let rounds: u32 = std::env::var("STRONGROOM_SUSPENDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let (home, asked) = (Home::new(Kind::KeyedFile), Arc::new(AtomicU32::new(0)));
    let builder = AsyncDatabase::builder(home.path()).key(Asked(Arc::clone(&asked))).cipher_kdf_iter(1000);
    // More readers than streams, so that a transaction that reads beside itself finds one.
    let db = builder.pool_max(20).pool_timeout(secs(60)).open().await.unwrap();
    with_table(&db).await;
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..32).map(|task| tokio::spawn(work(db.clone(), task, Arc::clone(&stop)))).collect();
    for round in 0..rounds {
        sleep(millis(5)).await;
        let options = SuspendOptions::new().limit(secs(30));
        if round % 3 == 0 {
            db.suspend_with(options).await.unwrap();
            continue;
        }
        let report = db.suspend_with(options.until_resumed()).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert!(db.is_suspended());
        assert_let_go(&home, &format!("round {round}"));
        db.resume();
    }
    stop.store(true, SeqCst);
    let mut rows = 0;
    for task in tasks {
        rows += timeout(secs(60), task).await.expect("a task was forgotten").unwrap().unwrap();
    }
    assert_eq!(count(&db).await, rows, "a row was lost, or written twice");
    assert_eq!(asked.load(SeqCst), 1, "the key was asked for again");
    let stats = db.stats();
    assert_eq!((stats.total_acquired, stats.waiting), (stats.total_released, 0), "{stats:?}");
}

#[test]
fn the_other_process() {
    other::be_the_other_process();
}

#[tokio::test]
async fn another_process_can_have_the_file_to_itself_meanwhile() {
    const TAKE: &str = "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; INSERT INTO t (n) VALUES (7); COMMIT";
    const GIVE: &str = "PRAGMA locking_mode = NORMAL; SELECT count(*) FROM t";
    let home = Home::new(Kind::KeyedFile);
    let db = home.builder().tuning(Tuning::default().busy_timeout(secs(5))).open().await.unwrap();
    with_table(&db).await;
    let _reader = db.fetch_all("SELECT * FROM t", ()).await.unwrap();
    let mut other = Other::open(&home.path());
    // That a connection of ours is open is told by a lock that stands in the way.
    assert_ne!(other.try_run(TAKE), "ok");
    other.run(GIVE);
    db.suspend_with(held()).await.unwrap();
    other.run(TAKE);
    db.resume();
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { count(&db).await }
    });
    sleep(millis(50)).await;
    other.run(GIVE);
    assert_eq!(waiting.await.unwrap(), 1);
    db.execute("INSERT INTO t (n) VALUES (8)", ()).await.unwrap();
}

#[tokio::test]
async fn who_holds_it_is_named_and_goes_on() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let brief = SuspendOptions::new().limit(millis(50)).until_resumed();
        let still_lent = async |what: &str| {
            let error = db.suspend_with(brief).await.unwrap_err();
            assert_eq!(kinds(&error), (ErrorKind::Timeout, Reason::StillLent), "{what}: {error}");
            assert!(error.to_string().contains(concat!("held by ", file!())), "{what}: {error}");
            assert!(!db.is_suspended(), "{what}");
            error.to_string()
        };

        let mut tx = db.begin().await.unwrap();
        tx.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
        assert!(still_lent("a transaction").await.contains("in a transaction"));
        tx.execute("INSERT INTO t (n) VALUES (2)", ()).await.unwrap();
        tx.commit().await.unwrap();

        let sql = numbers(100_000);
        let mut stream = db.fetch_stream(&sql, ());
        assert!(stream.next().await.unwrap().is_ok());
        still_lent("a stream").await;
        assert_eq!(stream.try_fold(1, async |n, _| Ok(n + 1)).await.unwrap(), 100_000);

        let mut conn = db.read_connection().await.unwrap();
        still_lent("a connection").await;
        assert_eq!(conn.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(2));
        drop(conn);

        db.suspend_with(brief.limit(secs(5))).await.unwrap();
        assert_let_go(&home, "afterwards");
    }
}

#[tokio::test]
async fn a_statement_that_runs_at_the_limit_is_stopped_if_the_caller_wants() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    let long = tokio::spawn({
        let db = db.clone();
        async move { db.fetch_all(common::ENDLESS, ()).await.unwrap_err() }
    });
    eventually("the statement runs", || db.stats().active_connections == 1).await;
    db.suspend_with(held().limit(millis(50)).stop_late()).await.unwrap();
    assert_eq!(long.await.unwrap().kind(), ErrorKind::Cancelled);
    assert_let_go(&home, "afterwards");
}

#[tokio::test]
async fn inside_of_its_own_transaction_it_could_never_end() {
    let db = Home::new(Kind::PlainMemory).open().await;
    let error = db.transaction(async |_| db.suspend().await.map(drop)).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::PoolExhausted, Reason::WouldDeadlock));
}

#[tokio::test]
async fn a_future_that_is_dropped_at_any_await_leaves_it_awake_or_asleep() {
    for (kind, options) in [(Kind::PlainFile, SuspendOptions::new()), (Kind::KeyedFile, held())] {
        let home = Home::new(kind);
        let db = home.builder().pool_max(3).open().await.unwrap();
        with_table(&db).await;
        let mut rows = 0;
        for polls in 0..100 {
            let what = format!("{kind:?}, {polls} polls");
            let loans = [db.read_connection().await.unwrap(), db.read_connection().await.unwrap()];
            let giving_back = tokio::spawn(async move {
                tokio::task::yield_now().await;
                drop(loans);
            });
            let done = matches!(walk(db.suspend_with(options), polls).await, Walked::Done(outcome) if outcome.is_ok());
            assert_eq!(db.is_suspended(), done, "{what}");
            if done {
                assert_let_go(&home, &what);
                db.resume();
            }
            giving_back.await.unwrap();
            timeout(secs(5), db.execute("INSERT INTO t (n) VALUES (1)", ())).await.expect(&what).expect(&what);
            rows += 1;
            assert_eq!(timeout(secs(5), count(&db)).await.expect(&what), rows, "{what}");
            if done {
                break;
            }
            assert!(polls < 99, "{what}: it was never done");
        }
        common::assert_capacity(&db, 2, "afterwards").await;
    }
}

#[tokio::test]
async fn a_database_in_memory_keeps_its_contents() {
    for kind in [Kind::PlainMemory, Kind::KeyedMemory] {
        for options in [SuspendOptions::new(), held()] {
            let db = Home::new(kind).open().await;
            with_table(&db).await;
            db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
            db.suspend_with(options).await.unwrap();
            assert_eq!(db.pool_size(), 0);
            db.resume();
            assert_eq!(count(&db).await, 1, "{kind:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_of_every_kind_wait_for_as_long_as_it_sleeps() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    with_table(&db).await;
    db.suspend_with(held()).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..12).map(|task| tokio::spawn(work(db.clone(), task, Arc::clone(&stop)))).collect();
    sleep(secs(3600)).await;
    assert!(tasks.iter().all(|task| !task.is_finished()));
    assert_let_go(&home, "asleep");
    // A limit of the call's own counts nevertheless.
    let error = db.with_timeout(secs(3)).execute("DELETE FROM t", ()).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Timeout, Reason::NotStarted));
    assert!(error.to_string().contains(concat!("suspended by ", file!())), "{error}");
    let error = db.with_timeout(secs(3)).fetch_all("SELECT * FROM t", ()).await.unwrap_err();
    assert!(error.to_string().contains(concat!("suspended by ", file!())), "{error}");
    stop.store(true, SeqCst);
    db.resume();
    let mut rows = 0;
    for task in tasks {
        rows += task.await.unwrap().unwrap();
    }
    assert_eq!(count(&db).await, rows);
}

#[tokio::test]
async fn what_is_open_beside_the_connections_is_let_go_of_too() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        // The first connection is open, and nobody has asked for one yet.
        let db = home.builder().pool_min(0).build();
        assert!(matches!(walk(db.read_connection(), 1).await, Walked::Dropped));
        db.suspend().await.unwrap();
        assert_let_go(&home, "an opening whose caller has gone away");

        with_table(&db).await;
        for polls in [1, 1, 1, 2] {
            walk(db.read_connection(), polls).await;
            walk(db.connection(), polls).await;
        }
        db.suspend().await.unwrap();
        assert_let_go(&home, "connects whose callers have gone away");

        // Long enough to be copied in the background.
        for _ in 0..3 {
            let blobs = (0..1500).map(|n| (n, [0_u8; 3000]));
            db.execute_script("CREATE TABLE IF NOT EXISTS b (n, b)").await.unwrap();
            db.execute_many("INSERT INTO b VALUES ($1, $2)", blobs).await.unwrap();
            db.suspend().await.unwrap();
            assert_let_go(&home, "a checkpoint in the background");
        }
    }
}

#[tokio::test]
async fn a_database_that_was_never_opened_sleeps_and_makes_no_file() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.builder().build();
    db.suspend().await.unwrap();
    assert!(db.is_suspended());
    assert!(!home.path().exists());
    with_table(&db).await;
}

#[tokio::test]
async fn other_ways_to_open_let_go_too() {
    let home = Home::new(Kind::KeyedFile);
    let made = home.open().await;
    with_table(&made).await;
    made.close().await.unwrap();
    for (name, builder) in [
        ("exclusive", home.builder().exclusive()),
        ("read-only", home.builder().read_only()),
        ("immutable", home.builder().immutable()),
        ("a pool of one", home.builder().pool_max(1)),
    ] {
        let db = builder.open().await.unwrap();
        assert_eq!(count(&db).await, 0, "{name}");
        db.suspend_with(held()).await.unwrap();
        assert_let_go(&home, name);
        let another = home.builder().exclusive().open().await.expect(name);
        another.close().await.unwrap();
        db.resume();
        assert_eq!(count(&db).await, 0, "{name}");
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn to_close_what_sleeps_opens_nothing() {
    for options in [SuspendOptions::new(), held()] {
        let home = Home::new(Kind::KeyedFile);
        let db = home.open().await;
        db.suspend_with(options).await.unwrap();
        let opened = db.stats().total_opened;
        assert!(timeout(secs(5), db.close()).await.expect("it waits for nothing").unwrap().is_clean());
        assert_eq!(db.stats().total_opened, opened);
        assert_eq!(db.fetch_all("SELECT 1", ()).await.unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[tokio::test]
async fn another_suspension_of_another_handle_lets_go_of_its_own_only() {
    let home = Home::new(Kind::PlainFile);
    let (one, two) = (home.open().await, home.open().await);
    with_table(&one).await;
    for turn in 1..=5 {
        one.suspend_with(held()).await.unwrap();
        two.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
        one.resume();
        assert_eq!(count(&one).await, turn);
    }
}
