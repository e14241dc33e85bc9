//! What is seen of PostgreSQL: by observers, recorders of statements, spans and the log; never a value or the password.
#![cfg(all(feature = "postgres", feature = "testing", target_os = "linux"))]

#[path = "common/postgres.rs"]
mod common;
#[path = "common/events.rs"]
mod events;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{PASSWORD, Server, server};
use events::{everything, listen, logged, the_one};
use strongroom::database::{CallKind, EngineEvent, Event, Observer};
use strongroom::keys::FileKeySource;
use strongroom::postgres::PostgresConnector;
use strongroom::testing::{StatementRecorder, assert_no_full_scan};
use strongroom::{AsyncDatabase, DatabaseBuilder, ErrorKind};

const VALUE: &str = "zq-a-value-of-alice";

fn on(server: &Server) -> DatabaseBuilder<PostgresConnector> {
    AsyncDatabase::with_connector(server.connector()).pool_max(2)
}

async fn with_users(server: &Server, observer: impl Observer + 'static) -> AsyncDatabase<PostgresConnector> {
    let db = on(server).observer(observer).open().await.unwrap();
    db.execute_script("CREATE TABLE users (id bigint PRIMARY KEY, name text)").await.unwrap();
    db.execute_many("INSERT INTO users VALUES ($1, $2)", (0..2000).map(|n| (n, format!("user {n}")))).await.unwrap();
    db.execute("ANALYZE users", ()).await.unwrap();
    db
}

#[tokio::test]
async fn a_recorder_counts_statements_and_finds_those_that_a_loop_repeats() {
    let Some(server) = server() else { return };
    let recorder = StatementRecorder::new();
    let db = with_users(&server, recorder.clone()).await;
    recorder.take();
    let request = recorder.during(async {
        for id in db.fetch_all_as::<i64>("SELECT id FROM users WHERE id < $1 ORDER BY id", (3,)).await? {
            db.fetch_all("SELECT name FROM users WHERE id = $1", (id,)).await?;
        }
        db.transaction(async |tx| tx.execute("UPDATE users SET name = $1 WHERE id = 1", (VALUE,)).await).await
    });
    let request = request.await;
    request.answer.unwrap();
    let statements = request.statements;
    let rows: Vec<_> = statements.0.iter().map(|one| (one.rows_returned, one.rows_affected)).collect();
    assert_eq!(rows, [(3, 0), (1, 0), (1, 0), (1, 0), (0, 1)], "to begin and to commit are no statements");
    assert!(statements.0.iter().all(|one| one.location.file() == file!() && one.error.is_none()));
    statements.assert_at_most(5);
    let again = catch_unwind(AssertUnwindSafe(|| statements.assert_none_repeated(1))).unwrap_err();
    let again = again.downcast::<String>().unwrap();
    assert!(again.contains("ran 3 times") && again.contains("WHERE id = $1") && !again.contains(VALUE), "{again}");
    db.execute("INSERT INTO users VALUES (1, $1)", (VALUE,)).await.unwrap_err();
    assert_eq!(recorder.take().0[0].error, Some(ErrorKind::Constraint));
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_statement_that_scans_a_whole_table_fails_a_test_that_asserts_it_does_not() {
    let Some(server) = server() else { return };
    let db = with_users(&server, StatementRecorder::new()).await;
    assert_no_full_scan(&db.explain("SELECT name FROM users WHERE id = $1", (7,)).await.unwrap());
    let scan = db.explain("SELECT id FROM users WHERE name = $1", (VALUE,)).await.unwrap();
    let panic = catch_unwind(|| assert_no_full_scan(&scan)).unwrap_err();
    let text = panic.downcast::<String>().unwrap();
    assert!(text.contains("Seq Scan") && text.contains("users"), "{text}");
    db.close().await.unwrap();
}

#[tokio::test]
async fn metrics_count_calls_rows_connections_and_each_password_that_was_asked_for() {
    let Some(server) = server() else { return };
    let db = on(&server).metrics(true).open().await.unwrap();
    db.execute_script("CREATE TABLE t (n bigint UNIQUE)").await.unwrap();
    for n in 0..10 {
        db.execute("INSERT INTO t VALUES ($1)", (n / 2,)).await.ok();
    }
    db.fetch_all("SELECT n FROM t", ()).await.unwrap();
    db.execute_many("INSERT INTO t VALUES ($1)", (100..103).map(|n| (n,))).await.unwrap();
    let both = (db.connection().await.unwrap(), db.connection().await.unwrap());
    drop(both);
    db.close().await.unwrap();
    let metrics = db.metrics().unwrap();
    let inserts = &metrics.calls[&CallKind::Execute];
    assert_eq!((inserts.running.count(), inserts.failed, inserts.rows_affected), (10, 5, 5));
    assert!(inserts.running.sum() > Duration::ZERO);
    assert_eq!(metrics.calls[&CallKind::Fetch].rows_returned, 5);
    assert_eq!(metrics.calls[&CallKind::ExecuteMany].rows_affected, 3);
    let (connections, stats) = (&metrics.connections, db.stats());
    assert_eq!(connections.waiting.count(), stats.total_acquired);
    assert_eq!(connections.used.count(), stats.total_released);
    assert_eq!((connections.opening.count(), connections.closed), (stats.total_opened, stats.total_opened));
    assert_eq!(stats.total_opened, 2);
    assert_eq!(metrics.key_asking.count(), 2, "a password for each session");
    assert_eq!((metrics.snapshots_kept, metrics.log_copying.count()), (0, 0), "of SQLite");
}

#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Observer for Asked {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Engine(event) = event {
            let text = format!("{event:?}");
            assert!(!text.contains(PASSWORD), "the password was told");
            let EngineEvent::KeyAsked { source, error: None, .. } = event else { panic!("{text}") };
            self.0.lock().unwrap().push(source.clone());
        }
    }
}

/// Clones of a connector are pools of their own.
#[tokio::test]
async fn each_pool_is_told_of_the_passwords_that_were_asked_for_its_own_sessions() {
    let Some(server) = server() else { return };
    let (one, other, connector) = (Asked::default(), Asked::default(), server.connector());
    for (asked, sessions) in [(&one, 1), (&other, 2)] {
        let db = AsyncDatabase::with_connector(connector.clone()).pool_max(2).observer(asked.clone());
        let db = db.open().await.unwrap();
        let held: Vec<_> = futures_util::future::join_all((0..sessions).map(|_| db.connection())).await;
        assert!(held.iter().all(Result::is_ok));
        drop(held);
        db.close().await.unwrap();
        assert_eq!(*asked.0.lock().unwrap(), vec!["a secret given by the caller"; sessions]);
    }
    assert_eq!(one.0.lock().unwrap().len(), 1, "and not of those of the other pool");
}

/// One test, as what is logged is logged for the whole process.
#[tokio::test]
async fn the_open_server_and_slow_calls_are_logged_and_no_text_has_a_value_in_it() {
    listen();
    let Some(server) = server() else { return };
    // Other tests of this program log, too: what is of this one names its source.
    let source = tempfile::Builder::new().prefix("of-the-log").tempfile().unwrap();
    std::fs::write(source.path(), PASSWORD).unwrap();
    let connector = server.connector().key(FileKeySource::new(source.path()));
    let db = AsyncDatabase::with_connector(connector).pool_max(2).log_slow_calls(Duration::ZERO).open().await.unwrap();
    let fields = ["database", "encrypted", "key_source", "server_version"];
    let open = the_one("the database is open", "of-the-log", "INFO", &fields);
    assert_eq!((&*open.fields["database"], &*open.fields["encrypted"]), ("postgres", "false"));
    let version = db.fetch_value::<String>("SHOW server_version", ()).await.unwrap().unwrap();
    assert_eq!(open.fields["server_version"], version);
    // Not with each further session.
    drop((db.connection().await.unwrap(), db.connection().await.unwrap()));
    the_one("the database is open", "of-the-log", "INFO", &fields);
    assert_eq!(logged("a key source has answered", "of-the-log").len(), 2);

    db.execute_script(&format!("CREATE TABLE of_slow (name text); INSERT INTO of_slow VALUES ('{VALUE}')"))
        .await
        .unwrap();
    db.execute("INSERT INTO of_slow VALUES ($1)", (VALUE,)).await.unwrap();
    for literal in [
        format!("SELECT name FROM of_slow WHERE name = '{VALUE}'"),
        format!("SELECT name FROM of_slow WHERE name = $q${VALUE}$q$"),
        format!("SELECT name FROM of_slow WHERE name = E'\\x7a{VALUE}'"),
        format!("SELECT name /* {VALUE} */ FROM of_slow -- {VALUE}"),
        format!("SET application_name = '{VALUE}'"),
        format!("SELECT name FROM of_slow WHERE name = '{VALUE}"),
    ] {
        db.fetch_all(&literal, ()).await.ok();
        db.connection().await.unwrap().execute(&literal, ()).await.ok();
    }
    let slow = logged("a slow call", "of_slow");
    assert!(slow.len() >= 10 && slow.iter().all(|event| event.level == "WARN"), "{slow:#?}");
    let insert = slow.iter().find(|event| event.fields["statement"] == "INSERT INTO of_slow VALUES ($1)").unwrap();
    assert_eq!((&*insert.fields["summary"], &*insert.fields["rows_affected"]), ("INSERT of_slow", "1"));
    assert!(insert.fields["location"].starts_with(file!()));
    assert!(slow.iter().any(|event| event.fields["statement"] == "SELECT name FROM of_slow WHERE name = ?"));
    assert!(!insert.fields.contains_key("plan"), "the server's own auto_explain does that");
    db.close().await.unwrap();
    let text = everything();
    assert!(!text.contains(VALUE) && !text.contains(PASSWORD), "a value was logged");
}
