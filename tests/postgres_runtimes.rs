//! One database on several runtimes, of which some end. A connection belongs to the runtime that opened it.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::server;
use futures_util::TryStreamExt;
use strongroom::postgres::PostgresConnector;
use strongroom::{AsyncDatabase, ErrorKind, Result};
use tokio::runtime::{Builder, Runtime};

const INSERT: &str = "INSERT INTO t VALUES ($1)";

fn threads(count: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(count).enable_all().build().unwrap()
}

fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let test = thread::spawn(move || {
        test();
        done.send(()).ok();
    });
    match is_done.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => test.join().unwrap(),
    }
}

async fn database(server: &common::Server) -> AsyncDatabase<PostgresConnector> {
    let db = AsyncDatabase::with_connector(server.connector()).pool_max(4).open().await.unwrap();
    db.execute_script("CREATE TABLE t (n bigint)").await.unwrap();
    db
}

async fn use_it(db: &AsyncDatabase<PostgresConnector>) -> Result<()> {
    db.execute(INSERT, (10,)).await?;
    let mut tx = db.begin().await?;
    tx.execute(INSERT, (11,)).await?;
    tx.commit().await?;
    db.fetch_all("SELECT count(*) FROM t", ()).await?;
    db.fetch_stream("SELECT n FROM t LIMIT 3", ()).try_collect::<Vec<_>>().await.map(drop)
}

#[test]
fn a_database_opened_on_a_runtime_that_has_ended_goes_on_on_the_next() {
    let Some(server) = server() else { return };
    in_time(move || {
        let db = threads(1).block_on(database(&server));
        for _ in 0..5 {
            // Each drops its runtime, and with it the connections that were opened there.
            let runtime = threads(1);
            let calls = (0..4).map(|_| use_it(&db));
            let calls = futures_util::future::join_all(calls);
            assert!(runtime.block_on(calls).iter().all(Result::is_ok));
        }
        let last = threads(1);
        assert_eq!(last.block_on(db.fetch_value::<i64>("SELECT count(*) FROM t", ())).unwrap(), Some(40));
        last.block_on(db.close()).unwrap();
    });
}

#[test]
fn calls_of_a_living_runtime_end_and_say_what_became_of_them_while_others_come_and_go() {
    let Some(server) = server() else { return };
    in_time(move || {
        let living = threads(2);
        let db = living.block_on(database(&server));
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let db = db.clone();
                living.spawn(async move {
                    let mut failed = Vec::new();
                    for _ in 0..60 {
                        failed.extend(use_it(&db).await.err());
                    }
                    failed
                })
            })
            .collect();
        while !calls.iter().all(tokio::task::JoinHandle::is_finished) {
            let short = threads(1);
            for _ in 0..4 {
                let db = db.clone();
                short.spawn(async move { while use_it(&db).await.is_ok() {} });
            }
            thread::sleep(Duration::from_millis(20));
            drop(short);
        }
        for call in calls {
            for error in living.block_on(call).unwrap() {
                println!("{error:?}");
                assert!(matches!(error.kind(), ErrorKind::Connection | ErrorKind::OutcomeUnknown), "{error}");
            }
        }
        living.block_on(use_it(&db)).unwrap();
        living.block_on(db.close()).unwrap();
    });
}
