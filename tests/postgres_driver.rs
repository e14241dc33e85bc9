//! Who reads the socket, and what callers learn when it breaks.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{run_sql, server, value};
use strongroom::engine::{Access, Resource, ResourceState};
use strongroom::postgres::PostgresConnector;
use strongroom::postgres::{PostgresConnection, TargetSessionAttrs, Tls};
use strongroom::{AsyncDatabase, Connector, ErrorKind, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn breaks(connection: &PostgresConnection) {
    let began = Instant::now();
    while connection.state() != ResourceState::Broken {
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", connection.state());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_is_noticed_while_nobody_calls() {
    let Some(server) = server() else { return };
    let (mut idle, mut other) = (server.connect().await, server.connect().await);
    common::script(&mut other, "CREATE TABLE t (a int)").await;
    let pid: i64 = value(&mut idle, "SELECT cast(pg_backend_pid() AS bigint)").await;
    run_sql(&mut other, "SELECT pg_terminate_backend(cast($1 AS int))", (pid,)).await.unwrap();
    breaks(&idle).await;
    // Nothing is sent, so a write is known not to be done.
    let error = run_sql(&mut idle, "INSERT INTO t VALUES (1)", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason(), error.is_transient()), (ErrorKind::Connection, Reason::Broken, true));
    assert_eq!(error.to_string(), "terminating connection due to administrator command (57P01)");
}

#[tokio::test]
async fn a_connection_that_died_in_the_pool_is_not_lent() {
    let Some(server) = server() else { return };
    let db = AsyncDatabase::with_connector(server.connector()).pool_max(1).open().await.unwrap();
    let mut other = server.connect().await;
    for _ in 0..3 {
        let pid: i64 = db.fetch_value("SELECT cast(pg_backend_pid() AS bigint)", ()).await.unwrap().unwrap();
        run_sql(&mut other, "SELECT pg_terminate_backend(cast($1 AS int), 5000)", (pid,)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(db.fetch_value("SELECT cast(1 AS bigint)", ()).await.unwrap(), Some(1_i64));
}

#[test]
fn a_connection_does_not_outlive_the_runtime_that_opened_it() {
    let Some(server) = server() else { return };
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first = runtime();
    let mut connection = first.block_on(server.connect());
    drop(first);
    assert_eq!(connection.state(), ResourceState::Broken);
    let error = runtime().block_on(connection.ping()).unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, Reason::Broken));
}

/// A server that lets everybody in, answers the first question with `answer`, and hangs up.
async fn answering(answer: Vec<u8>) -> PostgresConnection {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 1024];
        assert!(stream.read(&mut asked).await.unwrap() > 0);
        let ready = [b"R\0\0\0\x08\0\0\0\0".as_slice(), b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x02", b"Z\0\0\0\x05I"].concat();
        stream.write_all(&ready).await.unwrap();
        assert!(stream.read(&mut asked).await.unwrap() > 0);
        stream.write_all(&answer).await.unwrap();
    });
    let connector = PostgresConnector::new("127.0.0.1", port).tls(Tls::off());
    connector.target_session_attrs(TargetSessionAttrs::Any).connect(Access::Write).await.unwrap()
}

fn refusal(severity: &str, state: &str) -> Vec<u8> {
    let fields = format!("S{severity}\0V{severity}\0C{state}\0Mso it is\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
    [b"E".as_slice(), &length, fields.as_bytes()].concat()
}

#[tokio::test]
async fn a_session_ended_for_any_reason_is_broken() {
    let cases = [
        (refusal("FATAL", "XX000"), "the server ended the session: so it is (XX000)", true),
        (refusal("FATAL", "57P01"), "so it is (57P01)", true),
        (Vec::new(), "the connection to the server was closed", true),
        (b"?\0\0\0\x04".to_vec(), "the server and the driver do not understand each other", false),
    ];
    // As a pooler does: an error, and no end of the answer.
    let hung_up = [
        (refusal("ERROR", "08P01"), "so it is (08P01)", true),
        (refusal("ERROR", "XX000"), "the server ended the session: so it is (XX000)", true),
    ];
    for (answer, message, transient) in cases.into_iter().chain(hung_up) {
        let mut connection = answering(answer).await;
        let error = connection.ping().await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, Reason::Broken));
        assert_eq!((error.to_string().as_str(), error.is_transient()), (message, transient));
        assert_eq!(connection.state(), ResourceState::Broken);
    }
    let complaint = [refusal("ERROR", "XX000"), b"Z\0\0\0\x05I".to_vec()].concat();
    let error = answering(complaint).await.ping().await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Query, "so it is (XX000)"));
    let of_another = [refusal("ERROR", "08006"), b"Z\0\0\0\x05I".to_vec()].concat();
    let error = answering(of_another).await.ping().await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Query, "so it is (08006)"));
}
