//! A networked engine written from the contracts alone keeps them, too: they are not made for SQLCipher only.
#![cfg(all(feature = "testing", feature = "sqlite"))]

#[path = "common/toy.rs"]
mod toy;
#[path = "common/toy_server.rs"]
mod toy_server;

use std::time::{Duration, Instant};

use strongroom::engine::{Access, Resource, ResourceState, Statement};
use strongroom::pool::Ping;
use strongroom::testing::{Fault, FaultyConnector, Point, conformance};
use strongroom::{Connection, Connector, ErrorKind, Reason};

#[tokio::test]
async fn the_toy_keeps_the_contract_on_one_thread() {
    let directory = tempfile::tempdir().unwrap();
    let toy = toy_server::start(directory.path());
    conformance::connector(|| toy.clone()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_toy_keeps_the_contract_on_many_threads_behind_a_wrapper() {
    let directory = tempfile::tempdir().unwrap();
    let toy = toy_server::start(directory.path());
    conformance::connector(|| FaultyConnector::new(toy.clone())).await;
}

#[tokio::test]
async fn a_ping_over_the_network_is_a_health_check() {
    let directory = tempfile::tempdir().unwrap();
    let mut connection = toy_server::start(directory.path()).connect(Access::Write).await.unwrap();
    conformance::health_check(&Ping, &mut connection).await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_a_broken_connection() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let hang_up = std::thread::spawn(move || drop(listener.accept()));
    let error = toy::Toy { address }.connect(Access::Write).await.err().expect("nobody answers");
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, Reason::Broken));
    hang_up.join().unwrap();
    let error = toy::Toy { address }.connect(Access::Write).await.err().expect("nobody listens");
    assert!(error.is_transient(), "a server may come back: {error}");
}

/// The dropped call is stopped by a second connection, not waited for.
#[tokio::test]
async fn a_dropped_call_is_stopped_on_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let mut connection = toy_server::start(directory.path()).connect(Access::Write).await.unwrap();
    let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let call = connection.run(Statement::new(endless, ()).unwrap());
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
    assert_eq!(connection.state(), ResourceState::Unknown);
    let start = Instant::now();
    connection.ping().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(connection.state(), ResourceState::Idle);
}

#[tokio::test]
async fn a_lost_commit_is_not_known_and_the_connection_is_broken() {
    let directory = tempfile::tempdir().unwrap();
    let connector = FaultyConnector::new(toy_server::start(directory.path()));
    connector.faults().at(Point::Commit, Fault::LoseAnswer);
    let mut connection = connector.connect(Access::Write).await.unwrap();
    connection.begin(strongroom::engine::TransactionMode::WRITE).await.unwrap();
    connection.run(Statement::new("CREATE TABLE t (a BIGINT)", ()).unwrap()).await.unwrap();
    let error = connection.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(!error.is_transient());
    assert_eq!(connection.state(), ResourceState::Broken);
    let mut other = connector.connect(Access::Write).await.unwrap();
    assert!(other.table_exists("t").await.unwrap(), "the work was done, only its answer was lost");
}
