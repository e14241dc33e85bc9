//! The mocks, the scripted connector and the faults.
#![cfg(feature = "testing")]

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use strongroom::engine::{Access, Canceller, Changes, Dialect, Resource, ResourceState, Statement, TransactionMode};
use strongroom::pool::Attempt;
use strongroom::testing::{
    Call, Fault, FaultyConnector, MockConnection, MockConnector, MockHealthCheck, MockKeySource, MockRetryPolicy,
    Point, ScriptedConnector,
};
use strongroom::{
    Capabilities, Connection, Connector, Error, ErrorKind, HealthCheck, KeySource, Reason, Result, RetryPolicy, Rows,
    Value,
};

fn statement(sql: &str) -> Statement {
    Statement::new(sql, ()).unwrap()
}

fn script() -> ScriptedConnector {
    ScriptedConnector::new()
        .rows("SELECT id FROM t", ["id"], (1..=5).map(|id| [id]))
        .changes("DELETE FROM t WHERE id = $1", 1)
        .fails("DROP TABLE t", ErrorKind::Unsupported)
        .table("t")
}

async fn open<C: Connector>(connector: &C) -> C::Connection {
    connector.connect(Access::Write).await.unwrap()
}

#[tokio::test]
async fn a_script_answers_logs_and_refuses_what_is_unforeseen() {
    let script = script();
    let mut connection = open(&script).await;
    let rows = connection.run(statement("SELECT id\n  FROM t")).await.unwrap();
    assert_eq!(rows.len(), 5);
    let delete = Statement::new("DELETE FROM t WHERE id = $1", (7,)).unwrap();
    assert_eq!(connection.run(delete).await.unwrap().changes().rows_affected, 1);
    assert_eq!(connection.run(statement("DROP TABLE t")).await.unwrap_err().kind(), ErrorKind::Unsupported);
    let unforeseen = connection.run(statement("SELECT 2")).await.unwrap_err();
    assert!(unforeseen.to_string().contains("no answer for: SELECT 2"), "{unforeseen}");
    let wrong_count = connection.run(statement("DELETE FROM t WHERE id = $1")).await.unwrap_err();
    assert_eq!(wrong_count.reason(), Reason::Parameters);
    assert!(connection.table_exists("t").await.unwrap() && !connection.table_exists("u").await.unwrap());
    connection.close().await.unwrap();
    let calls = script.calls();
    assert_eq!((&calls[0], calls.last().unwrap()), (&Call::Connect(Access::Write), &Call::Close));
    assert_eq!(script.statements()[1], ("DELETE FROM t WHERE id = $1".into(), vec![Value::Integer(7)]));
}

#[tokio::test]
async fn several_answers_come_in_order_and_the_last_one_stays() {
    let script = ScriptedConnector::new()
        .on("SELECT 1", |_| Err(Error::new(ErrorKind::Busy, "locked").transient()))
        .rows("SELECT 1", ["a"], [[1]]);
    let mut connection = open(&script).await;
    let mut fates = Vec::new();
    for _ in 0..3 {
        fates.push(connection.run(statement("SELECT 1")).await.is_ok());
    }
    assert_eq!(fates, [false, true, true]);
}

#[tokio::test]
async fn a_script_streams_in_chunks_and_tracks_transactions() {
    let script = script();
    let mut connection = open(&script).await;
    connection.run_stream(statement("SELECT id FROM t"), 2).await.unwrap();
    let mut sizes = Vec::new();
    while let Some(rows) = connection.next_chunk().await.unwrap() {
        sizes.push(rows.len());
    }
    assert_eq!(sizes, [2, 2, 1]);
    connection.begin(TransactionMode::WRITE).await.unwrap();
    assert_eq!(connection.state(), ResourceState::InTransaction);
    connection.reset().await.unwrap();
    assert_eq!(connection.state(), ResourceState::Idle);
    assert_eq!(script.calls()[2..], [Call::Begin(TransactionMode::WRITE), Call::Rollback]);
}

/// Calls everything there is once, in the order of the points.
async fn everything(connector: &FaultyConnector<ScriptedConnector>) -> Vec<Result<()>> {
    let delete = || Statement::new("DELETE FROM t WHERE id = $1", (7,)).unwrap();
    let mut connection = match connector.connect(Access::Write).await {
        Ok(connection) => connection,
        Err(error) => return vec![Err(error)],
    };
    let mut results = vec![
        connection.ping().await,
        connection.reset().await,
        connection.classify("SELECT id FROM t").map(drop),
        connection.run(delete()).await.map(drop),
        connection.run_many(delete().sql, [delete().params].into_iter().collect()).await.map(drop),
        connection.run_script("SELECT id FROM t".into()).await,
        connection.run_stream(statement("SELECT id FROM t"), 2).await,
        connection.next_chunk().await.map(drop),
        connection.begin(TransactionMode::WRITE).await,
        connection.savepoint(1).await,
        connection.rollback_to(1).await,
        connection.savepoint(1).await,
        connection.release(1).await,
        connection.commit().await,
        connection.rollback().await,
        connection.table_exists("t").await.map(drop),
    ];
    results.extend(connection.run_group(vec![delete()]).await.into_iter().map(|result| result.map(drop)));
    results.push(connection.close().await);
    results
}

#[tokio::test]
async fn a_countdown_reaches_every_call() {
    let connector = FaultyConnector::new(script());
    assert!(everything(&connector).await.iter().all(Result::is_ok));
    let calls = connector.faults().calls();
    assert_eq!(calls, 19);
    for number in 1..=calls {
        connector.faults().nth(number, Fault::Fail(ErrorKind::Busy));
        let results = everything(&connector).await;
        let failed: Vec<_> = results
            .iter()
            .enumerate()
            .filter_map(|(index, result)| Some((index + 2, result.as_ref().err()?)))
            .collect();
        let [(index, error)] = failed[..] else { panic!("call {number}: {failed:?}") };
        assert!(index as u64 == number || number == 1, "call {number} failed at {index}");
        assert!(error.is_transient() && error.kind() == ErrorKind::Busy);
    }
}

#[tokio::test(start_paused = true)]
async fn faults_hang_dawdle_panic_break_and_lose() {
    let connector = FaultyConnector::new(script());
    let faults = connector.faults();
    let mut connection = open(&connector).await;
    faults.at(Point::Ping, Fault::Hang);
    assert!(tokio::time::timeout(Duration::from_secs(3600), connection.ping()).await.is_err());
    faults.at(Point::Ping, Fault::Slow(Duration::from_secs(5)));
    let start = tokio::time::Instant::now();
    connection.ping().await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    faults.at(Point::Ping, Fault::Panic);
    assert!(AssertUnwindSafe(connection.ping()).catch_unwind().await.is_err());
    faults.at(Point::Commit, Fault::LoseAnswer);
    connection.begin(TransactionMode::WRITE).await.unwrap();
    assert_eq!(connection.commit().await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(connection.state(), ResourceState::Broken);
    let mut connection = open(&connector).await;
    faults.at(Point::Run, Fault::Break);
    let error = connection.run(statement("SELECT id FROM t")).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, Reason::Broken));
    assert_eq!(connection.state(), ResourceState::Broken);
}

#[tokio::test]
async fn a_fault_hits_a_whole_group() {
    let script = script();
    let connector = FaultyConnector::new(script.clone());
    let mut connection = open(&connector).await;
    let group = || vec![statement("SELECT id FROM t"), statement("SELECT id FROM t")];
    connector.faults().at(Point::RunGroup, Fault::Fail(ErrorKind::Busy));
    let failed = connection.run_group(group()).await;
    assert!(failed.iter().all(|result| result.as_ref().is_err_and(Error::is_transient)));
    assert_eq!((failed.len(), script.statements().len()), (2, 0));
    connector.faults().at(Point::RunGroup, Fault::LoseAnswer);
    let lost = connection.run_group(group()).await;
    let is_unknown =
        |result: &Result<Rows>| result.as_ref().is_err_and(|error| error.kind() == ErrorKind::OutcomeUnknown);
    assert!(lost.len() == 2 && lost.iter().all(is_unknown));
    assert_eq!((script.statements().len(), connection.state()), (2, ResourceState::Broken));
}

#[tokio::test]
async fn random_faults_are_the_same_for_the_same_seed_and_end_when_healed() {
    async fn fates(seed: u64) -> Vec<bool> {
        let connector = FaultyConnector::new(script());
        let mut connection = open(&connector).await;
        connector.faults().random(seed, 3, [Fault::Fail(ErrorKind::Busy), Fault::Fail(ErrorKind::Timeout)]);
        let mut fates = Vec::new();
        for _ in 0..100 {
            fates.push(connection.ping().await.is_ok());
        }
        connector.faults().heal();
        assert!(connection.ping().await.is_ok());
        fates
    }
    let (first, again, other) = (fates(1).await, fates(1).await, fates(2).await);
    assert!(first == again && first != other);
    assert!((10..60).contains(&first.iter().filter(|ok| !**ok).count()), "about a third fails");
}

#[tokio::test]
async fn mocks_stand_for_all_contracts() {
    let mut connector = MockConnector::new();
    connector.expect_capabilities().returning(|| Capabilities::new("mock", Dialect::Other));
    connector.expect_connect().returning(|_| {
        let mut connection = MockConnection::new();
        connection.expect_state().return_const(ResourceState::Idle);
        connection.expect_canceller().returning(Canceller::none);
        connection.expect_run().returning(|_| Box::pin(async { Ok(Rows::changed(Changes::default())) }));
        connection.expect_reset().returning(|| Box::pin(async { Ok(()) }));
        connection.expect_run_group().returning(|group| {
            Box::pin(async move { group.iter().map(|_| Ok(Rows::changed(Changes::default()))).collect() })
        });
        connection.expect_close().returning(|| Box::pin(async { Ok(()) }));
        Box::pin(async { Ok(connection) })
    });
    let spawned = tokio::spawn(async move {
        let mut connection = connector.connect(Access::Read).await?;
        // Also those with a body of their own.
        connection.reset().await?;
        let results = connection.run_group(vec![statement("SELECT 1"), statement("SELECT 2")]).await;
        connection.close().await?;
        Ok::<_, Error>(results.len())
    });
    assert_eq!(spawned.await.unwrap().unwrap(), 2);

    let mut policy = MockRetryPolicy::new();
    policy.expect_next_delay().returning(|attempt| attempt.error.is_transient().then_some(Duration::ZERO));
    let error = Error::new(ErrorKind::Busy, "locked");
    assert_eq!(policy.next_delay(Attempt::new(1, Duration::ZERO, &error)), None);

    let mut check = MockHealthCheck::new();
    check.expect_verdict().times(1).returning(|_| Err(Error::new(ErrorKind::Connection, "sick")));
    let check: Box<dyn HealthCheck<MockConnection>> = Box::new(check);
    assert!(check.check(&mut MockConnection::new(), Duration::ZERO).await.is_err());
}

#[tokio::test]
async fn a_mock_does_what_the_contract_provides_until_something_else_is_expected() {
    let mut connection = MockConnection::new();
    connection.expect_commit().times(1).returning(|| Box::pin(async { Ok(()) }));
    assert!(connection.commit_early().await.unwrap().is_none(), "it commits");
    let error = connection.tables_read(&statement("SELECT 1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    connection.expect_tables_read().times(1).returning(|_| Box::pin(async { Ok(vec!["t".into()]) }));
    assert_eq!(connection.tables_read(&statement("SELECT 1")).await.unwrap(), ["t".into()]);
    connection
        .expect_commit_early()
        .times(1)
        .returning(|| Box::pin(async { Err(Error::new(ErrorKind::Busy, "full")) }));
    assert_eq!(connection.commit_early().await.unwrap_err().kind(), ErrorKind::Busy);

    let mut connector = MockConnector::new();
    assert!(connector.usable().is_ok());
    connector.expect_usable().returning(|| Err(Error::new(ErrorKind::Connection, "of a parent")));
    assert!(connector.usable().is_err());

    let mut source = MockKeySource::new();
    assert!(!source.is_fixed());
    source.expect_is_fixed().return_const(true);
    assert!(source.is_fixed());
}

#[test]
fn mocks_have_an_expectation_for_each_method_of_their_contract() {
    const CONNECTION: &str = include_str!("../src/testing/mock/connection.rs");
    // Up to the end of the contract: a brace at the beginning of a line.
    let methods = |text: &str, contract: &str| -> Vec<String> {
        let (_, from) = text.split_once(contract).unwrap();
        let (body, _) = from.split_once("\n}").unwrap();
        let names = body.lines().filter_map(|line| line.strip_prefix("    fn ").or(line.strip_prefix("    async fn ")));
        names.map(|line| line[..line.find(['(', '<']).unwrap()].to_owned()).collect()
    };
    for (contract, name, mock) in [
        (include_str!("../src/connector/connection.rs"), "pub trait Connection", CONNECTION),
        (include_str!("../src/connector/resource.rs"), "pub trait Resource", CONNECTION),
        (
            include_str!("../src/connector/mod.rs"),
            "pub trait Connector",
            include_str!("../src/testing/mock/connector.rs"),
        ),
        (include_str!("../src/key.rs"), "pub trait KeySource", include_str!("../src/testing/mock/keys.rs")),
    ] {
        let methods = methods(contract, name);
        assert!(methods.len() >= 6, "{name}: {methods:?}");
        let (_, expectations) = mock.split_once("The expectations of").unwrap();
        let (expectations, _) = expectations.split_once("\n}").unwrap();
        for method in methods {
            assert!(expectations.contains(&format!("fn {method}(")), "no expectation for {method} of {name}");
        }
    }
}
