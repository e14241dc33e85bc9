//! Errors that sound as if the session was over, or its server no primary any more, and are about something else.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/cluster.rs"]
mod cluster;
#[path = "common/postgres.rs"]
mod common;

use cluster::Cluster;
use common::{Server, run_sql, script, server, value};
use strongroom::engine::{Access, Resource as _, ResourceState, TransactionMode};
use strongroom::postgres::{PostgresConnector, TargetSessionAttrs};
use strongroom::{AsyncDatabase, Connection as _, Connector as _, ErrorKind, PassphraseKeySource, Reason};

const PID: &str = "SELECT CAST(pg_backend_pid() AS bigint)";

async fn open(server: &Server) -> AsyncDatabase<PostgresConnector> {
    let db = AsyncDatabase::with_connector(server.connector()).pool_max(2).open().await.unwrap();
    db.execute_script("CREATE TABLE IF NOT EXISTS t (a int)").await.unwrap();
    db
}

/// The sessions of a pool of two.
async fn sessions(db: &AsyncDatabase<PostgresConnector>) -> [i64; 2] {
    let (mut one, mut two) = (db.connection().await.unwrap(), db.connection().await.unwrap());
    let pids = (one.fetch_value(PID, ()).await, two.fetch_value(PID, ()).await);
    let mut pids = [pids.0.unwrap().unwrap(), pids.1.unwrap().unwrap()];
    pids.sort_unstable();
    pids
}

/// As `postgres_fdw` and dblink do where their own connection breaks.
fn raise(state: &str) -> String {
    format!("DO $$ BEGIN RAISE EXCEPTION 'could not connect to another server' USING ERRCODE = '{state}'; END $$")
}

#[tokio::test]
async fn a_connection_of_the_server_that_broke_is_none_of_ours() {
    let Some(server) = server() else { return };
    let db = open(&server).await;
    let before = sessions(&db).await;
    for state in ["08001", "08006", "08P01", "57P01"] {
        for script in [false, true] {
            let sql = raise(state);
            let outcome = if script { db.execute_script(&sql).await } else { db.execute(&sql, ()).await.map(drop) };
            let error = outcome.unwrap_err();
            // Nothing is left of it, and the other server may be back soon.
            assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Query, true), "{error}");
            assert!(error.to_string().contains(state) && error.reason() != Reason::Broken, "{error}");
        }
        let error = db.transaction(async |tx| tx.execute(&raise(state), ()).await).await.unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Query, true), "{error}");
        let mut stream = db.connection().await.unwrap();
        let streamed = stream.execute_many(&raise(state), [()]).await.unwrap_err();
        assert_eq!(streamed.kind(), ErrorKind::Query, "{streamed}");
        drop(stream);
        assert_eq!(sessions(&db).await, before, "{state}");
    }
}

#[tokio::test]
async fn who_asks_for_a_transaction_that_only_reads_has_not_lost_the_primary() {
    let Some(server) = server() else { return };
    let db = open(&server).await;
    let before = sessions(&db).await;
    for ask in ["SET TRANSACTION READ ONLY", "SELECT set_config('transaction_read_only', 'on', true)"] {
        let write = db.transaction(async |tx| {
            tx.execute(ask, ()).await?;
            tx.execute("INSERT INTO t VALUES (1)", ()).await
        });
        let error = write.await.unwrap_err();
        let found = (error.kind(), error.reason(), error.is_transient());
        assert_eq!(found, (ErrorKind::Connection, Reason::NotWritable, false), "{ask}: {error}");
        assert_eq!(sessions(&db).await, before, "{ask}");
        db.execute("INSERT INTO t VALUES (1)", ()).await.expect("the next transaction writes");
    }
    let error = db.execute_script("SET TRANSACTION READ ONLY; INSERT INTO t VALUES (1)").await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), (Reason::NotWritable, false), "{error}");
    assert_eq!(sessions(&db).await, before);
    // Who alters a session so loses that one, and nobody else does.
    let mut altered = db.connection().await.unwrap();
    let gone = altered.fetch_value::<i64>(PID, ()).await.unwrap().unwrap();
    altered.execute("SET default_transaction_read_only = on", ()).await.unwrap();
    let error = altered.execute("INSERT INTO t VALUES (1)", ()).await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), (Reason::NotWritable, false), "{error}");
    drop(altered);
    let kept = before.into_iter().find(|pid| *pid != gone).unwrap();
    let after = sessions(&db).await;
    assert!(after.contains(&kept) && !after.contains(&gone), "{before:?} {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_says_of_a_transaction_that_writes_that_it_accepts_none() {
    let Some(cluster) = Cluster::start() else { return };
    let standby = common::connector_at(cluster.port + 1).key(PassphraseKeySource::new("cluster"));
    let standby = standby.target_session_attrs(TargetSessionAttrs::Any);
    for mode in [TransactionMode::WRITE, TransactionMode::WRITE.isolation(strongroom::engine::Isolation::Snapshot)] {
        let mut session = standby.connect(Access::Write).await.unwrap();
        let error = session.begin(mode).await.unwrap_err();
        let found = (error.kind(), error.reason(), error.is_transient());
        assert_eq!(found, (ErrorKind::Connection, Reason::NotWritable, true), "{error}");
        assert_eq!(session.state(), ResourceState::Broken, "another host is asked next");
    }
}

#[tokio::test]
async fn what_the_driver_s_client_begins_and_ends_is_known() {
    let Some(server) = server() else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (a int)").await;
    connection.native().batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!(connection.state(), ResourceState::Unknown, "nobody gets it so");
    let error = connection.begin(TransactionMode::WRITE).await.unwrap_err();
    assert!(error.to_string().contains("open already"), "{error}");
    connection.reset().await.unwrap();
    assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM t").await, 0);

    connection.native().batch_execute("BEGIN").await.unwrap();
    connection.native().batch_execute("nonsense").await.unwrap_err();
    let error = run_sql(&mut connection, "SELECT 1", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Transaction, Reason::Doomed), "{error}");
    connection.rollback().await.unwrap();
    run_sql(&mut connection, "INSERT INTO t VALUES (2)", ()).await.unwrap();

    connection.native().batch_execute("BEGIN").await.unwrap();
    run_sql(&mut connection, "INSERT INTO t VALUES (3)", ()).await.unwrap();
    connection.commit().await.unwrap();
    assert_eq!(value::<i64>(&mut connection, "SELECT count(*) FROM t").await, 2);
}
