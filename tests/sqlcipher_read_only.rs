//! A database that is only read: nothing is written, made or removed, whoever else works with the file.

#![cfg(all(feature = "sqlcipher", target_os = "linux"))]

use std::path::Path;
use std::time::Duration;

use strongroom::database::{BackupOptions, BackupStage};
use strongroom::engine::TransactionMode;
use strongroom::{AsyncDatabase, DatabaseBuilder, ErrorKind, Reason, SqlCipherConnector, apply_cipher_key, rusqlite};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;
#[path = "common/other.rs"]
mod other;
#[path = "common/unprivileged.rs"]
mod unprivileged;

use cipher::{create, files, keyed, plain, refusal};
use other::{Other, key};
use unprivileged::{allow, here, is_child, parent};

type Builder = DatabaseBuilder<SqlCipherConnector>;

#[test]
fn the_other_process() {
    other::be_the_other_process();
    come_and_go();
}

const COMES_AND_GOES: &str = "STRONGROOM_TEST_COMES_AND_GOES";

/// Opens the file and closes it, as long as the parent waits. Each time log and index are made and removed.
fn come_and_go() {
    let Some(path) = std::env::var_os(COMES_AND_GOES) else { return };
    let waits = std::thread::spawn(|| std::io::stdin().lines().count());
    while !waits.is_finished() {
        let connection = rusqlite::Connection::open(Path::new(&path)).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        apply_cipher_key(&connection, &key()).unwrap();
        connection.execute_batch("SELECT count(*) FROM t").unwrap();
        drop(connection);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What another process does to a new database, and how the file is left behind.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    /// Everything was folded into the file.
    Closed,
    /// Killed, with a row in the log.
    Killed,
    /// The same, and copied without the index.
    Copied,
    /// In a rollback mode.
    Rollback,
}

const ALL: [Left; 4] = [Left::Closed, Left::Killed, Left::Copied, Left::Rollback];

/// Three rows, of which the last may be in the log.
async fn leave(path: &Path, left: Left) {
    create(keyed(path, key())).await;
    let mut other = Other::open(path);
    let mode = if left == Left::Rollback { "DELETE" } else { "WAL" };
    other.run(&format!("PRAGMA journal_mode = {mode}; INSERT INTO t VALUES ('more')"));
    other.run("PRAGMA wal_checkpoint(TRUNCATE)");
    other.run("INSERT INTO t VALUES ('last')");
    if left == Left::Closed {
        other.run("PRAGMA wal_checkpoint(TRUNCATE)");
    }
    other.kill();
    if left == Left::Copied || left == Left::Closed {
        std::fs::remove_file(path.with_extension("db-shm")).unwrap();
    }
    if left == Left::Closed {
        std::fs::remove_file(path.with_extension("db-wal")).unwrap();
    }
}

async fn rows(db: &AsyncDatabase) -> i64 {
    db.fetch_value("SELECT count(*) FROM t", ()).await.unwrap().unwrap()
}

fn ways(path: &Path) -> [(&'static str, Builder); 2] {
    [("read_only", keyed(path, key()).read_only()), ("immutable", keyed(path, key()).immutable())]
}

#[tokio::test]
async fn what_is_read_is_all_that_was_committed_and_nothing_changes_on_the_disk() {
    for left in ALL {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("app.db");
        leave(&path, left).await;
        let before = files(directory.path());
        for (way, builder) in ways(&path) {
            let db = builder.pool_max(3).open().await.unwrap();
            let readers = futures_util::future::join_all((0..8).map(|_| rows(&db))).await;
            assert_eq!(readers, [3; 8], "{left:?} {way}");
            assert_eq!(db.fetch_all("SELECT a FROM t", ()).await.unwrap().len(), 3, "{left:?} {way}");
            assert!(db.close().await.unwrap().is_clean(), "{left:?} {way}");
            assert!(files(directory.path()) == before, "{left:?} {way}: something changed on the disk");
        }
    }
}

#[tokio::test]
async fn neither_the_directory_nor_the_files_need_to_be_writable() {
    let directory = TempDir::new().unwrap();
    if !is_child() {
        for left in ALL {
            let inside = directory.path().join(format!("{left:?}"));
            std::fs::create_dir(&inside).unwrap();
            leave(&inside.join("app.db"), left).await;
            for name in files(&inside).keys() {
                allow(&inside.join(name), 0o444);
            }
            allow(&inside, 0o555);
        }
        allow(directory.path(), 0o555);
    }
    if parent("neither_the_directory_nor_the_files_need_to_be_writable", directory.path()) {
        for left in ALL {
            allow(&directory.path().join(format!("{left:?}")), 0o755);
        }
        allow(directory.path(), 0o755);
        return;
    }
    let here = here();
    for left in ALL {
        let inside = here.join(format!("{left:?}"));
        let before = files(&inside);
        for (way, builder) in ways(&inside.join("app.db")) {
            let db = builder.open().await.unwrap_or_else(|error| panic!("{left:?} {way}: {error}"));
            assert_eq!(rows(&db).await, 3, "{left:?} {way}");
            db.close().await.unwrap();
        }
        assert!(files(&inside) == before, "{left:?}");
    }
}

#[tokio::test]
async fn what_another_process_commits_is_read_by_the_next_call() {
    for left in [Left::Closed, Left::Killed, Left::Rollback] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("app.db");
        leave(&path, left).await;
        let db = keyed(&path, key()).read_only().pool_max(3).open().await.unwrap();
        assert_eq!(rows(&db).await, 3, "{left:?}");
        // It comes while the file is being read, writes, goes, and comes back.
        let mut expected = 3;
        for round in 0..3 {
            let mut other = Other::open(&path);
            for _ in 0..5 {
                other.run("INSERT INTO t VALUES ('new')");
                expected += 1;
                assert_eq!(rows(&db).await, expected, "{left:?}, round {round}");
            }
            if round == 1 {
                other.run("PRAGMA wal_checkpoint(TRUNCATE)");
            }
            other.kill();
            assert_eq!(rows(&db).await, expected, "{left:?}, round {round}");
        }
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_writer_of_the_same_process_is_not_kept_from_writing() {
    for left in [Left::Closed, Left::Killed] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("app.db");
        leave(&path, left).await;
        let reader = keyed(&path, key()).read_only().pool_max(3).open().await.unwrap();
        assert_eq!(rows(&reader).await, 3, "{left:?}");
        let writer = keyed(&path, key()).open().await.unwrap();
        for expected in 4..8 {
            writer.execute("INSERT INTO t VALUES ('new')", ()).await.unwrap();
            assert_eq!(rows(&reader).await, expected, "{left:?}");
        }
        writer.close().await.unwrap();
        assert_eq!(rows(&reader).await, 7, "{left:?}");
        reader.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_transaction_that_another_process_writes_into_says_so_instead_of_mixing() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    leave(&path, Left::Closed).await;
    let db = keyed(&path, key()).read_only().open().await.unwrap();
    let mut tx = db.begin_with(TransactionMode::READ).await.unwrap();
    assert_eq!(tx.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(3));
    let mut other = Other::open(&path);
    other.run("INSERT INTO t VALUES ('new'); PRAGMA wal_checkpoint(TRUNCATE)");
    let error = tx.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Busy, true), "{error}");
    drop(tx);
    assert_eq!(rows(&db).await, 4);
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_copy_that_another_process_writes_into_is_none() {
    for left in [Left::Closed, Left::Killed] {
        for (stage, plaintext) in [(BackupStage::Pages, false), (BackupStage::Rows, true), (BackupStage::Check, false)]
        {
            let directory = TempDir::new().unwrap();
            let [path, target] = ["app.db", "copy.db"].map(|name| directory.path().join(name));
            leave(&path, left).await;
            let db = keyed(&path, key()).read_only().open().await.unwrap();
            let copy = async |writes: bool| {
                let source = path.clone();
                let mut other = None;
                let options = BackupOptions::new().on_progress(move |now| {
                    if writes && now.stage == stage && other.is_none() {
                        let mut writer = Other::open(&source);
                        writer.run("INSERT INTO t VALUES ('new'); PRAGMA wal_checkpoint(TRUNCATE)");
                        other = Some(writer);
                    }
                });
                db.backup_with(&target, if plaintext { options.plaintext() } else { options }).await
            };
            let error = copy(true).await.unwrap_err();
            assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Busy, true), "{left:?} {stage:?}: {error}");
            let names = directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
            let left_there: Vec<_> = names.filter(|name| name.to_string_lossy().contains("copy")).collect();
            assert!(left_there.is_empty(), "{left:?} {stage:?}: {left_there:?}");
            copy(false).await.unwrap();
            assert!(target.exists(), "{left:?} {stage:?}");
            db.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_process_that_comes_and_goes_is_told_from_a_system_that_refuses_access() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    leave(&path, Left::Closed).await;
    let (mut child, asks, _answers) = other::start_itself(COMES_AND_GOES, path.as_os_str());
    let mut read = 0;
    for round in 0..300 {
        let called = async {
            let db = keyed(&path, key()).read_only().open().await?;
            let rows = db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await;
            db.close().await?;
            rows
        };
        match called.await {
            Ok(rows) => {
                assert_eq!(rows, Some(3), "{round}");
                read += 1;
            }
            // It came and went at each of the attempts.
            Err(error) => assert!([Reason::Moved, Reason::Broken].contains(&error.reason()), "{round}: {error}"),
        }
    }
    drop(asks);
    assert!(child.wait().unwrap().success());
    assert!(read > 100, "{read}");
}

/// All that would change the file, and some that look as if.
const WRITES: &[&str] = &[
    "INSERT INTO t VALUES ('x')",
    "INSERT INTO t VALUES ('x') RETURNING a",
    "WITH w AS (SELECT 'x' AS a) INSERT INTO t SELECT a FROM w",
    "UPDATE t SET a = 'x'",
    "DELETE FROM t",
    "REPLACE INTO t VALUES ('x')",
    "CREATE TABLE u (a)",
    "CREATE TABLE IF NOT EXISTS u (a)",
    "CREATE INDEX i ON t (a)",
    "CREATE VIEW v AS SELECT 1",
    "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE f USING fts5 (a)",
    "ALTER TABLE t ADD COLUMN b",
    "ALTER TABLE t RENAME TO u",
    "DROP TABLE t",
    "VACUUM",
    "ANALYZE",
    "PRAGMA user_version = 7",
    "PRAGMA application_id = 7",
    "PRAGMA optimize",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA incremental_vacuum(1)",
];

#[tokio::test]
async fn every_statement_that_would_write_is_refused_by_name_before_it_begins() {
    for left in [Left::Closed, Left::Killed, Left::Rollback] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("app.db");
        leave(&path, left).await;
        let before = files(directory.path());
        for (way, builder) in ways(&path) {
            let db = builder.open().await.unwrap();
            let named = |error: strongroom::Error, sql: &str| {
                assert_eq!(
                    (error.kind(), error.reason()),
                    (ErrorKind::Unsupported, Reason::NotWritable),
                    "{sql}: {error}"
                );
                assert!(error.to_string().contains(&format!(".{way}()")), "{sql}: {error}");
            };
            for sql in WRITES {
                named(db.execute(sql, ()).await.unwrap_err(), sql);
                named(db.fetch_all(sql, ()).await.unwrap_err(), sql);
                named(db.execute_script(sql).await.unwrap_err(), sql);
                named(db.connection().await.unwrap().execute(sql, ()).await.unwrap_err(), sql);
            }
            named(db.execute_many("INSERT INTO t VALUES ($1)", [("x",)]).await.unwrap_err(), "execute_many");
            let outcome = db.transaction(async |tx| tx.execute("DELETE FROM t", ()).await).await;
            named(outcome.unwrap_err(), "transaction");
            let mut conn = db.connection().await.unwrap();
            named(conn.interact(|c| c.execute("DELETE FROM t", ())).await.unwrap_err(), "interact");
            named(conn.execute_script("PRAGMA journal_mode = DELETE").await.unwrap_err(), "journal_mode");
            drop(conn);
            assert_eq!(
                db.transaction(async |tx| tx.fetch_value::<i64>("SELECT count(*) FROM t", ()).await).await.unwrap(),
                Some(3)
            );
            assert_eq!(rows(&db).await, 3);
            db.close().await.unwrap();
        }
        assert!(files(directory.path()) == before, "{left:?}");
    }
}

#[tokio::test]
async fn what_only_reads_is_not_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    let made = plain(&path).open().await.unwrap();
    made.execute_script(
        "CREATE TABLE t (a); CREATE VIRTUAL TABLE f USING fts5 (a); INSERT INTO f VALUES ('word');
         CREATE VIRTUAL TABLE r USING rtree (id, x0, x1); INSERT INTO r VALUES (1, 0, 1)",
    )
    .await
    .unwrap();
    made.close().await.unwrap();
    let db = plain(&path).read_only().open().await.unwrap();
    let one = |sql: &'static str| {
        let db = db.clone();
        async move { db.fetch_value::<i64>(sql, ()).await.unwrap_or_else(|error| panic!("{sql}: {error}")) }
    };
    assert_eq!(one("SELECT count(*) FROM f WHERE f MATCH 'word'").await, Some(1));
    assert_eq!(one("SELECT count(*) FROM r WHERE x0 < 1").await, Some(1));
    assert_eq!(one("PRAGMA user_version").await, Some(0));
    for sql in ["PRAGMA journal_mode", "PRAGMA integrity_check", "EXPLAIN QUERY PLAN DELETE FROM t"] {
        db.fetch_all(sql, ()).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    assert!(db.check(strongroom::database::CheckDepth::Full).await.unwrap().is_ok());
    let mut conn = db.connection().await.unwrap();
    conn.execute_script("CREATE TEMP TABLE scratch AS SELECT 1 AS a; INSERT INTO scratch VALUES (2)").await.unwrap();
    assert_eq!(conn.fetch_value::<i64>("SELECT sum(a) FROM scratch", ()).await.unwrap(), Some(3));
    drop(conn);
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_was_cut_off_is_named_and_not_read_half() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    leave(&path, Left::Rollback).await;
    let mut other = Other::open(&path);
    other.run("PRAGMA cache_size = 2; BEGIN; CREATE TABLE big (a); WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c LIMIT 3000) INSERT INTO big SELECT zeroblob(500) FROM c");
    other.kill();
    assert!(path.with_extension("db-journal").metadata().unwrap().len() > 0);
    let before = files(directory.path());
    for (_, builder) in ways(&path) {
        let error = refusal(builder).await;
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Storage, Reason::NotWritable), "{error}");
        assert!(error.to_string().contains("cut off"), "{error}");
    }
    assert!(files(directory.path()) == before);
    let db = keyed(&path, key()).open().await.unwrap();
    assert_eq!(rows(&db).await, 3);
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_wrong_key_a_missing_file_and_an_older_format_are_told_and_make_nothing() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(keyed(&path, "right")).await;
    let before = files(directory.path());
    for (secret, reason) in [("wrong", Reason::WrongKey), ("right", Reason::OtherCipherSettings)] {
        let level = if secret == "right" { 3 } else { 4 };
        let error = refusal(keyed(&path, secret).cipher_compatibility(level).read_only()).await;
        assert_eq!(error.reason(), reason, "{error}");
    }
    assert_eq!(refusal(plain(&path).read_only()).await.reason(), Reason::KeyMissing);
    let missing = refusal(plain(&directory.path().join("no.db")).read_only()).await;
    assert_eq!(missing.reason(), Reason::NotFound, "{missing}");
    assert!(!missing.to_string().contains("create_if_missing"), "{missing}");
    assert!(files(directory.path()) == before);
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_named_both() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(plain(&path)).await;
    let both: [(Builder, [&str; 2]); 4] = [
        (plain(&path).read_only().exclusive(), ["read_only()", "exclusive()"]),
        (plain(&path).immutable().exclusive(), ["immutable()", "exclusive()"]),
        (plain(&path).read_only().create_if_missing(true), ["read_only()", "create_if_missing(true)"]),
        (plain(Path::new(":memory:")).read_only(), ["read_only()", "memory"]),
    ];
    for (builder, names) in both {
        let error = refusal(builder).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(names.iter().all(|name| error.to_string().contains(name)), "{names:?}: {error}");
    }
    assert_eq!(refusal(plain(Path::new(":memory:")).exclusive()).await.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_path_with_signs_of_a_uri_is_the_file_of_that_name() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a?b=1 %41#ü.db");
    create(keyed(&path, key())).await;
    assert_eq!(cipher::read(keyed(&path, key()).read_only()).await.unwrap(), "row");
    assert_eq!(cipher::read(keyed(&path, key()).immutable()).await.unwrap(), "row");
}

#[tokio::test]
async fn an_exclusive_database_keeps_other_processes_out_until_it_is_closed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    let db = keyed(&path, key()).exclusive().open().await.unwrap();
    db.execute_script("CREATE TABLE t (a)").await.unwrap();
    let mut inserts = Vec::new();
    for number in 0..32 {
        inserts.push(db.execute("INSERT INTO t VALUES ($1)", (number,)));
    }
    futures_util::future::try_join_all(inserts).await.unwrap();
    assert_eq!(rows(&db).await, 32);
    assert!(!path.with_extension("db-shm").exists(), "the index is in memory");
    let locked_out = |path: &Path| {
        let connection = rusqlite::Connection::open(path).unwrap();
        apply_cipher_key(&connection, &key()).unwrap();
        connection.busy_timeout(Duration::ZERO).unwrap();
        connection.query_row("SELECT count(*) FROM t", (), |row| row.get::<_, i64>(0))
    };
    let refused = locked_out(&path).unwrap_err();
    assert_eq!(refused.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy), "{refused}");
    // Many pages of log, which nobody else could copy.
    db.execute(&format!("INSERT INTO t SELECT zeroblob(3000) FROM ({})", numbers(4000)), ()).await.unwrap();
    assert!(db.close().await.unwrap().is_clean());
    assert_eq!(locked_out(&path).unwrap(), 4032);
}

fn numbers(n: u32) -> String {
    format!("WITH RECURSIVE c(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c LIMIT {n}) SELECT i FROM c")
}

#[tokio::test]
async fn a_file_that_another_process_has_open_cannot_be_had_exclusively() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(keyed(&path, key())).await;
    let mut other = Other::open(&path);
    other.run("INSERT INTO t VALUES ('x')");
    let impatient = strongroom::sqlcipher::Tuning::default().busy_timeout(Duration::ZERO);
    let error = refusal(keyed(&path, key()).exclusive().tuning(impatient.clone())).await;
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Busy, false), "{error}");
    assert!(error.to_string().contains("exclusive()"), "{error}");
    other.kill();
    let db = keyed(&path, key()).exclusive().open().await.unwrap();
    assert_eq!(rows(&db).await, 2);
    db.close().await.unwrap();
}
