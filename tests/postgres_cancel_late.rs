//! A request to stop that is held up on its way stops nothing that runs when it arrives.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;
#[path = "common/proxy.rs"]
mod proxy;

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use common::{Server, script, server, server_with, value};
use futures_util::future::{Either, select};
use futures_util::poll;
use proxy::{Harm, Proxy, Side};
use strongroom::engine::{Access, Resource as _, TransactionMode};
use strongroom::postgres::PostgresConnector;
use strongroom::{AsyncDatabase, Connection as _, Connector as _, ErrorKind, Reason};
use tokio::time::sleep;

const PID: &str = "SELECT CAST(pg_backend_pid() AS bigint)";

async fn until_one_sleeps(server: &Server) {
    let mut watcher = server.connect().await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while value::<i64>(&mut watcher, sql).await == 0 {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Lets `call`, which sleeps on the server, run until it does, and has it asked to stop; that request is held up.
async fn held_up<T>(
    server: &Server,
    proxy: &Proxy,
    call: &mut (impl Future<Output = T> + Unpin),
    ask_to_stop: impl FnOnce(),
) {
    let sleeps = async {
        until_one_sleeps(server).await;
        proxy.harm(Side::Client, 0, Harm::Stall);
    };
    assert!(matches!(select(call, pin!(sleeps)).await, Either::Right(_)), "it is asked to stop while it runs");
    ask_to_stop();
}

/// Lets `call`, which sleeps on the server, run until it does, and drops it; what the client sends next is held up.
async fn dropped_and_held_up<T>(server: &Server, proxy: &Proxy, call: impl Future<Output = T>) {
    let mut call = Box::pin(call);
    held_up(server, proxy, &mut call, || {}).await;
}

async fn open(proxy: &Proxy) -> AsyncDatabase<PostgresConnector> {
    AsyncDatabase::with_connector(proxy.connector()).pool_max(1).open().await.unwrap()
}

#[tokio::test]
async fn a_request_to_stop_that_was_given_up_stops_nobody_elses_statement_when_it_comes_after_all() {
    let Some(server) = server() else { return };
    let proxy = Proxy::before(&server).await;
    let db = open(&proxy).await;
    let mut asked = db.connection().await.unwrap();
    let session = asked.fetch_value::<i64>(PID, ()).await.unwrap().unwrap();
    let canceller = asked.canceller();
    let mut sleeps = Box::pin(asked.fetch_all("SELECT pg_sleep(2)", ()));
    held_up(&server, &proxy, &mut sleeps, || canceller.cancel()).await;
    sleeps.await.expect("the request to stop it is still on its way");
    // So the session is given back as good as any, well before the request is given up.
    drop(asked);
    let mut next = db.connection().await.unwrap();
    let outcome = next.fetch_value::<i64>(PID, ()).await;
    if outcome.is_err() {
        // Whoever was lent it learns that it is gone before anything is sent, and is lent another one.
        drop(next);
        next = db.connection().await.unwrap();
    }
    let now = next.fetch_value::<i64>(PID, ()).await.unwrap();
    let mut sleeps = Box::pin(next.fetch_all("SELECT pg_sleep(2)", ()));
    let arrives = async {
        until_one_sleeps(&server).await;
        assert!(!proxy.heal(), "it was held up");
    };
    assert!(matches!(select(&mut sleeps, pin!(arrives)).await, Either::Right(_)), "it comes while another sleeps");
    sleeps.await.expect("nobody wants this one to stop");
    assert!(outcome.is_err_and(|error| error.reason() == Reason::Broken && error.is_transient()));
    assert_ne!(now, Some(session), "its session is not lent on");
    assert_eq!(db.stats().total_connections, 1);
}

#[tokio::test]
async fn a_request_to_stop_what_comes_before_a_commit_does_not_cut_the_commit_short() {
    let Some(server) = server_with("synchronous_standby_names = 'nobody'") else { return };
    let mut beside = server.connector().setting("synchronous_commit", "local").connect(Access::Write).await.unwrap();
    script(&mut beside, "CREATE TABLE t (a int)").await;
    let proxy = Proxy::before(&server).await;
    let mut session = proxy.connector().connect(Access::Write).await.unwrap();
    session.begin(TransactionMode::WRITE).await.unwrap();
    // As it was lent, the commit asks first whether the transaction is still good.
    session.native().batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    let canceller = session.canceller();
    let mut commit = pin!(session.commit());
    assert!(poll!(commit.as_mut()).is_pending());
    // The question is the next message, and the request the one behind it.
    proxy.harm(Side::Client, 1, Harm::Delay(Duration::from_millis(500)));
    canceller.cancel();
    let confirmed = async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        sleep(Duration::from_millis(1_000)).await;
        while value::<i64>(&mut beside, waits).await == 0 {
            sleep(Duration::from_millis(20)).await;
        }
        script(&mut beside, "ALTER SYSTEM SET synchronous_standby_names = ''").await;
        value::<bool>(&mut beside, "SELECT pg_reload_conf()").await;
    };
    let (outcome, ()) = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(commit, confirmed) })
        .await
        .expect("it waits for its standby until it is told not to");
    outcome.expect("nobody has cut it short");
}

#[tokio::test]
async fn a_session_that_a_late_request_may_reach_runs_nothing_any_more_for_its_holder_either() {
    let Some(server) = server() else { return };
    let proxy = Proxy::before(&server).await;
    let db = open(&proxy).await;
    let mut conn = db.connection().await.unwrap();
    dropped_and_held_up(&server, &proxy, conn.fetch_all("SELECT pg_sleep(3)", ())).await;
    let error = conn.fetch_all("SELECT pg_sleep(2)", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, Reason::Broken), "{error}");
    assert!(error.is_transient() && error.to_string().contains("a request to stop an earlier call"), "{error}");
    drop(conn);
    proxy.heal();
    db.fetch_all("SELECT 1", ()).await.expect("on another session");
}
