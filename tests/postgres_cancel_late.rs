//! A request to stop that is held up on its way stops nothing that runs when it arrives.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;
#[path = "common/proxy.rs"]
mod proxy;

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use common::{Server, server, value};
use futures_util::future::{Either, select};
use proxy::{Harm, Proxy, Side};
use strongroom::postgres::PostgresConnector;
use strongroom::{AsyncDatabase, ErrorKind, Reason};
use tokio::time::sleep;

const PID: &str = "SELECT CAST(pg_backend_pid() AS bigint)";

/// Longer than a request to stop is waited for.
const GIVEN_UP: Duration = Duration::from_millis(5_500);

/// Lets `call`, which sleeps on the server, run until it does, and drops it; what the client sends next is held up.
async fn dropped_and_held_up<T>(server: &Server, proxy: &Proxy, call: impl Future<Output = T>) {
    let mut watcher = server.connect().await;
    let sleeps = async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        while value::<i64>(&mut watcher, sql).await == 0 {
            sleep(Duration::from_millis(20)).await;
        }
        proxy.harm(Side::Client, 0, Harm::Stall);
    };
    assert!(matches!(select(pin!(call), pin!(sleeps)).await, Either::Right(_)), "it is dropped while it runs");
}

async fn open(proxy: &Proxy) -> AsyncDatabase<PostgresConnector> {
    AsyncDatabase::with_connector(proxy.connector()).pool_max(1).open().await.unwrap()
}

#[tokio::test]
async fn a_request_to_stop_that_was_given_up_stops_nobody_elses_statement_when_it_comes_after_all() {
    let Some(server) = server() else { return };
    let proxy = Proxy::before(&server).await;
    let db = open(&proxy).await;
    let session = db.fetch_value::<i64>(PID, ()).await.unwrap().unwrap();
    dropped_and_held_up(&server, &proxy, db.fetch_all("SELECT pg_sleep(3)", ())).await;
    let next = async {
        let mut conn = db.connection().await.unwrap();
        let now = conn.fetch_value::<i64>(PID, ()).await.unwrap().unwrap();
        conn.fetch_all("SELECT pg_sleep(2)", ()).await.expect("nobody wants this one to stop");
        now
    };
    let arrives = async {
        sleep(GIVEN_UP + Duration::from_secs(1)).await;
        assert!(!proxy.heal(), "it was held up");
    };
    let (now, ()) = tokio::join!(next, arrives);
    assert_ne!(now, session, "its session is not lent on");
    assert_eq!(db.stats().total_connections, 1);
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
