//! From building to closing, and what happens to a database whose runtime, file or process goes away.
#![cfg(feature = "sqlcipher")]

mod common;
#[path = "common/itself.rs"]
mod itself;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use common::{
    ENDLESS, Home, Kind, assert_whole, count, eventually, kinds, millis, numbers, open_files, secs, with_table,
};
use futures_util::StreamExt;
use strongroom::database::{RawConnection, RowStream};
#[cfg(unix)]
use strongroom::pool::Ping;
use strongroom::sqlcipher::Tuning;
use strongroom::{
    AsyncDatabase, DatabaseBuilder, Error, ErrorKind, KeySource, Pool, Reason, Result, Rows, Secret,
    SqlCipherConnector, Transaction, rusqlite,
};
use tokio::time::timeout;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn handles_can_be_shared_and_sent() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    fn sent<T: Send>() {}
    shared::<AsyncDatabase>();
    shared::<Pool<SqlCipherConnector>>();
    shared::<Rows>();
    sent::<Transaction>();
    sent::<RawConnection>();
    sent::<RowStream<'static>>();
    sent::<DatabaseBuilder<SqlCipherConnector>>();
    sent::<Error>();
}

#[test]
fn building_needs_no_runtime_and_opens_nothing_before_the_first_use() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.builder().idle_timeout(secs(60)).max_lifetime(secs(60)).build();
    assert!(!home.path().exists() && db.pool_size() == 0 && db.is_encrypted());
    runtime().block_on(async {
        with_table(&db).await;
        assert_eq!(count(&db).await, 0);
        assert!(home.path().exists() && db.pool_size() > 0);
        db.close().await.unwrap();
    });
}

#[tokio::test]
async fn connecting_opens_what_the_pool_keeps_and_shows_what_is_wrong() {
    let home = Home::new(Kind::PlainFile);
    let db = home.builder().pool_min(3).pool_max(5).build();
    assert_eq!(db.pool_size(), 0);
    db.connect().await.unwrap();
    assert_eq!(db.pool_size(), 3);
    db.connect().await.unwrap();
    assert_eq!(db.pool_size(), 3, "connecting again opens nothing more");
    let missing = home.directory.path().join("nowhere").join("app.db");
    let error = AsyncDatabase::builder(&missing).open().await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Connection, Reason::NotFound), "{error}");
    let lazy = AsyncDatabase::builder(&missing).build();
    let error = lazy.fetch_all("SELECT 1", ()).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Connection, Reason::NotFound), "the first call says so: {error}");
}

#[tokio::test]
async fn closing_reports_and_afterwards_every_call_of_every_clone_is_closed() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.builder().pool_min(2).pool_max(4).open().await.unwrap();
        with_table(&db).await;
        let clone = db.clone();
        let open = db.pool_size();
        let report = db.close().await.unwrap();
        assert!(report.is_clean(), "{kind:?}: {report:?}");
        assert_eq!(report.closed, open);
        let again = clone.close().await.unwrap();
        assert_eq!((again.closed, again.abandoned), (0, 0), "closing again does no harm");
        let errors = [
            clone.execute("SELECT 1", ()).await.unwrap_err(),
            clone.fetch_all("SELECT 1", ()).await.unwrap_err(),
            clone.execute_script("SELECT 1").await.unwrap_err(),
            clone.execute_many("SELECT 1", [()]).await.unwrap_err(),
            clone.table_exists("t").await.unwrap_err(),
            clone.begin().await.unwrap_err(),
            clone.transaction(async |_| Ok(())).await.unwrap_err(),
            clone.connection().await.unwrap_err(),
            clone.read_connection().await.unwrap_err(),
            clone.connect().await.unwrap_err(),
            clone.interact(|_| Ok(())).await.unwrap_err(),
            clone.fetch_stream("SELECT 1", ()).next().await.unwrap().unwrap_err(),
        ];
        assert!(errors.iter().all(|error| error.kind() == ErrorKind::Closed), "{kind:?}: {errors:?}");
        assert_eq!((db.pool_size(), open_files(&home.path())), (0, 0));
        if kind.is_file() {
            let log = home.directory.path().join("app.db-wal");
            assert!(!log.exists(), "the log was folded into the file");
        }
    }
}

#[tokio::test]
async fn closing_waits_for_those_who_work_and_stops_those_who_take_too_long() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    with_table(&db).await;
    let mut tx = db.begin().await.unwrap();
    let closing = tokio::spawn({
        let db = db.clone();
        async move { db.close().await.unwrap() }
    });
    eventually("the database refuses", || db.stats().waiting == 0).await;
    tokio::time::sleep(millis(50)).await;
    assert!(!closing.is_finished(), "close waits for the transaction");
    tx.execute("INSERT INTO t (n) VALUES (1)", ()).await.expect("who works may finish");
    tx.commit().await.unwrap();
    assert!(closing.await.unwrap().is_clean());
    let db = home.open().await;
    assert_eq!(count(&db).await, 1);

    let endless = tokio::spawn({
        let db = db.clone();
        async move { db.fetch_all(ENDLESS, ()).await }
    });
    eventually("the statement runs", || db.stats().active_connections == 1).await;
    let begin = Instant::now();
    let report = db.close_within(millis(200)).await.unwrap();
    assert!(begin.elapsed() < secs(3), "{:?}", begin.elapsed());
    assert_eq!(report.abandoned, 0, "{report:?}");
    assert_eq!(endless.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(open_files(&home.path()), 0);
}

#[tokio::test]
async fn the_last_handle_dropped_without_closing_closes_in_the_background() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.builder().pool_min(3).open().await.unwrap();
    with_table(&db).await;
    db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
    drop(db.clone());
    assert_eq!(count(&db).await, 1, "a clone that goes closes nothing");
    drop(db);
    eventually("all files are closed", || open_files(&home.path()) == 0).await;
    assert_eq!(count(&home.open().await).await, 1);
}

#[test]
fn a_database_outlives_the_runtime_it_was_opened_on() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let first = runtime();
        let db = first.block_on(async {
            let db = home.open().await;
            with_table(&db).await;
            db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
            drop(db.fetch_stream(&numbers(100_000), ()).next().await);
            let leaving = db.begin().await.unwrap();
            drop(leaving);
            db
        });
        first.shutdown_timeout(secs(5));
        runtime().block_on(async {
            for _ in 0..20 {
                let found =
                    timeout(secs(5), db.fetch_value::<i64>("SELECT count(*) FROM t", ())).await.expect("answers");
                match found {
                    Ok(found) => assert_eq!(found, Some(1), "{kind:?}"),
                    Err(error) => panic!("{kind:?}: {error:?}"),
                }
            }
            db.execute("INSERT INTO t (n) VALUES (2)", ()).await.unwrap();
            assert_whole(&db, "on a second runtime").await;
            db.close().await.unwrap();
        });
    }
}

#[test]
fn handles_may_be_dropped_outside_of_any_runtime() {
    let home = Home::new(Kind::KeyedFile);
    let running = runtime();
    let (db, tx) = running.block_on(async {
        let db = home.open().await;
        with_table(&db).await;
        let mut tx = db.begin().await.unwrap();
        tx.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
        (db, tx)
    });
    drop(running);
    drop(tx);
    drop(db);
    let stream = AsyncDatabase::builder(":memory:").build().fetch_stream("SELECT 1", ());
    drop(stream);
    runtime().block_on(async {
        let db = home.open().await;
        assert_eq!(count(&db).await, 0, "rolled back");
        db.close().await.unwrap();
    });
}

#[tokio::test]
async fn a_scope_closes_whatever_its_work_answers() {
    let home = Home::new(Kind::KeyedFile);
    let (answer, closed) = home
        .builder()
        .scope(async |db| {
            with_table(db).await;
            Ok(count(db).await)
        })
        .await
        .unwrap();
    assert_eq!((answer.unwrap(), closed.unwrap().is_clean()), (0, true));
    let failing = home.builder().scope(async |db| db.execute("nonsense", ()).await).await;
    let (answer, closed) = failing.unwrap();
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Query);
    assert!(closed.unwrap().is_clean());
    assert_eq!(open_files(&home.path()), 0);
    let missing = home.directory.path().join("nowhere").join("app.db");
    let error = AsyncDatabase::builder(missing).scope(async |_| Ok(())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_deleted_under_the_pool_is_noticed_and_once_it_is_back_the_pool_heals() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let db = home.builder().health(Ping).max_retries(1).open().await.unwrap();
        with_table(&db).await;
        db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)", ()).await.unwrap();
        assert_eq!(count(&db).await, 1);
        let backup = home.directory.path().join("backup");
        std::fs::rename(home.path(), &backup).unwrap();
        for error in [
            db.execute("INSERT INTO t (n) VALUES (2)", ()).await.unwrap_err(),
            db.fetch_all("SELECT * FROM t", ()).await.unwrap_err(),
        ] {
            assert!(matches!(error.kind(), ErrorKind::Connection | ErrorKind::Storage), "{kind:?}: {error:?}");
            assert!(!home.path().exists(), "{kind:?}: no empty database was made in its place: {error}");
        }
        std::fs::copy(&backup, home.path()).unwrap();
        assert_eq!(count(&db).await, 1, "{kind:?}: the file is back");
        db.execute("INSERT INTO t (n) VALUES (3)", ()).await.unwrap();
        assert_whole(&db, "after the file came back").await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_replaced_under_the_pool_is_noticed_by_the_next_call() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let db = home.builder().health(Ping).open().await.unwrap();
        with_table(&db).await;
        db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)", ()).await.unwrap();
        let backup = home.directory.path().join("backup");
        std::fs::copy(home.path(), &backup).unwrap();
        db.execute("INSERT INTO t (n) VALUES (2)", ()).await.unwrap();
        assert_eq!(count(&db).await, 2);
        for side in ["app.db-wal", "app.db-shm"] {
            std::fs::remove_file(home.directory.path().join(side)).ok();
        }
        std::fs::rename(&backup, home.path()).unwrap();
        assert_eq!(count(&db).await, 1, "{kind:?}: the restored backup is what is read");
        db.execute("INSERT INTO t (n) VALUES (3)", ()).await.unwrap();
        db.close().await.unwrap();
        let db = home.open().await;
        assert_eq!(db.fetch_all_as::<i64>("SELECT n FROM t ORDER BY n", ()).await.unwrap(), [1, 3], "{kind:?}");
    }
}

/// What SQLite has open it shares for reading and writing only.
#[cfg(windows)]
#[tokio::test]
async fn a_file_that_is_open_can_be_neither_deleted_nor_moved_nor_replaced() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let other = home.directory.path().join("other");
        std::fs::write(&other, "something else").unwrap();
        assert!(std::fs::remove_file(home.path()).is_err(), "{kind:?}");
        assert!(std::fs::rename(home.path(), home.directory.path().join("backup")).is_err(), "{kind:?}");
        assert!(std::fs::rename(&other, home.path()).is_err(), "{kind:?}");
        db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
        assert_eq!(count(&db).await, 1, "{kind:?}");
        db.close().await.unwrap();
        std::fs::remove_file(home.path()).unwrap();
    }
}

/// A key source that counts how often it is asked.
struct Counted(Arc<AtomicUsize>);

#[strongroom::keys::async_trait]
impl KeySource for Counted {
    async fn resolve(&self) -> Result<Secret> {
        self.0.fetch_add(1, SeqCst);
        Ok(Secret::raw_key([7; 32]))
    }
    fn describe(&self) -> String {
        "counted".into()
    }
}

#[tokio::test]
async fn the_key_source_is_asked_once_however_many_connections_open_at_once() {
    let home = Home::new(Kind::KeyedFile);
    let asked = Arc::new(AtomicUsize::new(0));
    let db = AsyncDatabase::builder(home.path()).key(Counted(Arc::clone(&asked))).pool_max(10).build();
    let calls = (0..20).map(|_| db.fetch_all("SELECT 1", ()));
    for outcome in futures_util::future::join_all(calls).await {
        outcome.unwrap();
    }
    assert_eq!(asked.load(SeqCst), 1);
}

#[tokio::test]
async fn a_hook_that_leaves_a_transaction_open_is_a_failed_connect() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let hooked =
            home.builder().on_connect(|connection| Box::pin(connection.interact(|c| c.execute_batch("BEGIN"))));
        let error = hooked.open().await.unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Config, false), "{error:?}");
        assert!(error.to_string().contains("InTransaction"), "{error}");
    }
}

const CHILD: &str = "STRONGROOM_TEST_CHILD";
const FILE: &str = "STRONGROOM_TEST_FILE";

/// Runs after SQLCipher's own handler, which was registered later: what still works then works on memory that is freed.
extern "C" fn linger() {
    std::thread::sleep(millis(150));
}

/// A database whose every page must be decrypted again and again, and a function that makes statements dawdle.
fn tiring(file: &str) -> DatabaseBuilder<SqlCipherConnector> {
    let tuning = Tuning::default().cache_kib(64);
    AsyncDatabase::builder(file).key(common::key()).pool_min(4).tuning(tuning).on_connect(|connection| {
        Box::pin(connection.interact(|c| {
            let flags = rusqlite::functions::FunctionFlags::SQLITE_UTF8;
            c.create_scalar_function("dawdle", 0, flags, |_| {
                std::thread::sleep(millis(2));
                Ok(0)
            })
        }))
    })
}

/// The child of the test below; in the parent's own run it does nothing.
#[test]
#[allow(unsafe_code, reason = "there is no other way to be there at the very end")]
fn child_that_exits_with_live_connections() {
    let (Ok(mode), Ok(file)) = (std::env::var(CHILD), std::env::var(FILE)) else { return };
    // SAFETY: a plain function that lives as long as the process.
    assert_eq!(unsafe { libc::atexit(linger) }, 0);
    let running = runtime();
    let db = running.block_on(async {
        let db = tiring(&file).open().await.unwrap();
        with_table(&db).await;
        db.execute_script("CREATE TABLE big (body)").await.unwrap();
        db.execute_many("INSERT INTO big VALUES ($1)", (0..300).map(|_| ("x".repeat(3500),))).await.unwrap();
        for sql in [
            "SELECT sum(length(a.body) + length(b.body)) FROM big a, big b, big c",
            "SELECT sum(dawdle() + length(a.body)) FROM big a, big b",
            ENDLESS,
        ] {
            let db = db.clone();
            tokio::spawn(async move { db.fetch_all(sql, ()).await });
        }
        let (busy, written) = (db.clone(), Arc::new(AtomicUsize::new(0)));
        let acknowledged = Arc::clone(&written);
        tokio::spawn(async move {
            loop {
                busy.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
                written.fetch_add(1, SeqCst);
            }
        });
        let all_busy = || db.stats().active_connections == 4 && acknowledged.load(SeqCst) >= 5;
        eventually("all are busy", all_busy).await;
        println!("acknowledged {}", acknowledged.load(SeqCst));
        db
    });
    match mode.as_str() {
        "exit" => std::process::exit(0),
        "leak" => std::mem::forget((db, running)),
        "thread" => {
            std::thread::spawn(move || running.block_on(std::future::pending::<()>()));
        }
        _ => drop(db),
    }
}

#[test]
fn a_process_that_exits_with_live_connections_never_crashes_and_keeps_what_it_wrote() {
    let runs = std::env::var("STRONGROOM_EXIT_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    for run in 0..runs {
        let home = Home::new(Kind::KeyedFile);
        let mode = ["exit", "leak", "thread", "drop"][run % 4];
        let begin = Instant::now();
        let output = itself::again(module_path!(), "child_that_exits_with_live_connections")
            .env(CHILD, mode)
            .env(FILE, home.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "run {run}, {mode}: {:?}: {said}", output.status);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = told.lines().find_map(|line| line.split_once("acknowledged ")?.1.trim().parse::<i64>().ok());
        assert!(begin.elapsed() < secs(10), "run {run}, {mode} took {:?}", begin.elapsed());
        runtime().block_on(async {
            let db = home.open().await;
            let check: Option<String> = db.fetch_value("PRAGMA integrity_check", ()).await.unwrap();
            assert_eq!(check.as_deref(), Some("ok"), "run {run}, {mode}");
            assert!(count(&db).await >= told.expect("the child was busy"), "run {run}, {mode}: acknowledged and lost");
        });
    }
}
