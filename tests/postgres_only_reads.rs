//! A connection for reading writes by none of its calls.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use common::{run_sql, script, server, value};
use strongroom::engine::{Access, Isolation, Resource as _, ResourceState, TransactionMode};
use strongroom::postgres::Readers;
use strongroom::{AsyncDatabase, Connection as _, Connector as _, Error, ErrorKind, Reason};

fn refused(error: &Error, what: &str) {
    let found = (error.kind(), error.reason(), error.is_transient());
    assert_eq!(found, (ErrorKind::Connection, Reason::NotWritable, false), "{what}: {error}");
}

#[tokio::test]
async fn every_call_of_a_read_connection_refuses_to_write() {
    let Some(server) = server() else { return };
    let connector = server.connector().host("127.0.0.1", server.port).readers(Readers::Any);
    let db = AsyncDatabase::with_connector(connector).pool_max(4).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a bigint)").await.unwrap();
    let mut reader = db.read_connection().await.unwrap();
    let pid = "SELECT CAST(pg_backend_pid() AS bigint)";
    let session = reader.fetch_value::<i64>(pid, ()).await.unwrap();
    let insert = "INSERT INTO t VALUES ($1)";
    refused(&reader.execute(insert, (1,)).await.unwrap_err(), "execute");
    refused(&reader.fetch_all("INSERT INTO t VALUES (1) RETURNING a", ()).await.unwrap_err(), "fetch_all");
    refused(&reader.execute_script("INSERT INTO t VALUES (1)").await.unwrap_err(), "execute_script");
    for count in [1, 1000] {
        refused(&reader.execute_many(insert, (0..count).map(|a| (a,))).await.unwrap_err(), "execute_many");
    }
    let ways_out = [
        "BEGIN READ WRITE; INSERT INTO t VALUES (1); COMMIT",
        "SET TRANSACTION READ /* or */ WRITE; INSERT INTO t VALUES (1)",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; INSERT INTO t VALUES (1)",
        "SET default_transaction_read_only = off; INSERT INTO t VALUES (1)",
        "SET LOCAL \"transaction_read_only\" = off; INSERT INTO t VALUES (1)",
        "SELECT set_config('transaction_read_only', 'off', true); INSERT INTO t VALUES (1)",
    ];
    for script in ways_out {
        refused(&reader.execute_script(script).await.unwrap_err(), script);
    }
    for sql in ["SET default_transaction_read_only = off", "SELECT set_config('transaction_read_only', 'off', false)"] {
        refused(&reader.execute(sql, ()).await.unwrap_err(), sql);
    }
    assert_eq!(reader.fetch_value::<i64>(pid, ()).await.unwrap(), session, "it is as good as before");
    drop(reader);
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(0));
}

#[tokio::test]
async fn a_session_that_only_reads_begins_no_transaction_that_writes() {
    let Some(server) = server() else { return };
    let mut beside = server.connect().await;
    script(&mut beside, "CREATE TABLE t (a bigint)").await;
    let mut reader = server.connector().connect(Access::Read).await.unwrap();
    for isolation in [Isolation::Default, Isolation::Snapshot, Isolation::Serializable] {
        let mode = TransactionMode::WRITE.isolation(isolation);
        refused(&reader.begin(mode).await.unwrap_err(), "begin");
        assert_eq!(reader.state(), ResourceState::Idle);
    }
    reader.begin(TransactionMode::READ).await.unwrap();
    refused(&run_sql(&mut reader, "SET TRANSACTION READ WRITE", ()).await.unwrap_err(), "set transaction");
    reader.rollback().await.unwrap();
    assert_eq!(value::<i64>(&mut beside, "SELECT count(*) FROM t").await, 0);
}
