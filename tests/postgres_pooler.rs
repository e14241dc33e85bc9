//! Behind a pooler in transaction mode, where every statement may meet another server session.
#![cfg(all(feature = "postgres", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{PASSWORD, run_sql, script, server, skip};
use strongroom::engine::{Access, Statement, TransactionMode};
use strongroom::postgres::PostgresConnector;
use strongroom::postgres::Tls;
use strongroom::{AsyncDatabase, Connection, Connector, ErrorKind, PassphraseKeySource, params};

struct Pooler {
    port: u16,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pgbouncer with two server sessions for any number of clients.
fn pooler(server: &common::Server) -> Option<Pooler> {
    let program = Path::new("/usr/sbin/pgbouncer");
    if !program.exists() {
        skip("pgbouncer is not installed; apt-get install pgbouncer");
        return None;
    }
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fs::write(directory.path().join("users"), format!("\"app\" \"{PASSWORD}\"\n")).unwrap();
    let configuration = format!(
        "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         auth_type = scram-sha-256\nauth_file = {}/users\npool_mode = transaction\ndefault_pool_size = 2\n\
         unix_socket_dir =\nlogfile = {}/log\n",
        server.port,
        directory.path().display(),
        directory.path().display(),
    );
    fs::write(directory.path().join("ini"), configuration).unwrap();
    common::give_to_server(directory.path());
    let mut command = common::command(program);
    let child = command.arg("-q").arg(directory.path().join("ini")).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let pooler = Pooler { port, child: child.unwrap(), _directory: directory };
    let patience = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < patience, "pgbouncer does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(pooler)
}

fn through(pooler: &Pooler) -> PostgresConnector {
    PostgresConnector::new("127.0.0.1", pooler.port)
        .database("postgres")
        .user("app")
        .key(PassphraseKeySource::new(PASSWORD))
        .tls(Tls::off())
        .statement_cache(0)
}

#[tokio::test]
async fn ten_thousand_statements_run_through_two_sessions_without_an_error() {
    let Some(server) = server() else { return };
    let Some(pooler) = pooler(&server) else { return };
    let mut connection = server.connect().await;
    script(&mut connection, "CREATE TABLE t (id bigint, name text)").await;
    let tasks = (0..8_i64).map(|task| {
        let connector = through(&pooler);
        tokio::spawn(async move {
            let mut connection = connector.connect(Access::Write).await.unwrap();
            for number in 0..625 {
                let id = task * 1000 + number;
                run_sql(&mut connection, "INSERT INTO t VALUES ($1, $2)", (id, format!("n{id}"))).await.unwrap();
                let rows = run_sql(&mut connection, "SELECT name FROM t WHERE id = :id", [("id", id)]).await.unwrap();
                assert_eq!(rows.first().unwrap().get::<String>(0).unwrap(), format!("n{id}"));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(common::value::<i64>(&mut connection, "SELECT count(*) FROM t").await, 5000);
}

#[tokio::test]
async fn values_transactions_streams_and_bulk_work_without_preparing() {
    let Some(server) = server() else { return };
    let Some(pooler) = pooler(&server) else { return };
    let mut connection = through(&pooler).connect(Access::Write).await.unwrap();
    script(&mut connection, "CREATE TABLE t (a int2, b bool, c float8, d text, e bytea, f numeric, g timestamptz)")
        .await;
    let insert = "INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6, $7)";
    connection.begin(TransactionMode::WRITE).await.unwrap();
    let values = params![7, true, 0.1, "x", vec![0_u8, 255], "1.50", "2024-01-02T03:04:05Z"].unwrap();
    let sets = std::iter::repeat_n(values.clone(), 40).collect();
    assert_eq!(connection.run_many(insert.into(), sets).await.unwrap().rows_affected, 40);
    connection.commit().await.unwrap();

    connection.run_stream(Statement::new("SELECT * FROM t", ()).unwrap(), 25).await.unwrap();
    let rows = connection.next_chunk().await.unwrap().unwrap();
    assert_eq!((rows.len(), rows.columns().len()), (25, 7));
    let given = values;
    let read: Vec<_> = rows.first().unwrap().iter().map(|(_, value)| value.to_owned()).collect();
    assert_eq!(strongroom::engine::Params::Positional(read), given);
    drop(rows);
    assert_eq!(connection.next_chunk().await.unwrap().unwrap().len(), 15);
    assert!(connection.next_chunk().await.unwrap().is_none());
}

#[tokio::test]
async fn many_rows_go_through_the_pooler_prepared_once_and_leave_nothing_prepared() {
    let Some(server) = server() else { return };
    let Some(pooler) = pooler(&server) else { return };
    let db = AsyncDatabase::with_connector(through(&pooler)).pool_max(4).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a bigint, b text); CREATE TABLE digits (a text)").await.unwrap();
    let (insert, update) = ("INSERT INTO t VALUES ($1, $2)", "UPDATE t SET b = $2 WHERE a = $1");
    for _ in 0..2 {
        let (one, two) = tokio::join!(
            db.execute_many(insert, (0..2_000).map(|id| (id, "x"))),
            db.execute_many(insert, (0..2_000).map(|id| (id, "y"))),
        );
        assert_eq!((one.unwrap().rows_affected, two.unwrap().rows_affected), (2_000, 2_000));
    }
    assert_eq!(db.execute_many(update, (0..200).map(|id| (id, "z"))).await.unwrap().rows_affected, 800);
    // What the server has to find out goes as before.
    db.execute_many("INSERT INTO digits VALUES ($1)", (0..100).map(|id| (id,))).await.unwrap();
    assert_eq!(db.fetch_value::<String>("SELECT max(a) FROM digits", ()).await.unwrap().as_deref(), Some("99"));
    let mut beside = server.connect().await;
    let error = db.execute_many(insert, [(1, "a"), (2, "b\0")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query, "{error}");
    assert_eq!(common::value::<i64>(&mut beside, "SELECT count(*) FROM t").await, 8_000);
    let left = db.fetch_value::<i64>("SELECT count(*) FROM pg_prepared_statements", ()).await.unwrap();
    assert_eq!(left, Some(0), "nothing stays prepared");
}

#[tokio::test]
async fn types_of_the_user_are_looked_up_in_whichever_session_there_is() {
    let Some(server) = server() else { return };
    let Some(pooler) = pooler(&server) else { return };
    let mut beside = server.connect().await;
    script(&mut beside, "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE size AS ENUM ('s', 'm')").await;
    script(&mut beside, "CREATE TABLE t (id bigint, m mood, s size, ms mood[], ss size[])").await;
    script(&mut beside, "INSERT INTO t SELECT -1, 'glad', 'm', '{sad}', '{s}' FROM generate_series(1, 40)").await;
    let tasks = (0..6_i64).map(|task| {
        let connector = through(&pooler);
        tokio::spawn(async move {
            for round in 0..10 {
                let db = AsyncDatabase::with_connector(connector.clone()).pool_max(1).open().await.unwrap();
                let id = task * 100 + round;
                for column in ["m", "s", "ms", "ss"] {
                    let sql = format!("SELECT {column} FROM t WHERE id = $1");
                    let read: Vec<String> = db.fetch_all_as(&sql, (-1,)).await.unwrap();
                    assert_eq!(read.len(), 40);
                    let rows: Vec<_> =
                        futures_util::TryStreamExt::try_collect(db.fetch_stream(&sql, (-1,))).await.unwrap();
                    assert_eq!(rows.len(), 40);
                }
                let sets = std::iter::repeat_n((id, "glad", "m", "{sad}", "{s}"), 40);
                db.execute_many("INSERT INTO t VALUES ($1, $2, $3, $4, $5)", sets).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(common::value::<i64>(&mut beside, "SELECT count(*) FROM t").await, 2440);
}

#[tokio::test]
async fn a_dropped_call_is_stopped_through_the_pooler() {
    let Some(server) = server() else { return };
    let Some(pooler) = pooler(&server) else { return };
    let mut connection = through(&pooler).connect(Access::Write).await.unwrap();
    let call = run_sql(&mut connection, "SELECT pg_sleep(30)", ());
    tokio::time::timeout(Duration::from_millis(300), call).await.unwrap_err();
    let began = Instant::now();
    run_sql(&mut connection, "SELECT 1", ()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_change_feed_is_refused_there_and_says_why() {
    let Some(server) = server() else { return };
    let Some(pooler) = pooler(&server) else { return };
    let db = AsyncDatabase::with_connector(through(&pooler)).open().await.unwrap();
    db.execute_script("CREATE TABLE t (n bigint)").await.unwrap();
    db.install_change_feed(["t"]).await.unwrap();
    for round in 0..3 {
        let error = db.changes().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "round {round}: {error}");
        assert!(error.to_string().contains("pooler in transaction mode"), "{error}");
        let error = db.watch("SELECT n FROM t", ()).next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "round {round}: {error}");
    }
    // By the way around it, what is written through it is told.
    let direct = AsyncDatabase::with_connector(server.connector()).open().await.unwrap();
    let mut changes = direct.changes().await.unwrap();
    db.execute("INSERT INTO t VALUES ($1)", (1,)).await.unwrap();
    let change = tokio::time::timeout(Duration::from_secs(10), changes.next()).await.unwrap().unwrap();
    assert_eq!(change.table("t").unwrap().inserted, 1);
}
