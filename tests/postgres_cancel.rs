//! Dropped futures, cancel requests, and streams: what is stopped, and what is not.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use std::future::Future;
use std::time::{Duration, Instant};

use common::{run_sql, script, server, server_with, value};
use strongroom::engine::{Resource, ResourceState, Statement, TransactionMode};
use strongroom::postgres::PostgresConnection;
use strongroom::{Connection, ErrorKind, Reason};
use tokio::time::timeout;

const SLEEP: &str = "SELECT pg_sleep(30)";

/// Polls a call for a while, then drops it.
async fn drop_after<T>(millis: u64, call: impl Future<Output = T>) {
    let outcome = timeout(Duration::from_millis(millis), call).await;
    assert!(outcome.is_err(), "the call has ended before it could be dropped");
}

/// Polls a call once, then drops it: it has just been written to the socket.
async fn drop_at_once<T>(call: impl Future<Output = T>) {
    let mut call = std::pin::pin!(call);
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
    assert!(!polled, "the call has ended before it could be dropped");
}

async fn active(connection: &mut PostgresConnection) -> i64 {
    value(connection, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND state = 'active' AND pid <> pg_backend_pid()").await
}

#[tokio::test]
async fn a_dropped_call_is_stopped_on_the_server_and_the_connection_works_on() {
    let Some(server) = server() else { return };
    let (mut connection, mut other) = (server.connect().await, server.connect().await);
    drop_after(200, run_sql(&mut connection, SLEEP, ())).await;
    assert_eq!(connection.state(), ResourceState::Unknown);

    let began = Instant::now();
    while active(&mut other).await > 0 {
        assert!(began.elapsed() < Duration::from_secs(5), "it still runs");
    }
    assert_eq!(value::<i64>(&mut connection, "SELECT cast(7 AS bigint)").await, 7);
    assert_eq!(connection.state(), ResourceState::Idle);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_call_dropped_before_the_server_has_it_is_stopped_too() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    run_sql(&mut connection, "SELECT pg_sleep(0)", ()).await.unwrap();
    for _ in 0..5 {
        // The first cancel request may come too early.
        drop_at_once(run_sql(&mut connection, SLEEP, ())).await;
        let began = Instant::now();
        connection.reset().await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(connection.state(), ResourceState::Idle);
    }
}

#[tokio::test]
async fn a_request_to_stop_never_hits_a_later_statement() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (a int)").await;
    let canceller = connection.canceller();
    for number in 0..100 {
        let quick = run_sql(&mut connection, "SELECT 1", ());
        let (outcome, ()) = tokio::join!(quick, async { canceller.cancel() });
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::Cancelled);
        }
        // Asked while nothing runs: no effect. What follows runs long enough to be hit by a request that is late.
        canceller.cancel();
        run_sql(&mut connection, "INSERT INTO t SELECT $1 FROM pg_sleep(0.01)", (number,)).await.unwrap();
    }
    assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM t").await, 100);
}

#[tokio::test]
async fn a_canceller_stops_the_call_that_runs() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    let canceller = connection.canceller();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        canceller.cancel();
    };
    let (outcome, ()) = tokio::join!(run_sql(&mut connection, SLEEP, ()), stop);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(connection.state(), ResourceState::Idle);
}

#[tokio::test]
async fn a_call_dropped_inside_a_transaction_leaves_only_the_rollback() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (a int)").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    run_sql(&mut connection, "INSERT INTO t VALUES (1)", ()).await.unwrap();
    drop_after(100, run_sql(&mut connection, SLEEP, ())).await;
    let error = connection.commit().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Transaction, Reason::Doomed));
    assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM t").await, 0);

    connection.begin(TransactionMode::WRITE).await.unwrap();
    connection.savepoint(1).await.unwrap();
    drop_after(100, run_sql(&mut connection, SLEEP, ())).await;
    connection.rollback_to(1).await.unwrap();
    run_sql(&mut connection, "INSERT INTO t VALUES (2)", ()).await.unwrap();
    connection.commit().await.unwrap();
    assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM t").await, 1);
}

#[tokio::test]
async fn a_dropped_begin_leaves_no_transaction() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (a int)").await;
    for _ in 0..20 {
        drop_at_once(connection.begin(TransactionMode::WRITE)).await;
        assert_eq!(connection.state(), ResourceState::Unknown);
        run_sql(&mut connection, "INSERT INTO t VALUES (1)", ()).await.unwrap();
        assert_eq!(connection.state(), ResourceState::Idle);
    }
    let mut other = server.connect().await;
    assert_eq!(value::<i64>(&mut other, "SELECT count(*) FROM t").await, 20);
}

#[tokio::test]
async fn a_dropped_commit_is_waited_for_and_not_cut_short() {
    let Some(server) = server_with("synchronous_standby_names = 'nobody'") else { return };
    let (mut connection, mut other) = (server.connect().await, server.connect().await);
    run_sql(&mut other, "SET synchronous_commit = local", ()).await.unwrap();
    script(&mut other, "CREATE TABLE t (a int)").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    run_sql(&mut connection, "INSERT INTO t VALUES (1)", ()).await.unwrap();
    drop_after(200, connection.commit()).await;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(value::<i64>(&mut other, waits).await, 1, "the commit was cut short");

    let release = async {
        run_sql(&mut other, "ALTER SYSTEM SET synchronous_standby_names = ''", ()).await.unwrap();
        run_sql(&mut other, "SELECT pg_reload_conf()", ()).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(connection.reset(), release);
    outcome.unwrap();
    assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM t").await, 1);
}

#[tokio::test]
async fn a_stream_holds_the_server_back_while_nobody_reads() {
    let Some(server) = server() else { return };
    let (mut connection, mut other) = (server.connect().await, server.connect().await);
    let sql = "SELECT i, repeat('x', 1000) FROM generate_series(1, 1000000) i";
    connection.run_stream(Statement::new(sql, ()).unwrap(), 100).await.unwrap();
    assert_eq!(connection.state(), ResourceState::Unknown);
    let chunk = connection.next_chunk().await.unwrap().unwrap();
    assert_eq!((chunk.len(), chunk.row(99).unwrap().get::<i64>(0).unwrap()), (100, 100));

    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
    let began = Instant::now();
    while value::<i64>(&mut other, waits).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(5), "the server sends on and on");
    }
    let began = Instant::now();
    assert_eq!(value::<i64>(&mut connection, "SELECT cast(1 AS bigint)").await, 1);
    assert!(began.elapsed() < Duration::from_secs(2), "a gigabyte was read and thrown away");
    assert!(connection.next_chunk().await.unwrap().is_none());
}

#[tokio::test]
async fn a_stream_gives_every_row_once_even_when_its_reader_hesitates() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    let sql = "SELECT i, pg_sleep(0.0001) FROM generate_series(1, 2500) i";
    connection.run_stream(Statement::new(sql, ()).unwrap(), 1000).await.unwrap();
    let mut numbers = Vec::new();
    loop {
        // Each chunk takes longer than this, so many of these calls are dropped.
        let Ok(chunk) = timeout(Duration::from_millis(20), connection.next_chunk()).await else { continue };
        let Some(rows) = chunk.unwrap() else { break };
        numbers.extend(rows.iter().map(|row| row.get::<i64>(0).unwrap()));
    }
    assert!(numbers.iter().copied().eq(1..=2500), "{} rows", numbers.len());
    assert_eq!(connection.state(), ResourceState::Idle);
}

#[tokio::test]
async fn a_stream_ended_early_does_no_harm_to_its_transaction() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (a int)").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    run_sql(&mut connection, "INSERT INTO t VALUES (0)", ()).await.unwrap();
    let endless = Statement::new("INSERT INTO t SELECT i FROM generate_series(1, 200000) i RETURNING a", ()).unwrap();
    connection.run_stream(endless, 10).await.unwrap();
    connection.next_chunk().await.unwrap().unwrap();
    assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM t").await, 1, "what was ended early is undone");
    assert_eq!(connection.state(), ResourceState::InTransaction);

    let short = Statement::new("INSERT INTO t VALUES (1), (2) RETURNING a", ()).unwrap();
    connection.run_stream(short, 10).await.unwrap();
    assert_eq!(connection.next_chunk().await.unwrap().unwrap().len(), 2);
    assert!(connection.next_chunk().await.unwrap().is_none());
    connection.commit().await.unwrap();
    assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM t").await, 3);
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream_ends_it() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    let sql = "SELECT 1 / (500 - i) FROM generate_series(1, 1000) i";
    connection.run_stream(Statement::new(sql, ()).unwrap(), 10_000).await.unwrap();
    let error = connection.next_chunk().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query);
    assert!(connection.next_chunk().await.unwrap().is_none());
    assert_eq!(connection.state(), ResourceState::Idle);
}

#[tokio::test]
async fn close_says_goodbye_and_a_lost_server_breaks_the_connection() {
    let Some(mut server) = server() else { return };
    let (first, mut second, mut third) = (server.connect().await, server.connect().await, server.connect().await);
    first.close().await.unwrap();
    let others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'strongroom'";
    let began = Instant::now();
    while value::<i64>(&mut second, others).await > 2 {
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    server.kill();
    let error = second.ping().await.unwrap_err();
    assert_eq!((error.kind(), error.reason(), error.is_transient()), (ErrorKind::Connection, Reason::Broken, true));
    assert_eq!(second.state(), ResourceState::Broken);
    // Nothing was sent, so the outcome is known whatever it was.
    let error = run_sql(&mut third, "INSERT INTO t VALUES (1)", ()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Connection | ErrorKind::OutcomeUnknown));
    let error = run_sql(&mut third, "INSERT INTO t VALUES (1)", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Connection, true));
}
