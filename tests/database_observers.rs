//! What those who observe a database are told, and that it does not matter to the database what they do with it.
#![cfg(all(feature = "sqlcipher", feature = "testing"))]

mod common;
#[path = "common/log.rs"]
mod log;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{ENDLESS, Home, Kind, assert_whole, millis, secs};
use futures_util::{StreamExt as _, TryStreamExt as _, poll};
use log::Log;
use strongroom::database::{
    CallKind, EngineEvent, Event, Histogram, Metrics, MetricsRecorder, Observer, StatementEffort, TransactionMode,
    TransactionOptions,
};
use strongroom::engine::Access;
use strongroom::sqlcipher::Tuning;
use strongroom::testing::{Fault, FaultyConnector, Point, StatementRecorder};
use strongroom::{AsyncDatabase, Error, ErrorKind, Pool, SqlCipherConnector, rusqlite};
use tokio::time::{sleep, timeout};

/// A call that has ended.
#[derive(Clone, Debug, PartialEq)]
struct Ended {
    kind: CallKind,
    summary: String,
    rows: (u64, u64),
    error: Option<ErrorKind>,
    code: Option<String>,
    sets: u64,
    waiting: Duration,
    running: Duration,
    file: &'static str,
}

/// All that was told.
#[derive(Default)]
struct Notes {
    open: BTreeMap<u64, CallKind>,
    ended: Vec<Ended>,
    faults: Vec<String>,
    others: Vec<String>,
}

#[derive(Clone, Default)]
struct Notebook(Arc<Mutex<Notes>>);

impl Observer for Notebook {
    fn observe(&self, event: &Event<'_>) {
        let mut notes = self.0.lock().unwrap();
        match *event {
            Event::CallBegan(call) => {
                if notes.open.insert(call.id, call.kind).is_some() {
                    notes.faults.push(format!("{call:?} began twice"));
                }
            }
            Event::CallEnded(call, outcome) => {
                if notes.open.remove(&call.id) != Some(call.kind) {
                    notes.faults.push(format!("{call:?} ended without having begun"));
                }
                notes.ended.push(Ended {
                    kind: call.kind,
                    summary: call.summary.map(ToString::to_string).unwrap_or_default(),
                    rows: (outcome.rows_returned, outcome.rows_affected),
                    error: outcome.error.map(Error::kind),
                    code: outcome.error.and_then(Error::code).map(str::to_owned),
                    sets: outcome.sets,
                    waiting: outcome.waiting,
                    running: outcome.running,
                    file: call.location.file(),
                });
            }
            Event::ConnectionOpened { .. } => notes.others.push("opened".into()),
            Event::ConnectFailed { attempt, .. } => notes.others.push(format!("failed {attempt}")),
            Event::ConnectionLent { .. } => notes.others.push("lent".into()),
            Event::ConnectionReturned { .. } => notes.others.push("returned".into()),
            Event::ConnectionClosed { .. } => notes.others.push("closed".into()),
            Event::GroupRan { statements, failed, .. } => notes.others.push(format!("group {statements} {failed}")),
            Event::TransactionRepeated { attempt, .. } => notes.others.push(format!("repeated {attempt}")),
            Event::WaitedInVain { .. } => notes.others.push("in vain".into()),
            Event::Engine(EngineEvent::SnapshotKept) => notes.others.push("snapshot kept".into()),
            Event::Engine(EngineEvent::SnapshotEnded { .. }) => notes.others.push("snapshot ended".into()),
            Event::Engine(EngineEvent::LogCopied { .. }) => notes.others.push("log copied".into()),
            Event::Engine(EngineEvent::KeyAsked { .. }) => notes.others.push("key asked".into()),
            _ => notes.faults.push(format!("{event:?} is not known here")),
        }
    }
}

impl Notebook {
    /// Takes the calls that have ended. None may be open, and none may have been told twice.
    fn calls(&self) -> Vec<Ended> {
        let mut notes = self.0.lock().unwrap();
        assert_eq!((&notes.faults, &notes.open), (&Vec::new(), &BTreeMap::new()));
        std::mem::take(&mut notes.ended)
    }

    /// The only one.
    fn call(&self) -> Ended {
        let calls = self.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.into_iter().next().unwrap()
    }

    fn count(&self, what: &str) -> usize {
        self.0.lock().unwrap().others.iter().filter(|other| *other == what).count()
    }
}

async fn observed(home: &Home) -> (AsyncDatabase, Notebook) {
    observed_with(home, Tuning::default()).await
}

/// Writes that wait share a transaction, or do not.
fn grouping(on: bool) -> Tuning {
    Tuning::default().group_commit(on)
}

async fn observed_with(home: &Home, tuning: Tuning) -> (AsyncDatabase, Notebook) {
    let notebook = Notebook::default();
    let db = home.builder().tuning(tuning).observer(notebook.clone()).open().await.unwrap();
    db.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)").await.unwrap();
    notebook.calls();
    (db, notebook)
}

#[tokio::test]
async fn every_kind_of_call_is_told_when_it_begins_and_when_it_ends() {
    for kind in Kind::ALL {
        let home = Home::new(kind);
        let (db, notebook) = observed(&home).await;
        let insert = "INSERT INTO t (n) VALUES ($1)";
        db.execute(insert, (1,)).await.unwrap();
        db.fetch_all("SELECT id, n FROM t", ()).await.unwrap();
        db.execute_script("CREATE TABLE u (a); DROP TABLE u").await.unwrap();
        db.table_exists("t").await.unwrap();
        db.execute_many(insert, [(1,), (2,)]).await.unwrap();
        db.begin().await.unwrap().rollback().await.unwrap();
        assert_eq!(db.fetch_stream("SELECT n FROM t", ()).try_collect::<Vec<_>>().await.unwrap().len(), 3);
        let mut conn = db.connection().await.unwrap();
        conn.execute(insert, (4,)).await.unwrap();
        conn.execute_many(insert, [(5,)]).await.unwrap();
        drop(conn);
        db.sizes().await.unwrap();
        if kind.is_file() {
            db.backup_to(home.directory.path().join("copy.db")).await.unwrap();
        }
        let calls = notebook.calls();
        let told: Vec<_> = calls.iter().map(|call| (call.kind.name(), &*call.summary, call.rows)).collect();
        let mut expected = vec![
            ("execute", "INSERT t", (0, 1)),
            ("fetch", "SELECT t", (1, 0)),
            ("execute_script", "", (0, 0)),
            ("table_exists", "", (0, 0)),
            ("begin", "", (0, 0)),
            ("execute_many", "INSERT t", (0, 2)),
            ("commit", "", (0, 0)),
            ("begin", "", (0, 0)),
            ("rollback", "", (0, 0)),
            ("fetch_stream", "SELECT t", (3, 0)),
            ("connection", "", (0, 0)),
            ("execute", "INSERT t", (0, 1)),
            ("execute_many", "INSERT t", (0, 1)),
            ("maintain", "", (0, 0)),
            ("backup", "", (0, 0)),
        ];
        expected.truncate(told.len().max(14));
        assert_eq!(told, expected, "{kind:?}");
        let sets: Vec<_> = calls.iter().map(|call| call.sets).filter(|sets| *sets > 0).collect();
        assert_eq!(sets, [2, 1]);
        for call in calls {
            assert_eq!((call.error, call.file), (None, file!()), "{call:?}");
        }
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn the_place_of_a_call_is_in_the_program_whatever_was_called() {
    let home = Home::new(Kind::KeyedFile);
    let (db, notebook) = observed(&home).await;
    let count = |c: &mut rusqlite::Connection| c.query_row("SELECT count(*) FROM t", (), |row| row.get::<_, i64>(0));
    db.interact(count).await.unwrap();
    db.read_interact(count).await.unwrap();
    db.try_interact(move |c| -> anyhow::Result<i64> { Ok(count(c)?) }).await.unwrap();
    db.try_read_interact(move |c| -> anyhow::Result<i64> { Ok(count(c)?) }).await.unwrap();
    db.transaction_with(TransactionOptions::default(), async |tx| tx.execute("INSERT INTO t (n) VALUES (1)", ()).await)
        .await
        .unwrap();
    db.explain("SELECT * FROM t", ()).await.unwrap();
    db.check(strongroom::database::CheckDepth::Quick).await.unwrap();
    db.checkpoint().await.unwrap();
    db.vacuum().await.unwrap();
    db.vacuum_free(None, |_| {}).await.unwrap();
    db.optimize().await.unwrap();
    db.table_sizes().await.unwrap();
    let mut watched = db.watch("SELECT * FROM t", ());
    watched.next().await.unwrap().unwrap();
    drop(watched);
    let mut changes = db.changes().await.unwrap();
    db.execute("INSERT INTO t (n) VALUES (2)", ()).await.unwrap();
    changes.next().await.unwrap();
    drop(changes);
    let calls = notebook.calls();
    assert!(calls.len() > 12, "{calls:?}");
    let elsewhere: Vec<_> = calls.iter().filter(|call| call.file != file!()).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:#?}");
}

#[tokio::test]
async fn rows_that_are_decoded_while_the_statement_runs_are_counted_too() {
    let home = Home::new(Kind::KeyedFile);
    let (db, notebook) = observed(&home).await;
    db.execute_many("INSERT INTO t (n) VALUES ($1)", (0..100).map(|n| (n,))).await.unwrap();
    notebook.calls();
    let sql = "SELECT n FROM t ORDER BY n";
    db.fetch_all_as::<i64>(sql, ()).await.unwrap();
    db.fetch_one_as::<i64>(sql, ()).await.unwrap();
    db.fetch_value::<i64>("SELECT n FROM t WHERE n = 4711", ()).await.unwrap();
    db.transaction(async |tx| tx.fetch_all_as::<i64>(sql, ()).await).await.unwrap();
    db.fetch_all("INSERT INTO t (n) VALUES (1), (2) RETURNING id", ()).await.unwrap();
    let rows: Vec<_> = notebook.calls().iter().map(|call| (call.kind.name(), call.rows)).collect();
    let expected = [
        ("fetch", (100, 0)),
        ("fetch", (1, 0)),
        ("fetch", (0, 0)),
        ("begin", (0, 0)),
        ("fetch", (100, 0)),
        ("commit", (0, 0)),
        ("fetch", (2, 2)),
    ];
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn a_call_that_fails_or_is_dropped_says_so_once() {
    let home = Home::new(Kind::KeyedFile);
    let (db, notebook) = observed(&home).await;
    db.execute("INSERT INTO t VALUES (1, 1)", ()).await.unwrap();
    notebook.calls();
    db.execute("INSERT INTO t VALUES (1, 1)", ()).await.unwrap_err();
    let failed = notebook.call();
    assert_eq!((failed.error, &*failed.summary), (Some(ErrorKind::Constraint), "INSERT t"));
    assert_eq!(failed.code.as_deref(), Some("1555"), "SQLITE_CONSTRAINT_PRIMARYKEY");
    db.execute_many("INSERT INTO t VALUES ($1, 1)", [(7,), (1,)]).await.unwrap_err();
    let failed = notebook.calls().into_iter().find(|call| call.kind == CallKind::ExecuteMany).unwrap();
    assert_eq!((failed.error, &*failed.summary, failed.sets), (Some(ErrorKind::Constraint), "INSERT t", 2));
    db.fetch_all("SELEC 1", ()).await.unwrap_err();
    assert_eq!(notebook.call().error, Some(ErrorKind::Query));

    // While it runs.
    timeout(millis(30), db.fetch_all(ENDLESS, ())).await.unwrap_err();
    assert_eq!(notebook.call().error, Some(ErrorKind::Cancelled));
    // While it waits for the writer.
    let writer = db.connection().await.unwrap();
    notebook.calls();
    let mut waiting = Box::pin(db.execute("INSERT INTO t VALUES (2, 2)", ()));
    assert!(poll!(&mut waiting).is_pending());
    drop(waiting);
    assert_eq!(notebook.call().error, Some(ErrorKind::Cancelled));
    // At its deadline, while it waits.
    db.with_timeout(millis(20)).execute("INSERT INTO t VALUES (2, 2)", ()).await.unwrap_err();
    assert_eq!(notebook.call().error, Some(ErrorKind::Timeout));
    drop(writer);
    // Nobody has polled it.
    drop(db.execute("INSERT INTO t VALUES (2, 2)", ()));
    assert_eq!(notebook.calls(), []);
    // Whoever has read enough of a stream drops it.
    let mut rows = db.fetch_stream("SELECT * FROM t", ());
    rows.next().await.unwrap().unwrap();
    drop(rows);
    let stream = notebook.call();
    assert_eq!((stream.kind, stream.error, stream.rows.0), (CallKind::FetchStream, None, 1));
    assert_eq!(stream.summary, "SELECT t");
    drop(db.fetch_stream("SELECT * FROM t", ()));
    assert_eq!(notebook.calls(), []);
    assert_whole(&db, "after calls that were dropped").await;
}

#[tokio::test]
async fn waiting_for_the_writer_is_told_apart_from_running() {
    for kind in [Kind::KeyedFile, Kind::PlainMemory] {
        let home = Home::new(kind);
        let (db, notebook) = observed(&home).await;
        let writer = db.connection().await.unwrap();
        notebook.calls();
        let write = tokio::spawn({
            let db = db.clone();
            async move { db.execute("INSERT INTO t (n) VALUES (1)", ()).await }
        });
        let transaction = tokio::spawn({
            let db = db.clone();
            async move { db.transaction(async |tx| tx.execute("UPDATE t SET n = 2", ()).await).await }
        });
        sleep(millis(40)).await;
        drop(writer);
        write.await.unwrap().unwrap();
        transaction.await.unwrap().unwrap();
        let calls = notebook.calls();
        let of = |kind: CallKind, summary: &str| {
            calls
                .iter()
                .find(|call| call.kind == kind && call.summary == summary)
                .unwrap_or_else(|| panic!("{calls:?}"))
        };
        // The tasks began some time after the writer was taken, so no more than a part of the pause is certain.
        assert!(of(CallKind::Execute, "INSERT t").waiting > Duration::ZERO);
        assert!(of(CallKind::Begin, "").waiting > Duration::ZERO);
        assert_eq!(of(CallKind::Execute, "UPDATE t").waiting, Duration::ZERO, "the transaction had the writer");
        assert_eq!(of(CallKind::Commit, "").waiting, Duration::ZERO);
    }
}

/// Of a call that the lane ran for its caller: neither is all of it waiting, nor is none of it.
#[tokio::test]
async fn what_waited_in_the_lane_is_told_for_how_long_it_waited_there_and_for_how_long_it_ran() {
    for (kind, writes) in [(Kind::PlainFile, 1), (Kind::PlainFile, 4), (Kind::KeyedFile, 4), (Kind::PlainMemory, 4)] {
        let home = Home::new(kind);
        let (db, notebook) = observed(&home).await;
        let writer = db.connection().await.unwrap();
        notebook.calls();
        let begin = Instant::now();
        let writes = (0..writes).map(|id| db.execute("INSERT INTO t VALUES ($1, 0)", (id,)));
        let mut writes = Box::pin(futures_util::future::join_all(writes));
        assert!(poll!(&mut writes).is_pending());
        let queued = Instant::now();
        sleep(millis(20)).await;
        let held = queued.elapsed();
        drop(writer);
        assert!(writes.await.iter().all(Result::is_ok));
        let all = begin.elapsed();
        for call in notebook.calls() {
            assert!(call.waiting >= held, "the writer was held for {held:?}: {call:?}");
            assert!(call.running > Duration::ZERO, "it ran: {call:?}");
            assert!(call.waiting + call.running <= all, "all took {all:?}: {call:?}");
        }
    }
}

/// It has had a reader before, which said that it writes: its call neither began to run nor ended there.
#[tokio::test]
async fn a_fetch_that_writes_is_told_for_how_long_it_waited_for_the_writer() {
    for grouped in [true, false] {
        let home = Home::new(Kind::PlainFile);
        let (db, notebook) = observed_with(&home, grouping(grouped)).await;
        // The reader knows the statement then, and says so at once.
        let sql = "INSERT INTO t (n) VALUES ($1) RETURNING id";
        db.fetch_value::<i64>(sql, (1,)).await.unwrap();
        let writer = db.connection().await.unwrap();
        notebook.calls();
        let mut fetch = Box::pin(db.fetch_value::<i64>(sql, (2,)));
        assert!(poll!(&mut fetch).is_pending());
        let queued = Instant::now();
        sleep(millis(20)).await;
        let held = queued.elapsed();
        drop(writer);
        assert_eq!(fetch.await.unwrap(), Some(2));
        let call = notebook.call();
        assert!(call.waiting >= held && call.running > Duration::ZERO, "the writer was held for {held:?}: {call:?}");
        assert_eq!((call.summary.as_str(), call.rows), ("INSERT t", (1, 1)));
    }
}

#[tokio::test]
async fn a_stream_that_writes_is_told_for_how_long_it_waited_for_the_writer() {
    let home = Home::new(Kind::PlainFile);
    let (db, notebook) = observed(&home).await;
    let sql = "INSERT INTO t (n) VALUES ($1) RETURNING id";
    assert_eq!(db.fetch_stream(sql, (1,)).count().await, 1);
    let writer = db.connection().await.unwrap();
    notebook.calls();
    let mut stream = db.fetch_stream(sql, (2,));
    assert!(poll!(stream.next()).is_pending());
    let queued = Instant::now();
    sleep(millis(20)).await;
    let held = queued.elapsed();
    drop(writer);
    assert!(stream.next().await.unwrap().is_ok());
    assert!(stream.next().await.is_none());
    let call = notebook.call();
    assert!(call.waiting >= held, "the writer was held for {held:?}: {call:?}");
}

/// The end of a loan tells when its call ended, and not when another one did.
#[tokio::test]
async fn a_connection_that_came_back_before_a_call_has_no_part_in_its_times() {
    let home = Home::new(Kind::PlainFile);
    let (db, notebook) = observed(&home).await;
    let mut tx = db.begin().await.unwrap();
    drop(db.read_connection().await.unwrap());
    notebook.calls();
    let before = Instant::now();
    tx.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
    let took = before.elapsed();
    let call = notebook.call();
    assert!(call.running > Duration::ZERO && call.running <= took, "the call took {took:?}: {call:?}");
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn an_answer_that_the_callers_type_does_not_take_is_no_failure_of_the_call() {
    let home = Home::new(Kind::PlainFile);
    let (db, notebook) = observed(&home).await;
    let read = db.fetch_value::<i64>("SELECT 'text'", ()).await;
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Query);
    let mut tx = db.begin().await.unwrap();
    notebook.calls();
    assert!(tx.fetch_all_as::<i64>("SELECT 'text'", ()).await.is_err());
    let call = notebook.call();
    assert_eq!((call.kind, call.error), (CallKind::Fetch, None));
    tx.commit().await.unwrap();
    assert!(db.fetch_value::<i64>("SELEC 1", ()).await.is_err());
    let errors: Vec<_> = notebook.calls().into_iter().map(|call| (call.kind, call.error)).collect();
    assert_eq!(errors, [(CallKind::Commit, None), (CallKind::Fetch, Some(ErrorKind::Query))]);
}

#[tokio::test]
async fn statements_that_share_a_commit_are_told_one_by_one_and_as_a_group() {
    let home = Home::new(Kind::KeyedFile);
    let (db, notebook) = observed_with(&home, grouping(true)).await;
    let writer = db.connection().await.unwrap();
    notebook.calls();
    let writes = (0..8).map(|id| db.execute("INSERT INTO t VALUES ($1, 0)", (id % 7,)));
    let mut writes = Box::pin(futures_util::future::join_all(writes));
    assert!(poll!(&mut writes).is_pending());
    drop(writer);
    let answers = writes.await;
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1);
    let calls = notebook.calls();
    assert_eq!(calls.len(), 8);
    assert!(calls.iter().all(|call| call.summary == "INSERT t" && call.waiting > Duration::ZERO), "{calls:?}");
    assert_eq!(calls.iter().map(|call| call.rows.1).sum::<u64>(), 7);
    assert_eq!(notebook.count("group 8 1"), 1);
}

#[tokio::test]
async fn connections_are_told_from_their_opening_to_their_close() {
    let home = Home::new(Kind::KeyedFile);
    let (db, notebook) = observed(&home).await;
    for _ in 0..3 {
        db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap();
        db.execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
    }
    // A session that was altered is closed.
    db.connection().await.unwrap().execute("PRAGMA foreign_keys = OFF", ()).await.unwrap();
    db.begin().await.unwrap().execute("INSERT INTO t (n) VALUES (1)", ()).await.unwrap();
    db.close().await.unwrap();
    let stats = db.stats();
    assert_eq!(notebook.count("lent") as u64, stats.total_acquired);
    assert_eq!(notebook.count("returned") as u64, stats.total_released);
    assert_eq!(notebook.count("opened") as u64, stats.total_opened);
    assert_eq!(notebook.count("closed"), notebook.count("opened"));
    assert!(stats.total_opened > 2, "{stats:?}");
    assert_eq!(notebook.count("key asked"), 1, "the engine keeps what it made of it");
    assert_eq!(notebook.count("snapshot kept"), notebook.count("snapshot ended"));
    assert!(notebook.count("log copied") > 0);
}

#[tokio::test]
async fn a_pool_by_itself_is_observed_and_so_are_its_failures() {
    let notebook = Notebook::default();
    let directory = tempfile::tempdir().unwrap();
    let connector = SqlCipherConnector::new(directory.path().join("missing/app.db"));
    let pool = Pool::builder(connector).observer(notebook.clone()).build();
    pool.get_for(Access::Write).await.unwrap_err();
    assert_eq!((notebook.count("failed 1"), notebook.count("lent")), (1, 0));

    let pool = Pool::builder(SqlCipherConnector::new(":memory:")).observer(notebook.clone()).build();
    drop(pool.get().await.unwrap());
    pool.close(secs(5)).await;
    let seen = ["opened", "lent", "returned", "closed"].map(|what| notebook.count(what));
    assert_eq!(seen, [1; 4]);
}

#[tokio::test]
async fn attempts_to_connect_and_to_run_a_transaction_are_told() {
    let notebook = Notebook::default();
    let connector = FaultyConnector::new(SqlCipherConnector::new(":memory:"));
    let faults = connector.faults();
    faults.at(Point::Connect, Fault::Fail(ErrorKind::Busy));
    faults.at(Point::Connect, Fault::Fail(ErrorKind::Busy));
    let db = AsyncDatabase::with_connector(connector)
        .retry_delay(millis(100))
        .observer(notebook.clone())
        .open()
        .await
        .unwrap();
    assert_eq!((notebook.count("failed 1"), notebook.count("failed 2"), notebook.count("opened")), (1, 1, 1));
    faults.at(Point::Commit, Fault::Fail(ErrorKind::Serialization));
    db.transaction_with(TransactionOptions::default(), async |tx| tx.execute("CREATE TABLE t (a)", ()).await)
        .await
        .unwrap();
    assert_eq!(notebook.count("repeated 1"), 1);
}

struct Panicking;

impl Observer for Panicking {
    fn observe(&self, _: &Event<'_>) {
        panic!("an observer's own fault");
    }
}

#[tokio::test]
async fn an_observer_that_panics_disturbs_neither_the_database_nor_the_next_observer() {
    let (home, notebook) = (Home::new(Kind::KeyedFile), Notebook::default());
    let db = home.builder().observer(Panicking).observer(notebook.clone()).open().await.unwrap();
    db.execute_script("CREATE TABLE t (n INTEGER)").await.unwrap();
    let writes = (0..8).map(|n| db.execute("INSERT INTO t VALUES ($1)", (n,)));
    futures_util::future::try_join_all(writes).await.unwrap();
    timeout(millis(30), db.fetch_all(ENDLESS, ())).await.unwrap_err();
    db.transaction(async |tx| tx.execute("DELETE FROM t WHERE n > 4", ()).await).await.unwrap();
    assert_eq!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(5));
    assert_whole(&db, "with an observer that panics").await;
    assert!(db.close().await.unwrap().is_clean());
    assert!(notebook.calls().len() > 12);
}

#[tokio::test]
async fn a_summary_is_what_the_engine_says_and_not_a_guess_from_words() {
    let home = Home::new(Kind::KeyedFile);
    let (db, notebook) = observed(&home).await;
    db.execute_script("CREATE TABLE u (a); CREATE VIEW v AS SELECT n FROM t").await.unwrap();
    db.execute_script("CREATE TRIGGER g AFTER INSERT ON u BEGIN UPDATE t SET n = 1; END").await.unwrap();
    notebook.calls();
    let cases = [
        ("SELECT 'INSERT INTO u'", "SELECT"),
        ("/* DELETE */ WITH x AS (SELECT n FROM t) SELECT * FROM x", "SELECT t"),
        ("SELECT * FROM t, u", "SELECT"),
        ("SELECT count(*) FROM \"t\"", "SELECT t"),
        ("SELECT * FROM v", "SELECT"),
        ("SELECT t.n FROM t JOIN (SELECT max(n) AS m FROM t) ON m = n", "SELECT t"),
        ("WITH x AS (SELECT 1) INSERT INTO u SELECT * FROM x", "INSERT u"),
        ("REPLACE INTO u VALUES (1)", "INSERT u"),
        ("UPDATE t SET n = (SELECT max(a) FROM u)", "UPDATE t"),
        ("DELETE FROM u WHERE a IN (SELECT n FROM t)", "DELETE u"),
        ("INSERT INTO t VALUES (1, 1) ON CONFLICT DO UPDATE SET n = 2", "INSERT t"),
        ("CREATE TABLE w AS SELECT * FROM t", ""),
        ("CREATE INDEX i ON w (n)", ""),
        ("ALTER TABLE w ADD COLUMN more", ""),
        ("DROP TABLE w", ""),
        ("PRAGMA user_version", "PRAGMA"),
        ("EXPLAIN QUERY PLAN SELECT * FROM t", "EXPLAIN"),
        ("ANALYZE", ""),
    ];
    for (sql, summary) in cases {
        db.fetch_all(sql, ()).await.unwrap();
        assert_eq!(notebook.call().summary, summary, "{sql}");
    }
}

#[tokio::test]
async fn metrics_count_what_was_done_and_can_be_merged() {
    let shared = Arc::new(MetricsRecorder::new());
    let mut all = Metrics::default();
    for _ in 0..2 {
        let home = Home::new(Kind::KeyedFile);
        let db = home.builder().metrics(true).observer(Arc::clone(&shared)).open().await.unwrap();
        db.execute_script("CREATE TABLE t (n INTEGER UNIQUE)").await.unwrap();
        for n in 0..10 {
            db.execute("INSERT INTO t VALUES ($1)", (n / 2,)).await.ok();
        }
        db.fetch_all("SELECT n FROM t", ()).await.unwrap();
        db.close().await.unwrap();
        let metrics = db.metrics().unwrap();
        let inserts = &metrics.calls[&CallKind::Execute];
        assert_eq!((inserts.running.count(), inserts.failed, inserts.rows_affected), (10, 5, 5));
        assert!(
            inserts.running.sum() > Duration::ZERO && inserts.running.quantile(0.5) <= inserts.running.quantile(1.0)
        );
        assert_eq!(metrics.calls[&CallKind::Fetch].rows_returned, 5);
        assert!(!metrics.calls.contains_key(&CallKind::Begin));
        let (connections, stats) = (&metrics.connections, db.stats());
        assert_eq!(connections.waiting.count(), stats.total_acquired);
        assert_eq!(connections.used.count(), stats.total_released);
        assert_eq!((connections.opening.count(), connections.closed), (stats.total_opened, stats.total_opened));
        all.merge(&metrics);
    }
    assert_eq!(all, shared.snapshot());
    assert_eq!(all.calls[&CallKind::Execute].running.count(), 20);
    assert_eq!(common::memory().await.metrics(), None);
}

#[test]
fn a_quantile_is_never_too_small_and_an_eighth_too_large_at_most() {
    let mut times: Vec<u64> = (0..2000_u64).map(|n| n * n * 977 + n).collect();
    let mut histogram = Histogram::default();
    for time in &times {
        histogram.record(Duration::from_nanos(*time));
    }
    times.sort_unstable();
    for (share, at) in [(0.0, 0), (0.5, 999), (0.9, 1799), (0.99, 1979), (1.0, 1999)] {
        let (exact, told) = (Duration::from_nanos(times[at]), histogram.quantile(share).unwrap());
        assert!(exact <= told && told <= exact + exact / 8, "{share}: {told:?} for {exact:?}");
    }
    assert_eq!(histogram.ranges().map(|(_, count)| count).sum::<u64>(), histogram.count());
    let ends: BTreeSet<_> = histogram.ranges().map(|(end, _)| end).collect();
    assert_eq!(ends.len(), histogram.ranges().count());
}

#[tokio::test]
async fn a_slow_call_is_logged_with_its_place_and_without_its_values() {
    let (log, _listening) = Log::listen();
    let home = Home::new(Kind::PlainMemory);
    let db = home.builder().log_slow_calls(Duration::ZERO).open().await.unwrap();
    db.execute_script("CREATE TABLE t (name TEXT)").await.unwrap();
    db.execute("INSERT INTO t VALUES ($1), ('of-alice')", ("of-bob",)).await.unwrap();
    let lines = log.lines();
    let line = lines.iter().find(|line| line.contains("INSERT INTO t")).unwrap_or_else(|| panic!("{lines:?}"));
    for part in ["WARN", "strongroom::slow", "VALUES ($1), (?)", "INSERT t", "waiting=", "running=", file!()] {
        assert!(line.contains(part), "{part} in {line}");
    }
    let before = log.lines().len();
    db.fetch_all("SELECT * FROM t WHERE name > 'of-alice' ORDER BY name", ()).await.unwrap();
    let lines = log.lines().split_off(before);
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["SCAN t\\nUSE TEMP B-TREE FOR ORDER BY", "full_scan_steps=", "sorts=1", "machine_steps="] {
        assert!(lines[0].contains(part), "{part} in {}", lines[0]);
    }
    assert!(!lines.iter().any(|line| line.contains("of-alice") || line.contains("of-bob")), "{lines:?}");

    let (log, _listening) = Log::listen();
    let db = home.builder().log_slow_calls(secs(3600)).open().await.unwrap();
    db.fetch_all("SELECT 1", ()).await.unwrap();
    assert_eq!(log.lines(), [""; 0]);
}

/// The effort of each statement that was slow, by its text.
#[derive(Default)]
struct Efforts(Mutex<Vec<(String, Option<StatementEffort>)>>);

impl Observer for Efforts {
    fn observe(&self, event: &Event<'_>) {
        if let Event::CallEnded(call, outcome) = event
            && let Some(sql) = call.sql
        {
            self.0.lock().unwrap().push((sql.to_owned(), outcome.effort.cloned()));
        }
    }

    fn slow(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

impl Efforts {
    fn take(&self) -> Vec<(String, Option<StatementEffort>)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// That of the only statement.
    fn of_one(&self) -> Option<StatementEffort> {
        let mut all = self.take();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0).1
    }
}

fn told(effort: &StatementEffort) -> (String, u64, u64) {
    let plan = effort.plan.as_ref().map(ToString::to_string).unwrap_or_default();
    (plan, effort.full_scan_steps, effort.sorts)
}

#[tokio::test]
async fn a_slow_statement_is_told_with_its_plan_and_what_it_cost_the_engine() {
    for kind in [Kind::KeyedFile, Kind::PlainMemory] {
        let (home, efforts) = (Home::new(kind), Arc::new(Efforts::default()));
        // Through what wraps an observer too.
        let db = home.builder().observer(Arc::clone(&efforts)).open().await.unwrap();
        db.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, name TEXT)").await.unwrap();
        db.execute_many("INSERT INTO t (n, name) VALUES ($1, 'x')", (0..100).map(|n| (n,))).await.unwrap();
        efforts.take();
        let scan = "SELECT id FROM t WHERE name = $1 ORDER BY n";
        let sorted = "SCAN t\nUSE TEMP B-TREE FOR ORDER BY".to_owned();
        for _ in 0..3 {
            // Each run by itself, and not added up.
            db.fetch_all(scan, ("of-alice",)).await.unwrap();
            let effort = efforts.of_one().unwrap();
            assert_eq!(told(&effort), (sorted.clone(), 99, 1));
            assert!(effort.machine_steps > 300, "{effort:?}");
        }
        db.fetch_one_as::<i64>("SELECT n FROM t WHERE id = $1", (7,)).await.unwrap();
        let search = "SEARCH t USING INTEGER PRIMARY KEY (rowid=?)".to_owned();
        assert_eq!(told(&efforts.of_one().unwrap()), (search.clone(), 0, 0));
        db.execute("UPDATE t SET n = n + 1 WHERE id = $1", (7,)).await.unwrap();
        assert_eq!(told(&efforts.of_one().unwrap()), (search, 0, 0));
        let joined = "SELECT count(*) FROM t AS a JOIN t AS b ON a.n = b.n";
        db.fetch_value::<i64>(joined, ()).await.unwrap();
        assert!(efforts.of_one().unwrap().automatic_index_rows > 90);

        // In a transaction, in a stream, and where it failed.
        let mut tx = db.begin().await.unwrap();
        tx.fetch_all(scan, ("",)).await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(told(&efforts.of_one().unwrap()), (sorted.clone(), 99, 1));
        db.fetch_stream(scan, ("x",)).try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(told(&efforts.of_one().unwrap()), (sorted, 99, 1));
        db.execute("INSERT INTO t SELECT id, n, name FROM t", ()).await.unwrap_err();
        assert_eq!(efforts.of_one().unwrap().plan.unwrap().full_scans().count(), 1);

        // What acts while it is explained is not explained.
        for sql in ["PRAGMA user_version = 5", "CREATE INDEX i ON t (n)", "EXPLAIN SELECT * FROM t", "-- nothing"] {
            db.execute(sql, ()).await.unwrap();
            assert_eq!(efforts.of_one().and_then(|effort| effort.plan), None, "{sql}");
        }
        db.fetch_all("SELEC 1", ()).await.unwrap_err();
        assert_eq!(efforts.of_one(), None);
        assert_whole(&db, "after statements that were explained").await;
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn of_a_group_each_slow_text_is_told_unless_the_counts_could_be_those_of_another() {
    let (home, efforts) = (Home::new(Kind::KeyedFile), Arc::new(Efforts::default()));
    let db = home.builder().tuning(grouping(true)).observer(Arc::clone(&efforts)).open().await.unwrap();
    db.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)").await.unwrap();
    let writer = db.connection().await.unwrap();
    let insert = "INSERT INTO t (n) VALUES ($1)";
    let scan = db.execute("UPDATE t SET n = n + 1 WHERE n > 0", ());
    let writes = [db.execute(insert, (1,)), db.execute(insert, (2,)), scan];
    let mut writes = Box::pin(futures_util::future::join_all(writes));
    assert!(poll!(&mut writes).is_pending());
    efforts.take();
    drop(writer);
    assert!(writes.await.iter().all(Result::is_ok));
    for (sql, effort) in efforts.take() {
        let expected = if sql == insert { None } else { Some(("SCAN t".to_owned(), 1, 0)) };
        assert_eq!(effort.as_ref().map(told), expected, "{sql}");
    }
}

#[tokio::test]
async fn what_only_waited_long_and_what_was_quick_is_not_measured() {
    struct Late(Efforts);
    impl Observer for Late {
        fn observe(&self, event: &Event<'_>) {
            self.0.observe(event);
        }
        fn slow(&self) -> Option<Duration> {
            Some(secs(3600))
        }
    }
    let (home, late) = (Home::new(Kind::KeyedFile), Arc::new(Late(Efforts::default())));
    let db = home.builder().observer(Arc::clone(&late)).open().await.unwrap();
    db.execute_script("CREATE TABLE t (n INTEGER)").await.unwrap();
    let writer = db.connection().await.unwrap();
    let mut write = Box::pin(db.execute("INSERT INTO t VALUES (1)", ()));
    assert!(poll!(&mut write).is_pending());
    drop(writer);
    write.await.unwrap();
    db.fetch_all("SELECT * FROM t", ()).await.unwrap();
    let all = late.0.take();
    assert!(all.len() == 3 && all.iter().all(|(_, effort)| effort.is_none()), "{all:?}");
}

#[tokio::test]
async fn a_recorder_counts_statements_and_finds_those_that_a_loop_repeats() {
    let recorder = StatementRecorder::new();
    let db = AsyncDatabase::builder(":memory:").observer(recorder.clone()).open().await.unwrap();
    db.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)").await.unwrap();
    let block = recorder
        .during(async {
            let ids = db.fetch_all_as::<i64>("VALUES (1), (2), (3)", ()).await?;
            for id in ids {
                db.fetch_all("SELECT n FROM t WHERE id = $1", (id,)).await?;
            }
            db.transaction(async |tx| tx.execute("INSERT INTO t VALUES (1, 1)", ()).await).await
        })
        .await;
    block.answer.unwrap();
    let statements = block.statements;
    assert_eq!(statements.len(), 5, "to begin and to commit are no statements");
    assert_eq!((statements.0[4].rows_affected, statements.0[4].location.file()), (1, file!()));
    statements.assert_at_most(5);
    statements.assert_none_repeated(3);
    let panics = |what: &dyn Fn()| *catch_unwind(AssertUnwindSafe(what)).unwrap_err().downcast::<String>().unwrap();
    let many = panics(&|| statements.assert_at_most(4));
    assert!(many.contains("5 statements where at most 4") && many.contains("INSERT INTO t"), "{many}");
    let again = panics(&|| statements.assert_none_repeated(1));
    assert!(again.contains("ran 3 times") && again.contains("WHERE id = $1"), "{again}");
    assert_eq!(recorder.take().len(), 1);
    assert!(recorder.take().is_empty());
    let mode = TransactionMode::READ;
    db.begin_with(mode).await.unwrap().fetch_all("SELECT * FROM t", ()).await.unwrap();
    assert_eq!(recorder.take().len(), 1);
}
