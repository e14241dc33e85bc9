//! A server that was told to say nothing of warnings.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{Server, run_sql, script, server, server_with, value};
use strongroom::engine::{Access, Resource as _, ResourceState, TransactionMode};
use strongroom::postgres::{PostgresConnection, PostgresConnector};
use strongroom::{Connection as _, Connector as _, Error, ErrorKind};

const SILENT: &str = "SET client_min_messages = error";

/// Sessions that say nothing of warnings, in each way to come to one.
async fn silent(server: &Server) -> Vec<(&'static str, PostgresConnection)> {
    let mut operator = server.connect().await;
    let mut sessions = Vec::new();
    let connector = server.connector().setting("client_min_messages", "error");
    sessions.push(("setting", connector.connect(Access::Write).await.unwrap()));
    script(&mut operator, "ALTER ROLE app SET client_min_messages = error").await;
    sessions.push(("role", server.connect().await));
    let mut reset = server.connect().await;
    script(&mut reset, "RESET ALL").await;
    sessions.push(("reset", reset));
    script(&mut operator, "ALTER ROLE app RESET client_min_messages").await;
    let mut by_script = server.connect().await;
    script(&mut by_script, SILENT).await;
    sessions.push(("script", by_script));
    let mut by_statement = server.connect().await;
    run_sql(&mut by_statement, "SELECT set_config('client_min_messages', 'error', false)", ()).await.unwrap();
    sessions.push(("statement", by_statement));
    let mut by_native = server.connect().await;
    by_native.native().batch_execute(SILENT).await.unwrap();
    sessions.push(("native", by_native));
    sessions
}

#[tokio::test]
async fn a_script_is_left_open_only_if_it_leaves_a_transaction_open() {
    let Some(server) = server() else { return };
    script(&mut server.connect().await, "CREATE TABLE t (a int)").await;
    for (way, mut session) in silent(&server).await {
        session.run_script("INSERT INTO t VALUES (1); SELECT 1".into()).await.expect(way);
        let error = session.run_script("BEGIN; INSERT INTO t VALUES (2)".into()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transaction, "{way}: {error}");
        session.begin(TransactionMode::WRITE).await.expect(way);
        session.native().batch_execute("COMMIT").await.expect(way);
        let error = session.commit().await.unwrap_err();
        assert!(error.to_string().contains("no transaction to commit"), "{way}: {error}");
    }
}

/// Waits for a session to wait for a standby, and has the server give that up for it.
async fn nobody_confirms(beside: &mut PostgresConnection) {
    let began = Instant::now();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    while value::<i64>(beside, waits).await == 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "nobody waits for a standby");
    }
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    value::<i64>(beside, cancel).await;
}

fn unconfirmed(error: &Error, what: &str) {
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{what}: {error}");
    assert!(error.to_string().contains("without waiting for a standby"), "{what}: {error}");
}

#[tokio::test]
async fn what_no_standby_has_confirmed_is_never_called_done() {
    let Some(server) = server_with("synchronous_standby_names = 'nobody'") else { return };
    let local = server.connector().setting("synchronous_commit", "local");
    let mut beside = local.connect(Access::Write).await.unwrap();
    script(&mut beside, "CREATE TABLE t (a int)").await;
    // What alters a role would wait as well.
    script(&mut beside, "ALTER ROLE app SET client_min_messages = error").await;
    let silent: [(&str, PostgresConnector, &str); 3] = [
        ("role", server.connector(), ""),
        ("reset", server.connector(), "RESET ALL"),
        ("setting", server.connector().setting("client_min_messages", "error"), SILENT),
    ];
    for (way, connector, first) in silent {
        let mut session = connector.connect(Access::Write).await.unwrap();
        if !first.is_empty() {
            run_sql(&mut session, first, ()).await.unwrap();
        }
        let single = async { run_sql(&mut session, "INSERT INTO t VALUES (1)", ()).await };
        let (outcome, ()) = tokio::join!(single, nobody_confirms(&mut beside));
        unconfirmed(&outcome.unwrap_err(), way);
        for local in ["", "SET LOCAL client_min_messages = error"] {
            session.begin(TransactionMode::WRITE).await.unwrap();
            if !local.is_empty() {
                run_sql(&mut session, local, ()).await.unwrap();
            }
            run_sql(&mut session, "INSERT INTO t VALUES (2)", ()).await.unwrap();
            let (outcome, ()) = tokio::join!(session.commit(), nobody_confirms(&mut beside));
            unconfirmed(&outcome.unwrap_err(), way);
            // It is over, all the same.
            assert_ne!(session.state(), ResourceState::InTransaction, "{way}");
            session.begin(TransactionMode::WRITE).await.expect("another one");
            session.rollback().await.unwrap();
        }
    }
    assert_eq!(value::<i64>(&mut beside, "SELECT count(*) FROM t").await, 9);
}
