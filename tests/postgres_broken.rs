//! A connection that is cut at every place where it can be.
#![cfg(all(feature = "postgres", target_os = "linux"))]
#![allow(clippy::large_futures, reason = "a test may have a large stack")]

#[path = "common/postgres.rs"]
mod common;
#[path = "common/proxy.rs"]
mod proxy;

use std::time::Duration;

use common::{run_sql, server, server_with, value};
use futures_util::TryStreamExt;
use proxy::Proxy;
use strongroom::database::TransactionOptions;
use strongroom::engine::Access;
use strongroom::pool::{Attempt, NoRetry};
use strongroom::postgres::PostgresConnector;
use strongroom::{AsyncDatabase, Connection, Connector, Error, ErrorKind, Reason, RetryPolicy, Transaction};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

type Tx = Transaction<PostgresConnector>;

/// Twenty attempts without a pause.
struct AtOnce;

impl RetryPolicy for AtOnce {
    fn next_delay(&self, attempt: Attempt<'_>) -> Option<Duration> {
        (attempt.error.is_transient() && attempt.number < 20).then_some(Duration::ZERO)
    }
}

async fn open(connector: PostgresConnector) -> strongroom::Result<AsyncDatabase<PostgresConnector>> {
    AsyncDatabase::with_connector(connector)
        .pool_max(1)
        .retry(AtOnce)
        .on_connect(|connection| {
            Box::pin(async move {
                run_sql(connection, "SET lock_timeout = '5s'", ()).await?;
                connection.run_script("SET idle_in_transaction_session_timeout = 0; SET work_mem = '8MB'".into()).await
            })
        })
        .open()
        .await
}

fn is_broken(error: &Error) -> bool {
    (error.kind(), error.reason()) == (ErrorKind::Connection, Reason::Broken)
}

#[tokio::test]
async fn a_connection_cut_anywhere_in_its_setup_is_made_again() {
    let Some(server) = server() else { return };
    let proxy = Proxy::before(&server).await;
    for messages in 1.. {
        proxy.cut_after(messages);
        let db = open(proxy.connector()).await.unwrap_or_else(|error| panic!("cut after {messages}: {error}"));
        let spared = proxy.heal();
        assert_eq!(db.fetch_value::<i64>("SELECT cast(7 AS bigint)", ()).await.unwrap(), Some(7));
        if spared {
            assert!(messages > 20, "the walk ended early");
            return;
        }
    }
}

#[tokio::test]
async fn a_setup_that_is_cut_says_so_to_a_policy_that_gives_up() {
    let Some(server) = server() else { return };
    let proxy = Proxy::before(&server).await;
    for messages in 1..25 {
        proxy.cut_after(messages);
        let db = AsyncDatabase::with_connector(proxy.connector()).pool_max(1).retry(NoRetry);
        let Err(error) = db.open().await else { continue };
        assert!(is_broken(&error), "cut after {messages}: {error}");
    }
}

/// Everything that a transaction can do, with `run` in every row of it.
async fn work(tx: &mut Tx, run: i64) -> strongroom::Result<()> {
    tx.execute("INSERT INTO t VALUES ($1, 'a')", (run,)).await?;
    tx.transaction(async |nested| nested.execute("INSERT INTO t VALUES ($1, 'b')", (run,)).await.map(drop)).await?;
    let sets = (0..40).map(|_| (run, "many"));
    tx.execute_many("INSERT INTO t VALUES ($1, $2)", sets).await?;
    tx.execute_many("UPDATE t SET what = what WHERE run = $1", [(run,)]).await?;
    tx.execute_script("SELECT 1; SELECT 2").await?;
    let rows: Vec<_> = tx.fetch_stream("SELECT * FROM t WHERE run = $1", (run,)).try_collect().await?;
    assert_eq!(rows.len(), 42);
    Ok(())
}

#[tokio::test]
async fn a_transaction_cut_anywhere_is_run_again_and_done_once() {
    let Some(server) = server() else { return };
    let mut beside = server.connect().await;
    run_sql(&mut beside, "CREATE TABLE t (run int8, what text)", ()).await.unwrap();
    let proxy = Proxy::before(&server).await;
    let db = open(proxy.connector()).await.unwrap();
    let options = || TransactionOptions::new().retry(AtOnce);
    let mut unknown = 0;
    for messages in 0.. {
        proxy.cut_after(usize::try_from(messages).unwrap());
        let outcome = db.transaction_with(options(), async |tx: &mut Tx| work(tx, messages).await).await;
        let spared = proxy.heal();
        let count: i64 = value(&mut beside, &format!("SELECT count(*) FROM t WHERE run = {messages}")).await;
        match outcome {
            Ok(()) => assert_eq!(count, 42, "cut after {messages}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "cut after {messages}: {error}");
                assert!(count == 42 || count == 0, "{count} rows");
                unknown += 1;
            }
        }
        if spared {
            assert!(messages > 20, "the walk ended early");
            break;
        }
    }
    assert!((1..=3).contains(&unknown), "{unknown} of unknown outcome: only a COMMIT without its answer is");
}

#[tokio::test]
async fn every_call_in_a_transaction_that_was_cut_says_that_the_connection_broke() {
    let Some(server) = server() else { return };
    let proxy = Proxy::before(&server).await;
    let db = open(proxy.connector()).await.unwrap();
    db.execute_script("CREATE TABLE t (run int8, what text)").await.unwrap();
    for _ in 0..20 {
        let mut tx = db.begin().await.unwrap();
        tx.execute("INSERT INTO t VALUES (1, 'a')", ()).await.unwrap();
        proxy.cut_now();
        for _ in 0..2 {
            let error = tx.execute("INSERT INTO t VALUES (1, 'b')", ()).await.unwrap_err();
            assert!(is_broken(&error) && error.is_transient(), "{error}");
        }
        let error = tx.begin().await.unwrap_err();
        assert!(is_broken(&error) && error.is_transient(), "{error}");
        let error = tx.commit().await.unwrap_err();
        assert!(is_broken(&error) && error.is_transient(), "{error}");
    }
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(0));
}

#[tokio::test]
async fn a_commit_that_could_not_be_sent_is_no_riddle() {
    let Some(server) = server() else { return };
    let proxy = Proxy::before(&server).await;
    let db = open(proxy.connector()).await.unwrap();
    db.execute_script("CREATE TABLE t (a int)").await.unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
    proxy.cut_now();
    // Until the client has seen it.
    tx.execute("SELECT 1", ()).await.unwrap_err();
    let error = tx.commit().await.unwrap_err();
    assert!(is_broken(&error), "{error}");
    // A statement that failed before is the better answer: it would fail again.
    let mut tx = db.begin().await.unwrap();
    tx.execute("INSERT INTO nowhere VALUES (1)", ()).await.unwrap_err();
    proxy.cut_now();
    let error = tx.commit().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Transaction, Reason::Doomed), "{error}");
}

#[tokio::test]
async fn a_write_of_its_own_that_was_cut_is_unknown_and_a_read_is_broken() {
    let Some(server) = server() else { return };
    let proxy = Proxy::before(&server).await;
    let db = open(proxy.connector()).await.unwrap();
    db.execute_script("CREATE TABLE t (a int)").await.unwrap();
    for messages in 1..6 {
        db.execute("INSERT INTO t VALUES (1)", ()).await.unwrap();
        proxy.cut_after(messages);
        if let Err(error) = db.execute("INSERT INTO t VALUES (1)", ()).await {
            assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        }
        db.fetch_all("SELECT a FROM t", ()).await.ok();
        proxy.cut_after(messages);
        if let Err(error) = db.fetch_all("SELECT a FROM t", ()).await {
            assert!(is_broken(&error) && error.is_transient(), "{error}");
        }
        proxy.heal();
    }
}

#[tokio::test]
async fn a_session_that_the_server_ended_says_why() {
    let Some(server) = server_with("idle_in_transaction_session_timeout = 100ms") else { return };
    let db = AsyncDatabase::with_connector(server.connector()).pool_max(2).open().await.unwrap();
    let mut tx = db.begin().await.unwrap();
    let session: i64 = tx.fetch_value("SELECT cast(pg_backend_pid() AS bigint)", ()).await.unwrap().unwrap();
    let there = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
    while db.fetch_value::<i64>(there, (session,)).await.unwrap() == Some(1) {}
    let error = tx.execute("SELECT 1", ()).await.unwrap_err();
    assert!(is_broken(&error) && error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_handshake_of_tls_that_is_cut_is_no_missing_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = [0; 8];
            client.read_exact(&mut request).await.unwrap();
            client.write_all(b"S").await.unwrap();
        }
    });
    let error = PostgresConnector::new("127.0.0.1", port).connect(Access::Write).await.unwrap_err();
    assert!(is_broken(&error) && error.is_transient(), "{error}");
}
