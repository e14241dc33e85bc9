//! User code that panics or hangs, and a close in the middle of everything: nothing is lost, nobody else is hurt.
#![cfg(feature = "sqlite")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use common::{Home, Kind, assert_whole, count, kinds, millis, open_files, secs, with_table};
use strongroom::engine::{Phase, Resource};
use strongroom::keys::async_trait;
use strongroom::pool::Ping;
use strongroom::rusqlite::functions::FunctionFlags;
use strongroom::sqlcipher::SqlCipherConnection;
use strongroom::{AsyncDatabase, DatabaseBuilder, ErrorKind, Reason, Result, SqlCipherConnector, rusqlite};
use tokio::time::timeout;

const PUT: &str = "INSERT INTO t (n) VALUES (1)";

#[tokio::test]
async fn a_panic_inside_interact_is_an_error_and_costs_that_connection_only() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        db.execute(PUT, ()).await.unwrap();
        let error = db
            .interact(|c| -> rusqlite::Result<()> {
                c.execute_batch("BEGIN; DELETE FROM t")?;
                panic!("a secret word")
            })
            .await
            .unwrap_err();
        assert_eq!(error.reason(), Reason::Panicked, "{kind:?}");
        assert!(!error.to_string().contains("secret word"), "{error}");
        assert_eq!(count(&db).await, 1, "{kind:?}: what it had begun is undone");
        assert_whole(&db, "after a panic inside interact").await;
    }
}

/// Registers `explode(n)`, which panics at 7, on every connection.
fn with_explosives(builder: DatabaseBuilder<SqlCipherConnector>) -> DatabaseBuilder<SqlCipherConnector> {
    builder.on_connect(|connection| {
        Box::pin(connection.interact(|c| {
            c.create_scalar_function("explode", 1, FunctionFlags::SQLITE_UTF8, |context| {
                let n: i64 = context.get(0)?;
                assert!(n != 7, "a secret word");
                Ok(n)
            })
        }))
    })
}

#[tokio::test]
async fn a_panic_inside_an_sql_function_fails_its_statement_wherever_that_runs() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let db = with_explosives(home.builder()).open().await.unwrap();
        with_table(&db).await;
        for (sql, n) in [("SELECT explode($1)", 7_i64), ("INSERT INTO t (n) VALUES (explode($1))", 7)] {
            for _ in 0..3 {
                let error = db.fetch_all(sql, (n,)).await.unwrap_err();
                assert!(!error.to_string().contains("secret word"), "{kind:?}: {error}");
                db.fetch_all(sql, (1,)).await.unwrap();
            }
        }
        let error = db
            .transaction(async |tx| {
                tx.execute(PUT, ()).await?;
                tx.execute("INSERT INTO t (n) VALUES (explode($1))", (7,)).await
            })
            .await;
        assert!(error.is_err());
        assert_eq!(count(&db).await, 3, "{kind:?}: the three that did not panic");
        assert_whole(&db, "after panics inside a function").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_inside_an_sql_function_hits_nobody_who_waits_for_the_same_writer() {
    let home = Home::new(Kind::KeyedFile);
    let db = with_explosives(home.builder()).open().await.unwrap();
    with_table(&db).await;
    let guard = db.begin().await.unwrap();
    let tasks: Vec<_> = (0..15_i64)
        .map(|n| {
            let db = db.clone();
            tokio::spawn(async move { (n, db.execute("INSERT INTO t (n) VALUES (explode($1))", (n,)).await) })
        })
        .collect();
    common::eventually("all wait", || db.stats().waiting == 15).await;
    guard.rollback().await.unwrap();
    for task in tasks {
        let (n, outcome) = task.await.unwrap();
        assert_eq!(outcome.is_err(), n == 7, "{n}: {outcome:?}");
    }
    assert_eq!(count(&db).await, 14);
    assert_whole(&db, "after a panic in a batch").await;
}

#[tokio::test]
async fn a_hook_that_panics_or_fails_is_a_failed_connect_and_the_next_one_works() {
    let home = Home::new(Kind::KeyedFile);
    let (bad, tried) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (is_bad, count_tries) = (Arc::clone(&bad), Arc::clone(&tried));
    let db = home
        .builder()
        .max_retries(1)
        .on_connect(move |connection| {
            let bad = is_bad.load(SeqCst);
            count_tries.fetch_add(1, SeqCst);
            Box::pin(connection.interact(move |_| {
                assert!(!bad, "a secret word");
                Ok(())
            }))
        })
        .build();
    let error = db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n)", ()).await.unwrap_err();
    assert_eq!((error.reason(), error.phase()), (Reason::Panicked, Some(Phase::Connect)), "{error}");
    assert!(!error.to_string().contains("secret word"), "{error}");
    assert_eq!(tried.load(SeqCst), 1, "a panic is not tried again");
    bad.store(false, SeqCst);
    with_table(&db).await;
    assert_whole(&db, "after a hook that panicked").await;
}

#[tokio::test]
async fn a_hook_that_hangs_costs_its_caller_the_timeout_and_nothing_more() {
    let home = Home::new(Kind::KeyedFile);
    let hang = Arc::new(AtomicBool::new(true));
    let hangs = Arc::clone(&hang);
    let db = home
        .builder()
        .pool_timeout(secs(1))
        .on_connect(move |_| {
            let hangs = hangs.load(SeqCst);
            Box::pin(async move { if hangs { std::future::pending().await } else { Ok(()) } })
        })
        .build();
    let begin = Instant::now();
    let error = db.fetch_all("SELECT 1", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Timeout, Some(Phase::Connect)), "{error}");
    assert!(error.to_string().contains("hook"), "it names who hangs: {error}");
    assert!(begin.elapsed() < secs(3), "{:?}", begin.elapsed());
    let error = db.with_timeout(millis(50)).fetch_all("SELECT 1", ()).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Timeout, Reason::NotStarted), "{error}");
    hang.store(false, SeqCst);
    with_table(&db).await;
    assert_whole(&db, "after a hook that hung").await;
}

/// Panics, hangs or asks.
struct Moody(Arc<AtomicUsize>);

#[async_trait]
impl strongroom::HealthCheck<SqlCipherConnection> for Moody {
    async fn check(&self, connection: &mut SqlCipherConnection, _: std::time::Duration) -> Result<()> {
        match self.0.load(SeqCst) {
            1 => panic!("a secret word"),
            2 => std::future::pending().await,
            _ => connection.ping().await,
        }
    }
}

#[tokio::test]
async fn a_health_check_that_panics_or_hangs_costs_the_connection_it_looked_at() {
    let home = Home::new(Kind::KeyedFile);
    let mood = Arc::new(AtomicUsize::new(0));
    let db = home.builder().pool_timeout(secs(2)).health(Moody(Arc::clone(&mood))).open().await.unwrap();
    with_table(&db).await;
    for bad in [1, 2] {
        mood.store(bad, SeqCst);
        let errors = db.stats().total_errors;
        timeout(secs(4), db.execute(PUT, ())).await.expect("not for ever").expect("on a new connection");
        assert!(db.stats().total_errors > errors);
        mood.store(0, SeqCst);
    }
    assert_eq!(count(&db).await, 2);
    assert_whole(&db, "after a moody health check").await;
}

#[tokio::test]
async fn begin_as_text_is_refused_and_the_way_to_a_transaction_named() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.builder().health(Ping).open().await.unwrap();
    with_table(&db).await;
    for sql in ["BEGIN", "begin immediate", "/* x */ COMMIT", "ROLLBACK", "SAVEPOINT a", "END"] {
        let error = db.execute(sql, ()).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Unsupported, Reason::Control), "{sql}: {error}");
        assert!(error.to_string().contains("transaction()"), "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_while_a_hundred_tasks_work_loses_nothing_that_was_acknowledged() {
    for kind in Kind::FILES {
        let home = Home::new(kind);
        let db = home.open().await;
        with_table(&db).await;
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..100_usize)
            .map(|task| {
                let (db, acknowledged) = (db.clone(), Arc::clone(&acknowledged));
                tokio::spawn(async move {
                    loop {
                        let put = async |db: &AsyncDatabase| match task % 4 {
                            0 => db.transaction(async |tx| tx.execute(PUT, ()).await).await.map(drop),
                            1 => db.execute_many(PUT, [()]).await.map(drop),
                            2 => db.with_timeout(secs(20)).execute(PUT, ()).await.map(drop),
                            _ => db.execute(PUT, ()).await.map(drop),
                        };
                        match put(&db).await {
                            Ok(()) => acknowledged.fetch_add(1, SeqCst),
                            Err(error) => return error,
                        };
                        if let Err(error) = db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await {
                            return error;
                        }
                    }
                })
            })
            .collect();
        common::eventually("all work", || acknowledged.load(SeqCst) >= 200).await;
        let report = timeout(secs(20), db.close()).await.expect("within the deadline").unwrap();
        assert!(report.is_clean(), "{kind:?}: {report:?}");
        for task in tasks {
            let error = task.await.unwrap();
            assert_eq!(error.kind(), ErrorKind::Closed, "{kind:?}: {error}");
        }
        assert_eq!(open_files(&home.path()), 0, "{kind:?}");
        let again = home.open().await;
        let found = usize::try_from(count(&again).await).unwrap();
        assert_eq!(found, acknowledged.load(SeqCst), "{kind:?}");
    }
}
