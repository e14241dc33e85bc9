//! A sync that fails in a commit of whatever kind: its caller is told of an unknown outcome, if somebody hears it, and the log is
//! written anew before anything is written behind it.
#![cfg(all(feature = "sqlite", feature = "migrations", target_os = "linux"))]

mod common;
#[path = "common/faults.rs"]
mod faults;

use std::path::PathBuf;

use common::{Home, Kind, count, kinds, with_table};
use faults::Call;
use futures_util::StreamExt;
use futures_util::future::join_all;
use strongroom::database::CheckDepth;
use strongroom::database::migrations::Migrations;
use strongroom::engine::Connection as _;
use strongroom::{AsyncDatabase, Error, ErrorKind, Reason};

const UNKNOWN: (ErrorKind, Reason) = (ErrorKind::OutcomeUnknown, Reason::Io);
const FAILED: (ErrorKind, Reason) = (ErrorKind::Storage, Reason::Io);

fn log_of(home: &Home) -> PathBuf {
    home.directory.path().canonicalize().unwrap().join("app.db-wal")
}

async fn open(kind: Kind) -> (Home, AsyncDatabase) {
    let home = Home::new(kind);
    let db = home.open().await;
    with_table(&db).await;
    db.execute("CREATE TABLE big (bytes)", ()).await.unwrap();
    (home, db)
}

/// Does something while no sync of the log works.
async fn while_syncs_fail<T>(home: &Home, what: impl Future<Output = T>) -> T {
    faults::fail(&log_of(home), Call::Sync, 0, usize::MAX, libc::EIO);
    let outcome = what.await;
    assert!(faults::heal(&log_of(home)) > 0, "nothing was synced");
    outcome
}

#[tokio::test]
async fn whatever_commits_by_itself_tells_of_an_unknown_outcome() {
    let (home, db) = open(Kind::KeyedFile).await;
    for sql in [
        "INSERT INTO t VALUES (1, 1) RETURNING id",
        "CREATE TABLE other (a)",
        "CREATE INDEX found ON t (n)",
        "ALTER TABLE t ADD COLUMN more",
        "VACUUM",
        "ANALYZE",
        "PRAGMA optimize = 0x10002",
        "PRAGMA incremental_vacuum",
        "PRAGMA user_version = 7",
        "PRAGMA application_id = 7",
    ] {
        db.execute("DROP TABLE IF EXISTS sqlite_stat1", ()).await.ok();
        db.execute_script("DELETE FROM t; INSERT INTO big VALUES (zeroblob(9000)); DELETE FROM big").await.unwrap();
        for n in 0..if sql.contains("optimize") { 10 } else { 0 } {
            db.execute("INSERT INTO t (n) VALUES ($1)", (n,)).await.unwrap();
        }
        let error = while_syncs_fail(&home, db.execute(sql, ())).await.unwrap_err();
        assert_eq!(kinds(&error), UNKNOWN, "{sql}: {error}");
    }
    // The next writer begins with that, and would be refused while it cannot be done.
    let written_anew = async || assert!(db.execute("DELETE FROM t", ()).await.is_ok());
    let rows = (0..100).map(|n| (1000 + n, n));
    written_anew().await;
    let error = while_syncs_fail(&home, db.execute_many("INSERT INTO t (id, n) VALUES ($1, $2)", rows)).await;
    assert_eq!(kinds(&error.unwrap_err()), UNKNOWN);
    written_anew().await;
    let error = while_syncs_fail(&home, db.execute_script("SELECT 1; INSERT INTO t (id) VALUES (7);")).await;
    assert_eq!(kinds(&error.unwrap_err()), UNKNOWN);
    written_anew().await;
    let error = while_syncs_fail(&home, db.execute_script("BEGIN; INSERT INTO t (id) VALUES (8); COMMIT;")).await;
    assert_eq!(kinds(&error.unwrap_err()), UNKNOWN);
    written_anew().await;
    let error = while_syncs_fail(&home, db.fetch_one("INSERT INTO t (id) VALUES (9) RETURNING id", ())).await;
    assert_eq!(kinds(&error.unwrap_err()), UNKNOWN);
    written_anew().await;
    let error = while_syncs_fail(&home, db.vacuum()).await;
    assert_eq!(kinds(&error.unwrap_err()), UNKNOWN);
    written_anew().await;
    let error = while_syncs_fail(&home, db.interact(|c| c.execute("INSERT INTO t (id) VALUES (10)", ()))).await;
    assert_eq!(kinds(&error.unwrap_err()), UNKNOWN);
    written_anew().await;
    db.execute_script("INSERT INTO big VALUES (zeroblob(9000)); DELETE FROM big").await.unwrap();
    let error = while_syncs_fail(&home, db.vacuum_free(Some(10), |_| {})).await;
    assert_eq!(kinds(&error.unwrap_err()), UNKNOWN);
    written_anew().await;
    db.execute_script("DROP TABLE IF EXISTS sqlite_stat1; INSERT INTO t (n) VALUES (1), (2), (3)").await.unwrap();
    let error = while_syncs_fail(&home, db.optimize()).await;
    assert_eq!(kinds(&error.unwrap_err()), UNKNOWN);
    written_anew().await;
    let migrations = Migrations::new().sql(1, "one", "CREATE TABLE migrated (a)");
    let error = while_syncs_fail(&home, db.migrate(&migrations)).await;
    assert_eq!(kinds(&error.unwrap_err()), UNKNOWN);
    for [begin, end] in [["BEGIN", "COMMIT"], ["BEGIN", "END"], ["SAVEPOINT a", "RELEASE a"]] {
        let mut raw = db.connection().await.unwrap();
        raw.execute(begin, ()).await.unwrap();
        raw.execute("INSERT INTO t (id) VALUES (11)", ()).await.unwrap();
        let error = while_syncs_fail(&home, raw.execute(end, ())).await.unwrap_err();
        assert_eq!(kinds(&error), UNKNOWN, "{end}: {error}");
    }
    // The same handle goes on.
    db.execute("INSERT INTO t (id) VALUES (12)", ()).await.unwrap();
    assert!(db.check(CheckDepth::Full).await.unwrap().is_ok());
    db.close().await.unwrap();
}

/// Ways to commit on a session that is not as it was opened, or becomes so by the failure.
async fn commit_on_an_altered_session(db: &AsyncDatabase, way: &str) -> Option<Error> {
    const WRITE: &str = "INSERT INTO t (n) VALUES (1)";
    match way {
        "closure" => db.interact(|c| c.execute(WRITE, ())).await.err(),
        "closure that hides the error" => db.interact(|c| Ok(c.execute(WRITE, ()).is_ok())).await.err(),
        "closure that goes on" => {
            db.interact(|c| Ok(c.execute(WRITE, ()).and(c.query_row("SELECT 1", (), |_| Ok(()))).is_ok())).await.err()
        }
        "native" => {
            let mut writer = db.connection().await.unwrap();
            let failed = writer.native().execute(WRITE, ()).is_err();
            assert!(failed);
            None
        }
        "setting" | "setting and commit" => {
            let mut writer = db.connection().await.unwrap();
            writer.execute("PRAGMA cache_size = 7", ()).await.unwrap();
            if way == "setting" {
                return writer.execute(WRITE, ()).await.err();
            }
            writer.execute("BEGIN", ()).await.unwrap();
            writer.execute(WRITE, ()).await.unwrap();
            writer.execute("COMMIT", ()).await.err()
        }
        script => db.execute_script(script).await.err(),
    }
}

#[tokio::test]
async fn a_commit_that_fails_in_an_altered_session_is_made_good_for_before_the_next_write() {
    let script = "PRAGMA cache_size = 7; INSERT INTO t (n) VALUES (1)";
    for way in [
        "closure",
        "closure that hides the error",
        "closure that goes on",
        "native",
        "setting",
        "setting and commit",
        script,
    ] {
        let (home, db) = open(Kind::KeyedFile).await;
        faults::fail(&log_of(&home), Call::Sync, 0, usize::MAX, libc::EIO);
        if let Some(error) = commit_on_an_altered_session(&db, way).await {
            assert_eq!(kinds(&error), UNKNOWN, "{way}: {error}");
        }
        assert!(faults::failed(&log_of(&home)) > 0, "{way}: nothing was synced");
        let error = db.execute("INSERT INTO t (n) VALUES (2)", ()).await.unwrap_err();
        assert_eq!(kinds(&error), FAILED, "{way}: {error}");
        assert!(error.to_string().contains("written anew"), "{way}: it went on behind what was not synced: {error}");
        faults::heal(&log_of(&home));
        db.execute("INSERT INTO t (n) VALUES (3)", ()).await.unwrap();
        assert!(db.check(CheckDepth::Full).await.unwrap().is_ok(), "{way}");
        assert!(db.close().await.unwrap().is_clean(), "{way}");
    }
}

#[tokio::test]
async fn a_commit_that_fails_as_the_database_closes_is_not_copied_into_the_file() {
    let (home, db) = open(Kind::PlainFile).await;
    let rows = (0..1000).map(|n| (n, n % 10));
    db.execute_script("CREATE INDEX by_n ON t (n)").await.unwrap();
    db.execute_many("INSERT INTO t VALUES ($1, $2)", rows).await.unwrap();
    db.fetch_all("SELECT * FROM t WHERE n = 3", ()).await.unwrap();
    let mut writer = db.connection().await.unwrap();
    writer.fetch_all("SELECT * FROM t WHERE n = 3", ()).await.unwrap();
    drop(writer);
    // What is worth knowing of the tables is written before the log is copied.
    faults::fail(&log_of(&home), Call::Sync, 0, 1, libc::EIO);
    let report = db.close().await.unwrap();
    assert_eq!(faults::heal(&log_of(&home)), 1);
    assert!(!report.is_clean(), "{report:?}");
    let log = log_of(&home).metadata().expect("the log is kept").len();
    assert!(log > 0, "what was not synced was copied");
    let db = home.open().await;
    assert_eq!(count(&db).await, 1000);
    assert!(db.check(CheckDepth::Full).await.unwrap().is_ok());
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_commit_that_fails_in_a_stream_nobody_reads_any_more_is_made_good_for_before_the_next_write() {
    let (home, db) = open(Kind::KeyedFile).await;
    let mut failures = 0;
    // The engine waits before its last rows. It may be stopped there, and then nothing is committed: as often as it takes.
    for last in [1025, 1026, 1030].into_iter().cycle().take(60) {
        if failures == 2 {
            break;
        }
        let mut rows = db.fetch_stream(&format!("INSERT INTO t (n) {} RETURNING n", common::numbers(last)), ());
        rows.next().await.unwrap().unwrap();
        faults::fail(&log_of(&home), Call::Sync, 0, usize::MAX, libc::EIO);
        drop(rows);
        common::eventually("it has ended", || db.stats().active_connections == 0).await;
        if faults::failed(&log_of(&home)) > 0 {
            failures += 1;
            let error = db.execute("INSERT INTO t (n) VALUES (-1)", ()).await.unwrap_err();
            assert_eq!(kinds(&error), FAILED, "{error}");
            assert!(error.to_string().contains("written anew"), "it went on behind what was not synced: {error}");
        }
        faults::heal(&log_of(&home));
        db.execute("DELETE FROM t", ()).await.unwrap();
    }
    assert!(failures > 0, "nothing was synced");
    db.close().await.unwrap();
}

#[tokio::test]
async fn an_answer_that_nobody_could_read_says_nothing_of_a_commit_of_which_nobody_knows() {
    let (home, db) = open(Kind::PlainFile).await;
    let unread = "INSERT INTO t (n) VALUES (1) RETURNING CAST(x'ff' AS TEXT)";
    let error = while_syncs_fail(&home, db.fetch_one(unread, ())).await.unwrap_err();
    assert_eq!(kinds(&error), UNKNOWN, "alone: {error}");
    let held = db.connection().await.unwrap();
    let writes = (0..20).map(|_| {
        let db = db.clone();
        tokio::spawn(async move { db.fetch_one(unread, ()).await })
    });
    let writes: Vec<_> = writes.collect();
    common::eventually("all wait", || db.stats().waiting >= 20).await;
    let outcomes = while_syncs_fail(&home, async {
        drop(held);
        join_all(writes).await
    });
    for outcome in outcomes.await {
        let error = outcome.unwrap().unwrap_err();
        assert!([UNKNOWN, FAILED].contains(&kinds(&error)), "in a group: {error}");
    }
    db.close().await.unwrap();
}
