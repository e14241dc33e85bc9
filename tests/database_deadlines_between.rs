//! Time limits bound also what a call waits for before, after and between its statements.
#![cfg(all(feature = "testing", feature = "sqlite", feature = "migrations"))]

mod common;

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use common::{ENDLESS, Home, Kind, assert_whole, count, kinds, memory, millis, secs, with_table};
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use strongroom::database::migrations::{Migration, Migrations};
use strongroom::database::{BackupOptions, RawConnection, RekeyOptions};
use strongroom::engine::{Dialect, Phase};
use strongroom::sqlcipher::SqlCipherConnector;
use strongroom::testing::{Call, Fault, Faults, FaultyConnector, Point, ScriptedConnector};
use strongroom::{AsyncDatabase, Capabilities, Error, ErrorKind, KeySource, Reason, Result, Secret, Transaction};
use tokio::time::{Instant, timeout};

const PUT: &str = "INSERT INTO t (n) VALUES (1)";
const LATE: (ErrorKind, Reason) = (ErrorKind::Timeout, Reason::RolledBack);
const NOT_STARTED: (ErrorKind, Reason) = (ErrorKind::Timeout, Reason::NotStarted);

type Mocked = FaultyConnector<ScriptedConnector>;

fn mocked() -> (AsyncDatabase<Mocked>, Faults, ScriptedConnector) {
    let capabilities = Capabilities::new("toy", Dialect::Sqlite);
    let script = ScriptedConnector::new().capabilities(capabilities).changes(PUT, 1).rows("SELECT 1", ["a"], [[1]]);
    let connector = FaultyConnector::new(script.clone());
    let faults = connector.faults();
    (AsyncDatabase::with_connector(connector).pool_max(1).build(), faults, script)
}

/// What ended the transaction in which a statement ran, before anybody else got the connection.
fn ends(script: &ScriptedConnector, from: usize) -> Vec<Call> {
    let ends = |call: &Call| matches!(call, Call::Commit | Call::Rollback | Call::Close);
    script.calls().into_iter().skip(from).take_while(|call| !matches!(call, Call::Run(..))).filter(ends).collect()
}

type Answer<'t> = Pin<Box<dyn Future<Output = Result<()>> + 't>>;

/// Each kind of call in a transaction.
const IN_TRANSACTION: [fn(&mut Transaction<Mocked>) -> Answer<'_>; 7] = [
    |tx| Box::pin(async { tx.execute(PUT, ()).await.map(drop) }),
    |tx| Box::pin(async { tx.fetch_all("SELECT 1", ()).await.map(drop) }),
    |tx| Box::pin(async { tx.execute_many(PUT, [(), ()]).await.map(drop) }),
    |tx| Box::pin(async { tx.execute_script(PUT).await }),
    |tx| Box::pin(async { tx.table_exists("t").await.map(drop) }),
    |tx| Box::pin(async { tx.fetch_stream("SELECT 1", ()).try_next().await.map(drop) }),
    |tx| Box::pin(async { tx.begin().await.map(drop) }),
];

/// Each kind of call on a connection of one's own.
const ON_A_CONNECTION: [fn(&mut RawConnection<Mocked>) -> Answer<'_>; 6] = [
    |conn| Box::pin(async { conn.execute(PUT, ()).await.map(drop) }),
    |conn| Box::pin(async { conn.fetch_all("SELECT 1", ()).await.map(drop) }),
    |conn| Box::pin(async { conn.execute_many(PUT, [(), ()]).await.map(drop) }),
    |conn| Box::pin(async { conn.execute_script(PUT).await }),
    |conn| Box::pin(async { conn.table_exists("t").await.map(drop) }),
    |conn| Box::pin(async { conn.fetch_stream("SELECT 1", ()).try_next().await.map(drop) }),
];

#[tokio::test(start_paused = true)]
async fn undoing_a_dropped_savepoint_is_within_the_limit_and_its_connection_is_not_lent_on_as_it_is() {
    for call in IN_TRANSACTION {
        let (db, faults, script) = mocked();
        db.connect().await.unwrap();
        let began = Instant::now();
        let mut tx = db.with_timeout(secs(1)).begin().await.unwrap();
        let mut nested = tx.begin().await.unwrap();
        nested.execute(PUT, ()).await.unwrap();
        drop(nested);
        let before = script.calls().len();
        faults.at(Point::RollbackTo, Fault::Hang);
        let error = call(&mut tx).await.unwrap_err();
        assert_eq!((kinds(&error), error.phase(), began.elapsed()), (LATE, Some(Phase::Rollback), secs(1)), "{error}");
        for part in ["1s ran out", "undoing a nested transaction", "the transaction is rolled back"] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        let error = tx.commit().await.unwrap_err();
        assert_eq!(error.reason(), Reason::Doomed, "what is not known to be undone is not committed: {error}");
        db.execute(PUT, ()).await.expect("the capacity is back");
        assert_eq!(ends(&script, before), [Call::Rollback], "{:?}", script.calls());
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_savepoint_is_not_waited_for_once_the_time_is_up() {
    let (db, faults, script) = mocked();
    let mut tx = db.with_timeout(secs(1)).begin().await.unwrap();
    let mut nested = tx.begin().await.unwrap();
    nested.execute(PUT, ()).await.unwrap();
    drop(nested);
    tokio::time::sleep(secs(2)).await;
    faults.at(Point::RollbackTo, Fault::Hang);
    let (began, before) = (Instant::now(), script.calls().len());
    let error = tx.execute(PUT, ()).await.unwrap_err();
    assert_eq!((kinds(&error), began.elapsed()), (LATE, Duration::ZERO), "{error}");
    assert_eq!(ends(&script, before), [Call::Rollback], "all of it at once");
}

#[tokio::test(start_paused = true)]
async fn undoing_a_dropped_bulk_insert_is_within_the_limit() {
    for call in ON_A_CONNECTION {
        let (db, faults, script) = mocked();
        db.connect().await.unwrap();
        let began = Instant::now();
        let mut conn = db.with_timeout(secs(1)).connection().await.unwrap();
        faults.at(Point::RunMany, Fault::Hang);
        timeout(millis(10), conn.execute_many(PUT, [(), ()])).await.unwrap_err();
        let before = script.calls().len();
        faults.at(Point::Rollback, Fault::Hang);
        let error = call(&mut conn).await.unwrap_err();
        assert_eq!((kinds(&error), error.phase(), began.elapsed()), (LATE, Some(Phase::Rollback), secs(1)), "{error}");
        drop(conn);
        db.execute(PUT, ()).await.expect("the capacity is back");
        assert_eq!(ends(&script, before), [Call::Rollback], "{:?}", script.calls());
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_does_for_a_feed_of_changes_is_within_the_limit() {
    let (db, faults, _) = mocked();
    let brief = db.with_timeout(secs(1));
    for point in [Point::InstallFeed, Point::RemoveFeed] {
        for (fault, kind, took) in [
            (Fault::Hang, Some(ErrorKind::OutcomeUnknown), millis(3000)),
            (Fault::Slow(millis(1500)), None, millis(1500)),
        ] {
            faults.at(point, fault);
            let began = Instant::now();
            let outcome = match point {
                Point::InstallFeed => brief.install_change_feed(["t"]).await,
                _ => brief.remove_change_feed(["t"]).await,
            };
            assert_eq!((outcome.err().map(|error| error.kind()), began.elapsed()), (kind, took), "{point:?}");
            db.execute(PUT, ()).await.expect("the capacity is back");
        }
    }
    for call in 0..2 {
        faults.at(Point::Follow, Fault::Hang);
        let began = Instant::now();
        let error = match call {
            0 => brief.changes().await.unwrap_err(),
            _ => brief.watch("SELECT 1", ()).next().await.unwrap().unwrap_err(),
        };
        assert_eq!((kinds(&error), began.elapsed()), (NOT_STARTED, secs(1)), "{error}");
        db.execute(PUT, ()).await.expect("the capacity is back");
    }
}

#[tokio::test]
async fn asking_which_tables_a_watched_statement_reads_is_within_the_limit() {
    let connector = FaultyConnector::new(SqlCipherConnector::new(":memory:"));
    let faults = connector.faults();
    let db = AsyncDatabase::with_connector(connector).open().await.unwrap();
    faults.at(Point::TablesRead, Fault::Hang);
    let mut watch = db.with_timeout(millis(200)).watch("SELECT 1", ());
    let error = timeout(secs(20), watch.next()).await.expect("in time").unwrap().unwrap_err();
    assert_eq!(kinds(&error), LATE, "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_only_reads_on_a_connection_of_ones_own_has_changed_nothing_when_it_is_late() {
    for call in 0..5 {
        let (db, faults, _) = mocked();
        db.connect().await.unwrap();
        let began = Instant::now();
        let mut conn = db.with_timeout(secs(1)).connection().await.unwrap();
        let (error, took) = match call {
            0 => {
                faults.at(Point::Run, Fault::Hang);
                (conn.fetch_all("SELECT 1", ()).await.unwrap_err(), secs(1))
            }
            1 => {
                faults.at(Point::TableExists, Fault::Hang);
                (conn.table_exists("t").await.unwrap_err(), secs(1))
            }
            2 => {
                faults.at(Point::RunStream, Fault::Hang);
                (conn.fetch_stream("SELECT 1", ()).try_next().await.unwrap_err(), secs(1))
            }
            3 => {
                faults.at(Point::NextChunk, Fault::Hang);
                (conn.fetch_stream("SELECT 1", ()).try_next().await.unwrap_err(), secs(1))
            }
            _ => {
                let mut rows = conn.fetch_stream("SELECT 1", ());
                rows.try_next().await.unwrap().expect("a row");
                tokio::time::sleep(secs(2)).await;
                (rows.try_next().await.unwrap_err(), secs(2))
            }
        };
        assert_eq!((kinds(&error), began.elapsed()), (LATE, took), "{call}: {error}");
    }
    // Of one that writes, it is not known.
    let (db, faults, _) = mocked();
    let mut conn = db.with_timeout(secs(1)).connection().await.unwrap();
    faults.at(Point::NextChunk, Fault::Hang);
    let error = conn.fetch_stream(PUT, ()).try_next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
}

/// Answers to what it is told to, and never to the rest.
#[derive(Clone, Copy)]
struct Mute {
    answers: bool,
}

#[async_trait]
impl KeySource for Mute {
    async fn resolve(&self) -> Result<Secret> {
        if self.answers { Ok(Secret::new("of this year")) } else { pending().await }
    }

    fn describe(&self) -> String {
        "a source that does not answer".into()
    }

    async fn replace(&self) -> Result<Secret> {
        self.resolve().await
    }

    async fn settle(&self, _: &Secret) -> Result<()> {
        pending().await
    }
}

#[tokio::test]
async fn the_source_of_a_key_is_waited_for_within_the_limit_and_nothing_has_begun_then() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    with_table(&db).await;
    let (brief, mute) = (db.with_timeout(millis(200)), Mute { answers: false });
    let copy = home.path().with_file_name("copy.db");
    let errors: [Error; 3] = timeout(secs(20), async {
        [
            brief.backup_with(&copy, BackupOptions::new().key(mute)).await.unwrap_err(),
            brief.rekey(mute).await.unwrap_err(),
            brief.rekey_fresh(mute).await.unwrap_err(),
        ]
    })
    .await
    .expect("in time");
    for error in errors {
        assert_eq!((kinds(&error), error.phase()), (NOT_STARTED, Some(Phase::Key)), "{error}");
        assert!(error.to_string().contains("nothing had begun"), "{error}");
    }
    assert!(!copy.exists());
    db.execute(PUT, ()).await.unwrap();
    db.close().await.unwrap();
    assert_eq!(count(&home.open().await).await, 1, "under the key that it had");
}

#[tokio::test]
async fn a_source_that_does_not_let_its_old_key_go_is_waited_for_within_the_limit_and_the_error_says_which_key_counts()
{
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    with_table(&db).await;
    let brief = db.with_timeout(secs(5));
    let change = brief.rekey_with(Mute { answers: true }, RekeyOptions::new().fresh());
    let error = timeout(secs(60), change).await.expect("in time").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    for part in ["the database has the new key now", "letting the old key go", "5s ran out"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    db.execute(PUT, ()).await.expect("everybody works on");
    assert_whole(&db, "after a change of key").await;
}

#[tokio::test]
async fn a_closure_on_the_engine_is_stopped_at_the_limit_and_says_that_what_it_had_committed_stays() {
    let db = memory().await;
    with_table(&db).await;
    let brief = db.with_timeout(millis(300));
    for call in 0..4 {
        let error = match call {
            0 => {
                let work = |conn: &mut rusqlite::Connection| {
                    conn.execute(PUT, ())?;
                    conn.query_row(ENDLESS, (), |row| row.get::<_, i64>(0))
                };
                brief.interact(work).await.unwrap_err()
            }
            1 => brief.read_interact(|conn| conn.query_row(ENDLESS, (), |row| row.get::<_, i64>(0))).await.unwrap_err(),
            2 => {
                let work = |conn: &mut rusqlite::Connection| -> rusqlite::Result<i64> {
                    conn.query_row(ENDLESS, (), |row| row.get(0))
                };
                let work = move |conn: &mut rusqlite::Connection| work(conn).map_err(|_| Stopped::ByTheEngine);
                assert!(
                    matches!(brief.try_interact(work).await, Err(Stopped::ByTheEngine)),
                    "the closure's own answer"
                );
                continue;
            }
            _ => {
                let work = |_: &mut rusqlite::Connection| {
                    std::thread::sleep(secs(4));
                    Ok(())
                };
                let error = brief.interact(work).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
                continue;
            }
        };
        assert_eq!(kinds(&error), (ErrorKind::Timeout, Reason::Unspecified), "{call}: {error}");
        for part in ["300ms", "running the closure", "what it had committed before stays"] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
    assert_eq!(count(&db).await, 1);
    assert_whole(&db, "after closures were stopped").await;
}

#[derive(Debug)]
enum Stopped {
    ByTheEngine,
    #[allow(dead_code, reason = "shown when a test fails")]
    Otherwise(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Otherwise(error)
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspension_waits_for_loans_no_longer_than_the_limit_of_its_handle() {
    let (db, _, _) = mocked();
    let held = db.connection().await.unwrap();
    let task = tokio::spawn({
        let db = db.clone();
        async move {
            let began = Instant::now();
            (db.with_timeout(secs(1)).suspend().await.unwrap_err(), began.elapsed())
        }
    });
    let (error, took) = task.await.unwrap();
    assert_eq!((error.reason(), took), (Reason::StillLent, secs(1)), "{error}");
    drop(held);
}

#[tokio::test]
async fn a_migration_is_answered_in_time_whichever_call_of_the_engine_hangs() {
    let list = || {
        Migrations::new()
            .sql(1, "a table", "CREATE TABLE t (n)")
            .add(Migration::sql(2, "another", "CREATE TABLE u (n)").without_foreign_keys())
            .add(Migration::sql(3, "outside", "CREATE TABLE v (n)").outside_transaction())
    };
    let run = async |hang: Option<u64>| {
        let connector = FaultyConnector::new(SqlCipherConnector::new(":memory:"));
        let faults = connector.faults();
        let db = AsyncDatabase::with_connector(connector).open().await.unwrap();
        let before = faults.calls();
        if let Some(nth) = hang {
            faults.nth(nth, Fault::Hang);
        }
        // Long enough for all of it where nothing hangs.
        let outcome = timeout(secs(40), db.with_timeout(secs(3)).migrate(&list())).await;
        (outcome, faults.calls() - before)
    };
    let (outcome, calls) = run(None).await;
    outcome.expect("in time").unwrap();
    assert!(calls > 20, "{calls}");
    for (nth, (outcome, _)) in (1..).zip(join_all((1..=calls).map(|nth| run(Some(nth)))).await) {
        assert!(outcome.is_ok(), "call {nth} of {calls} was waited for beyond the limit");
    }
}
