//! Transactions: what begins and ends them, what fails them, and what a commit may claim.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use std::time::Duration;

use common::{run_sql, script, server, server_with, value};
use strongroom::database::Isolation;
use strongroom::engine::{Access, Phase, Resource, ResourceState, StatementKind, TransactionMode};
use strongroom::{Connection, Connector, ErrorKind, Reason};

const COUNT: &str = "SELECT count(*) FROM t";

#[tokio::test]
async fn the_state_follows_the_transaction() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (a int UNIQUE)").await;
    assert_eq!(connection.state(), ResourceState::Idle);

    connection.begin(TransactionMode::WRITE).await.unwrap();
    assert_eq!(connection.state(), ResourceState::InTransaction);
    run_sql(&mut connection, "INSERT INTO t VALUES ($1)", (1,)).await.unwrap();
    connection.commit().await.unwrap();
    assert_eq!(connection.state(), ResourceState::Idle);

    connection.begin(TransactionMode::WRITE).await.unwrap();
    run_sql(&mut connection, "INSERT INTO t VALUES ($1)", (2,)).await.unwrap();
    connection.rollback().await.unwrap();
    assert_eq!(connection.state(), ResourceState::Idle);
    connection.rollback().await.unwrap();
    assert_eq!(value::<i64>(&mut connection, COUNT).await, 1);
}

#[tokio::test]
async fn a_failed_transaction_never_reports_success_at_commit() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (a int UNIQUE)").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    run_sql(&mut connection, "INSERT INTO t VALUES (1)", ()).await.unwrap();
    let error = run_sql(&mut connection, "INSERT INTO t VALUES (1)", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Constraint, Reason::Unique));
    assert_eq!(connection.state(), ResourceState::Failed);

    let error = run_sql(&mut connection, "SELECT 1", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Transaction, Reason::Doomed));
    let error = connection.commit().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason(), error.phase()),
        (ErrorKind::Transaction, Reason::Doomed, Some(Phase::Commit))
    );
    assert_eq!(connection.state(), ResourceState::Idle);
    assert_eq!(value::<i64>(&mut connection, COUNT).await, 0);
}

#[tokio::test]
async fn a_transaction_that_failed_on_the_driver_s_client_does_not_commit_either() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (a int)").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    run_sql(&mut connection, "INSERT INTO t VALUES (1)", ()).await.unwrap();
    connection.native().batch_execute("SELECT 1/0").await.unwrap_err();
    let error = connection.commit().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Transaction, Reason::Doomed));
    assert_eq!(connection.state(), ResourceState::Altered);

    connection.begin(TransactionMode::WRITE).await.unwrap();
    connection.native().batch_execute("ROLLBACK").await.unwrap();
    let error = connection.commit().await.unwrap_err();
    assert_eq!(error.to_string(), "there is no transaction to commit");
}

#[tokio::test]
async fn savepoints_contain_failures() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (a int UNIQUE)").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    run_sql(&mut connection, "INSERT INTO t VALUES (1)", ()).await.unwrap();
    connection.savepoint(1).await.unwrap();
    run_sql(&mut connection, "INSERT INTO t VALUES (2)", ()).await.unwrap();
    connection.savepoint(2).await.unwrap();
    run_sql(&mut connection, "INSERT INTO t VALUES (2)", ()).await.unwrap_err();
    assert_eq!(connection.savepoint(3).await.unwrap_err().reason(), Reason::Doomed);
    connection.rollback_to(2).await.unwrap();
    assert_eq!(connection.state(), ResourceState::InTransaction);
    run_sql(&mut connection, "INSERT INTO t VALUES (3)", ()).await.unwrap();
    connection.release(1).await.unwrap();
    connection.commit().await.unwrap();
    assert_eq!(
        value::<String>(&mut connection, "SELECT cast(array_agg(a ORDER BY a) AS text) FROM t").await,
        "{1,2,3}"
    );
}

#[tokio::test]
async fn statements_that_begin_or_end_transactions_are_refused() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    for sql in
        ["BEGIN", "commit", " /* x */ ROLLBACK", "START TRANSACTION", "SAVEPOINT a", "END", "PREPARE TRANSACTION 'a'"]
    {
        assert_eq!(connection.classify(sql).unwrap(), StatementKind::Control, "{sql}");
        let error = run_sql(&mut connection, sql, ()).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Control, "{sql}");
    }
    assert_eq!(connection.state(), ResourceState::Idle);
    run_sql(&mut connection, "SET work_mem = '1MB'", ()).await.unwrap();
    assert_eq!(connection.state(), ResourceState::Altered);
    connection.baseline();
    assert_eq!(connection.state(), ResourceState::Idle);
}

#[tokio::test]
async fn scripts_can_neither_end_nor_leave_a_transaction() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (a int); BEGIN; INSERT INTO t VALUES (1); COMMIT").await;

    let error = connection.run_script("BEGIN; INSERT INTO t VALUES (2)".into()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Transaction, Reason::Control));
    assert_eq!((connection.state(), value::<i64>(&mut connection, COUNT).await), (ResourceState::Idle, 1));
    let error = connection.run_script("BEGIN; INSERT INTO t VALUES (2); SELECT 1/0; COMMIT".into()).await.unwrap_err();
    assert_eq!((error.kind(), connection.state()), (ErrorKind::Query, ResourceState::Idle));
    assert_eq!(value::<i64>(&mut connection, COUNT).await, 1);

    // Refused before anything is sent: the transaction goes on, with what it has done.
    connection.begin(TransactionMode::WRITE).await.unwrap();
    script(&mut connection, "INSERT INTO t VALUES (3)").await;
    for ending in [
        "INSERT INTO t VALUES (6); COMMIT",
        "ROLLBACK",
        "COMMIT; BEGIN -- and more",
        "SELECT 1; /* it */ end",
        "BEGIN; INSERT INTO t VALUES (6); COMMIT",
        "SAVEPOINT a; INSERT INTO t VALUES (6); RELEASE a",
    ] {
        let error = connection.run_script(ending.into()).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Unsupported, Reason::Control), "{ending}");
        assert!(error.to_string().contains("leave BEGIN, COMMIT, ROLLBACK and savepoints out of it"), "{error}");
        assert_eq!(connection.state(), ResourceState::InTransaction, "{ending}");
    }
    connection.rollback().await.unwrap();
    assert_eq!(value::<i64>(&mut connection, COUNT).await, 1);

    // Under this setting the server ends the string where its words alone do not.
    script(&mut connection, "SET standard_conforming_strings = off").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    let error = connection.run_script(r"SELECT '\''; COMMIT; --'".into()).await.unwrap_err();
    assert!(error.to_string().starts_with("the script ended the transaction it ran in"), "{error}");
    assert_eq!(connection.commit().await.unwrap_err().reason(), Reason::Doomed);
    script(&mut connection, "SET standard_conforming_strings = on").await;
    connection.baseline();

    connection.begin(TransactionMode::WRITE).await.unwrap();
    script(&mut connection, "INSERT INTO t VALUES (4); INSERT INTO t VALUES (5); -- the end").await;
    connection.commit().await.unwrap();
    assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM t WHERE a > 3").await, 2);
}

#[tokio::test]
async fn isolation_is_what_was_asked_for() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    let cases = [
        (TransactionMode::WRITE, "read committed", "off"),
        (TransactionMode::WRITE.isolation(Isolation::Snapshot), "repeatable read", "off"),
        (TransactionMode::WRITE.isolation(Isolation::Serializable), "serializable", "off"),
        (TransactionMode::READ, "repeatable read", "on"),
        (TransactionMode::READ.isolation(Isolation::Serializable), "serializable", "on"),
    ];
    for (mode, isolation, read_only) in cases {
        connection.begin(mode).await.unwrap();
        assert_eq!(value::<String>(&mut connection, "SHOW transaction_isolation").await, isolation);
        assert_eq!(value::<String>(&mut connection, "SHOW transaction_read_only").await, read_only);
        let error = connection.begin(mode).await.unwrap_err();
        assert_eq!((error.kind(), error.phase()), (ErrorKind::Transaction, Some(Phase::Begin)));
        connection.commit().await.unwrap();
    }
}

#[tokio::test]
async fn collisions_are_serialization_errors_that_may_be_tried_again_also_from_commit() {
    let Some(server) = server() else { return };
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    script(&mut one, "CREATE TABLE t (a int); INSERT INTO t VALUES (0)").await;
    let mode = TransactionMode::WRITE.isolation(Isolation::Serializable);
    for connection in [&mut one, &mut two] {
        connection.begin(mode).await.unwrap();
        let count: i64 = value(connection, COUNT).await;
        run_sql(connection, "INSERT INTO t VALUES ($1)", (count,)).await.unwrap();
    }
    one.commit().await.unwrap();
    let error = two.commit().await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Serialization, true));
    assert_eq!((error.phase(), two.state()), (Some(Phase::Commit), ResourceState::Idle));

    let snapshot = TransactionMode::WRITE.isolation(Isolation::Snapshot);
    for connection in [&mut one, &mut two] {
        connection.begin(snapshot).await.unwrap();
        value::<i64>(connection, COUNT).await;
    }
    run_sql(&mut one, "UPDATE t SET a = 5", ()).await.unwrap();
    one.commit().await.unwrap();
    let error = run_sql(&mut two, "UPDATE t SET a = 6", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Serialization, true));
}

#[tokio::test]
async fn deferred_constraints_fail_the_commit_and_nothing_is_kept() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    for _ in 0..2 {
        run_sql(&mut connection, "INSERT INTO t VALUES (1)", ()).await.unwrap();
    }
    let error = connection.commit().await.unwrap_err();
    assert_eq!((error.reason(), connection.state()), (Reason::Unique, ResourceState::Idle));
    assert_eq!(value::<i64>(&mut connection, COUNT).await, 0);
}

#[tokio::test]
async fn what_only_reads_refuses_writes_for_good() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (a int)").await;
    connection.begin(TransactionMode::READ).await.unwrap();
    let error = run_sql(&mut connection, "INSERT INTO t VALUES (1)", ()).await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), (Reason::NotWritable, false));
    connection.rollback().await.unwrap();
    run_sql(&mut connection, "INSERT INTO t VALUES (1)", ()).await.unwrap();

    let mut reader = server.connector().connect(Access::Read).await.unwrap();
    let error = run_sql(&mut reader, "INSERT INTO t VALUES (1)", ()).await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), (Reason::NotWritable, false));
    assert_eq!(value::<i64>(&mut reader, COUNT).await, 1);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_has_an_unknown_outcome_and_is_not_tried_again() {
    let Some(server) = server_with("synchronous_standby_names = 'nobody'") else { return };
    let mut connection = server.connect().await;
    run_sql(&mut connection, "SET synchronous_commit = local", ()).await.unwrap();
    script(&mut connection, "CREATE TABLE t (a int)").await;
    connection.begin(TransactionMode::WRITE).await.unwrap();
    run_sql(&mut connection, "SET LOCAL synchronous_commit = on", ()).await.unwrap();
    run_sql(&mut connection, "INSERT INTO t VALUES (1)", ()).await.unwrap();
    // The commit waits for a standby that does not exist, until its session is killed.
    let mut other = server.connect().await;
    let kill = async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        while value::<i64>(&mut other, waits).await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        value::<i64>(
            &mut other,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
        )
        .await
    };
    let (outcome, killed) = tokio::join!(connection.commit(), kill);
    let error = outcome.unwrap_err();
    assert_eq!((killed, error.kind(), error.is_transient()), (1, ErrorKind::OutcomeUnknown, false));
    assert_eq!(connection.state(), ResourceState::Broken);
    assert_eq!(value::<i64>(&mut other, COUNT).await, 1, "and indeed it was done");
}

#[tokio::test]
async fn a_commit_that_no_standby_confirmed_is_not_called_a_success() {
    let Some(server) = server_with("synchronous_standby_names = 'nobody'") else { return };
    let mut connection = server.connect().await;
    run_sql(&mut connection, "SET synchronous_commit = local", ()).await.unwrap();
    script(&mut connection, "CREATE TABLE t (a int)").await;
    run_sql(&mut connection, "SET synchronous_commit = on", ()).await.unwrap();
    let canceller = connection.canceller();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        canceller.cancel();
    };
    let (outcome, ()) = tokio::join!(run_sql(&mut connection, "INSERT INTO t VALUES (1)", ()), stop);
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(value::<i64>(&mut connection, COUNT).await, 1);
}
