//! Another key for a database that is in use.
#![cfg(feature = "sqlcipher")]

#[path = "common/cipher.rs"]
mod cipher;
mod common;
#[path = "common/named.rs"]
mod named;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use cipher::{create, keyed, plain, read, refusal};
use common::{ENDLESS, Walked, count, kinds, millis, numbers, secs, walk, with_table};
use futures_util::StreamExt as _;
use named::Named;
use strongroom::database::{BackupProgress, BackupStage, CheckDepth, RekeyOptions};
use strongroom::keys::{CandidateKeySource, async_trait};
use strongroom::pool::{NoRetry, SuspendOptions};
use strongroom::sqlcipher::Tuning;
use strongroom::{
    AsyncDatabase, DatabaseBuilder, EnvKeySource, ErrorKind, KeySource, PassphraseKeySource, Reason, Result, Secret,
    SqlCipherConnector, apply_cipher_key, rusqlite,
};
use tempfile::TempDir;
use tokio::time::timeout;

fn raw(byte: u8) -> Secret {
    Secret::raw_key([byte; 32])
}

fn named(byte: u8) -> Named {
    Named(["none", "one", "two", "three"][usize::from(byte)], byte)
}

fn either(path: &Path) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(path).key(CandidateKeySource::new(named(1)).or(named(2))).retry(NoRetry)
}

/// A database under the first key, with so many rows.
async fn database(directory: &TempDir, rows: u64) -> AsyncDatabase {
    let db = keyed(&directory.path().join("app.db"), raw(1)).pool_max(4).open().await.unwrap();
    db.execute_script(&format!("CREATE TABLE t AS SELECT i, hex(i) h FROM ({})", numbers(rows))).await.unwrap();
    db
}

/// Only this key opens it, and nothing of it is damaged.
async fn assert_has_key(directory: &TempDir, byte: u8, rows: i64, what: &str) {
    let path = directory.path().join("app.db");
    assert_eq!(refusal(keyed(&path, raw(3 - byte))).await.reason(), Reason::WrongKey, "{what}");
    let db = keyed(&path, raw(byte)).open().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(count(&db).await, rows, "{what}");
    assert!(db.check(CheckDepth::Full).await.unwrap().is_ok(), "{what}");
    db.close().await.unwrap();
}

#[tokio::test]
async fn the_handle_goes_on_under_the_new_key_and_the_old_one_opens_nothing() {
    let directory = TempDir::new().unwrap();
    let db = database(&directory, 500).await;
    let (clone, salt) = (db.clone(), std::fs::read(directory.path().join("app.db")).unwrap()[..16].to_vec());
    let report = db.rekey(named(2)).await.unwrap();
    assert!(report.pages > 2, "{report:?}");
    assert_eq!(db.key_source(), Some("two"));
    // Everything is in the file, and nothing under the old key is left beside it.
    let bytes = std::fs::read(directory.path().join("app.db")).unwrap();
    assert_eq!((&bytes[..16], bytes.len() as u64), (&*salt, report.pages * 4096));
    clone.execute("INSERT INTO t VALUES (0, 'more')", ()).await.unwrap();
    assert_eq!(count(&db).await, 501);
    assert_eq!(refusal(keyed(&directory.path().join("app.db"), raw(1))).await.reason(), Reason::WrongKey);
    // Also after a sleep, and there and back again.
    db.suspend().await.unwrap();
    assert_eq!(count(&db).await, 501);
    db.rekey(named(1)).await.unwrap();
    db.rekey(CandidateKeySource::new(named(2)).or(named(3))).await.unwrap();
    assert_eq!((db.key_source(), clone.key_source()), (Some("two"), Some("two")));
    db.close().await.unwrap();
    assert_has_key(&directory, 2, 501, "at the end").await;
}

#[tokio::test]
async fn a_database_that_was_not_opened_yet_or_sleeps_is_opened_for_it() {
    let directory = TempDir::new().unwrap();
    database(&directory, 10).await.close().await.unwrap();
    let db = keyed(&directory.path().join("app.db"), raw(1)).build();
    db.rekey(named(2)).await.unwrap();
    db.suspend().await.unwrap();
    db.rekey(named(1)).await.unwrap();
    assert_eq!(count(&db).await, 10);
    db.close().await.unwrap();
    assert_has_key(&directory, 1, 10, "at the end").await;
}

#[tokio::test]
async fn a_key_that_cannot_be_had_or_used_touches_nothing() {
    struct Panics;

    #[async_trait]
    impl KeySource for Panics {
        async fn resolve(&self) -> Result<Secret> {
            panic!("a source that panics")
        }

        fn describe(&self) -> String {
            "a source that panics".into()
        }
    }

    let directory = TempDir::new().unwrap();
    let db = database(&directory, 10).await;
    let mut tx = db.begin().await.unwrap();
    tx.execute("INSERT INTO t VALUES (0, 'more')", ()).await.unwrap();
    let before = (db.pool_size(), db.stats().total_acquired);
    let sources: [(Box<dyn KeySource>, ErrorKind, Reason); 5] = [
        (Box::new(EnvKeySource::new("STRONGROOM_TEST_NO_SUCH_KEY")), ErrorKind::Key, Reason::Missing),
        (Box::new(PassphraseKeySource::new("")), ErrorKind::Key, Reason::Empty),
        (Box::new(PassphraseKeySource::new("x'00'")), ErrorKind::Key, Reason::Malformed),
        (Box::new(Secret::raw_key_with_salt([2; 32], [3; 16])), ErrorKind::Config, Reason::Unspecified),
        (Box::new(Panics), ErrorKind::Connection, Reason::Panicked),
    ];
    for (source, kind, reason) in sources {
        let error = db.rekey(source).await.unwrap_err();
        assert_eq!(kinds(&error), (kind, reason), "{error}");
        assert!(!format!("{error} {error:?}").contains("x'00'"), "{error}");
    }
    assert_eq!((db.pool_size(), db.stats().total_acquired), before, "nobody was asked to let go");
    tx.commit().await.unwrap();
    db.close().await.unwrap();
    assert_has_key(&directory, 1, 11, "at the end").await;
}

#[tokio::test]
async fn who_works_may_end_and_who_comes_meanwhile_waits_and_then_works() {
    let directory = TempDir::new().unwrap();
    let db = database(&directory, 10).await;
    let mut tx = db.begin().await.unwrap();
    tx.execute("INSERT INTO t VALUES (0, 'more')", ()).await.unwrap();
    let change = tokio::spawn({
        let db = db.clone();
        async move { db.rekey_with(named(2), RekeyOptions::new().limit(secs(60))).await }
    });
    let latecomers: Vec<_> = (0..8)
        .map(|i| {
            let db = db.clone();
            tokio::spawn(async move {
                tokio::time::sleep(millis(20)).await;
                if i % 2 == 0 {
                    db.execute("INSERT INTO t VALUES (0, 'late')", ()).await.map(drop)
                } else {
                    db.fetch_all("SELECT * FROM t", ()).await.map(drop)
                }
            })
        })
        .collect();
    tokio::time::sleep(millis(60)).await;
    assert!(!change.is_finished(), "the key was changed beside a transaction");
    tx.execute("INSERT INTO t VALUES (0, 'more')", ()).await.unwrap();
    tx.commit().await.unwrap();
    change.await.unwrap().unwrap();
    for latecomer in latecomers {
        latecomer.await.unwrap().unwrap();
    }
    db.close().await.unwrap();
    assert_has_key(&directory, 2, 16, "at the end").await;
}

#[tokio::test]
async fn what_is_still_lent_at_the_limit_is_named_and_nothing_is_changed() {
    let directory = TempDir::new().unwrap();
    let db = database(&directory, 10).await;
    let brief = || RekeyOptions::new().limit(millis(50));
    let mut tx = db.begin().await.unwrap();
    for (handle, options) in [(db.clone(), brief()), (db.with_timeout(millis(50)), RekeyOptions::new().limit(secs(60)))]
    {
        let error = handle.rekey_with(named(2), options).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Timeout, Reason::StillLent), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("the key was not changed: ") && text.contains("database_rekey.rs"), "{text}");
    }
    tx.execute("INSERT INTO t VALUES (0, 'more')", ()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(count(&db).await, 11);
    let endless = tokio::spawn({
        let db = db.clone();
        async move { db.fetch_value::<i64>(ENDLESS, ()).await }
    });
    common::eventually("the endless statement began", || db.stats().active_connections == 1).await;
    db.rekey_with(named(2), brief().stop_late()).await.unwrap();
    assert_eq!(endless.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    db.close().await.unwrap();
    assert_has_key(&directory, 2, 11, "at the end").await;
}

#[tokio::test]
async fn what_has_no_key_or_cannot_be_written_is_refused_by_name() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(keyed(&path, raw(1))).await;
    create(plain(&directory.path().join("plain.db"))).await;
    let builders = [
        (plain(&directory.path().join("plain.db")), ErrorKind::Config, "not encrypted"),
        (plain(Path::new(":memory:")), ErrorKind::Config, "in memory"),
        (keyed(Path::new(":memory:"), raw(1)), ErrorKind::Config, "in memory"),
        (keyed(&path, raw(1)).read_only(), ErrorKind::Unsupported, "read-only"),
        (keyed(&path, raw(1)).immutable(), ErrorKind::Unsupported, "immutable"),
    ];
    for (builder, kind, word) in builders {
        let db = builder.open().await.unwrap();
        let error = db.rekey(named(2)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(word) && error.advice().is_some(), "{error}");
        assert_eq!(db.fetch_value::<i64>("SELECT 1", ()).await.unwrap(), Some(1));
        db.close().await.unwrap();
    }
    let db = keyed(&path, raw(1)).open().await.unwrap();
    db.suspend_with(SuspendOptions::new().until_resumed()).await.unwrap();
    let error = db.rekey(named(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.to_string().contains("call resume() first"), "{error}");
    db.resume();
    let error = db
        .transaction(async |tx| {
            tx.execute("INSERT INTO t VALUES ('more')", ()).await?;
            db.rekey(named(2)).await.map(drop)
        })
        .await
        .unwrap_err();
    assert_eq!(error.reason(), Reason::WouldDeadlock, "{error}");
    db.close().await.unwrap();
    assert_eq!(db.rekey(named(2)).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(read(keyed(&path, raw(1))).await.unwrap(), "row");
}

#[cfg(feature = "testing")]
#[tokio::test]
async fn other_engines_say_that_they_have_no_key() {
    let db = AsyncDatabase::with_connector(strongroom::testing::ScriptedConnector::new()).open().await.unwrap();
    let error = db.rekey(named(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.advice().is_some(), "{error}");
}

#[cfg(feature = "testing")]
#[tokio::test]
async fn a_connector_that_wraps_another_passes_it_on() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(keyed(&path, raw(1))).await;
    let inner = SqlCipherConnector::new(&path).key(raw(1));
    let db = AsyncDatabase::with_connector(strongroom::testing::FaultyConnector::new(inner)).open().await.unwrap();
    db.rekey(named(2)).await.unwrap();
    db.close().await.unwrap();
    assert_eq!(read(keyed(&path, raw(2))).await.unwrap(), "row");
}

type With = fn(DatabaseBuilder<SqlCipherConnector>) -> DatabaseBuilder<SqlCipherConnector>;

#[tokio::test]
async fn files_of_every_format_keep_it() {
    let salt = [9; 16];
    let formats: [(&str, With, [Secret; 2]); 8] = [
        ("compatibility 1", |b| b.cipher_compatibility(1), [raw(1), raw(2)]),
        ("compatibility 2", |b| b.cipher_compatibility(2), [raw(1), raw(2)]),
        ("compatibility 3", |b| b.cipher_compatibility(3), [raw(1), raw(2)]),
        ("pages of 8192", |b| b.cipher_page_size(8192), [raw(1), raw(2)]),
        ("passphrases", |b| b.cipher_kdf_iter(1000), ["of last year".into(), "of this year".into()]),
        ("exclusive", |b| b.exclusive(), [raw(1), raw(2)]),
        ("a plain header", |b| b.plaintext_header_with([9; 16]), [raw(1), raw(2)]),
        (
            "a plain header with the key",
            |b| b.plaintext_header(),
            [Secret::raw_key_with_salt([1; 32], salt), Secret::raw_key_with_salt([2; 32], salt)],
        ),
    ];
    for (what, with, [old, new]) in formats {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("app.db");
        let db = with(keyed(&path, old.clone())).open().await.unwrap();
        db.execute_script(&format!("CREATE TABLE t AS SELECT i, hex(i) h FROM ({})", numbers(300))).await.unwrap();
        db.rekey(new.clone()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        db.execute("INSERT INTO t VALUES (0, 'more')", ()).await.unwrap();
        db.close().await.unwrap();
        let db = with(keyed(&path, new)).open().await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(count(&db).await, 301, "{what}");
        assert!(db.check(CheckDepth::Full).await.unwrap().is_ok(), "{what}");
        db.close().await.unwrap();
        let error = refusal(with(keyed(&path, old))).await;
        assert!(matches!(error.reason(), Reason::WrongKey | Reason::OtherCipherSettings), "{what}: {error}");
    }
}

#[tokio::test]
async fn other_programs_open_it_with_the_new_passphrase() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(keyed(&path, raw(1))).await;
    let db = keyed(&path, raw(1)).open().await.unwrap();
    db.rekey(PassphraseKeySource::new("of this year")).await.unwrap();
    db.close().await.unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    apply_cipher_key(&connection, &Secret::new("of this year")).unwrap();
    assert_eq!(connection.query_row("SELECT a FROM t", (), |row| row.get::<_, String>(0)).unwrap(), "row");
}

#[tokio::test]
async fn a_file_that_another_handle_has_open_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("app.db");
    create(keyed(&path, raw(1))).await;
    let impatient = || keyed(&path, raw(1)).tuning(Tuning::default().busy_timeout(millis(10)));
    let (db, other) = (impatient().open().await.unwrap(), impatient().open().await.unwrap());
    other.fetch_value::<String>("SELECT a FROM t", ()).await.unwrap();
    let error = db.rekey(named(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.is_transient() && error.to_string().contains("another connection has the file open"), "{error}");
    for handle in [&db, &other] {
        handle.execute("INSERT INTO t VALUES ('more')", ()).await.unwrap();
    }
    // One that has let go is told what happened, and the way out.
    other.suspend().await.unwrap();
    db.rekey(named(2)).await.unwrap();
    let error = other.fetch_value::<String>("SELECT a FROM t", ()).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Encryption, Reason::WrongKey), "{error}");
    assert!(error.to_string().contains("was changed by another process"), "{error}");
    let error = other.rekey(named(2)).await.unwrap_err();
    assert!(error.to_string().contains("was changed by another process"), "{error}");
    db.fetch_value::<String>("SELECT a FROM t", ()).await.unwrap();
    db.close().await.unwrap();
    let again = either(&path).open().await.unwrap();
    assert_eq!(again.key_source(), Some("two"));
}

#[tokio::test]
async fn a_change_that_is_dropped_at_any_moment_leaves_a_database_that_works() {
    let directory = TempDir::new().unwrap();
    let db = database(&directory, 300).await;
    let mut rows = 300;
    for polls in 0..200 {
        let byte = if polls % 2 == 0 { 2 } else { 1 };
        let walked = walk(db.rekey(named(byte)), polls).await;
        let inserted = timeout(secs(20), db.execute("INSERT INTO t VALUES (0, 'more')", ())).await;
        inserted.unwrap_or_else(|_| panic!("after {polls} polls nobody works")).unwrap();
        rows += 1;
        assert_eq!(count(&db).await, rows, "after {polls} polls");
        if let Walked::Done(done) = walked {
            done.unwrap();
            assert!(polls > 3, "too few polls to tell anything");
            break;
        }
        assert!(polls < 199, "it never came to its end");
    }
    let source = db.key_source().map(str::to_owned);
    db.close().await.unwrap();
    let again = either(&directory.path().join("app.db")).open().await.unwrap();
    assert_eq!(again.key_source(), source.as_deref().filter(|name| *name == "two").or(Some("one")));
    assert_eq!(count(&again).await, rows);
    assert!(again.check(CheckDepth::Full).await.unwrap().is_ok());
}

#[tokio::test]
async fn who_works_after_a_change_whose_caller_went_away_waits_for_its_end() {
    let directory = TempDir::new().unwrap();
    let db = database(&directory, 20_000).await;
    for round in 0..3_u8 {
        let change = tokio::spawn({
            let db = db.clone();
            async move { db.rekey(named(2 - round % 2)).await }
        });
        common::eventually("everything is let go of", || db.pool_size() == 0 || change.is_finished()).await;
        change.abort();
        assert_eq!(timeout(secs(20), count(&db)).await.expect("it waits for nothing"), 20_000);
        db.execute("UPDATE t SET h = i WHERE i < 100", ()).await.unwrap();
    }
    let source = db.key_source().map(str::to_owned);
    db.close().await.unwrap();
    let again = either(&directory.path().join("app.db")).open().await.unwrap();
    assert_eq!(again.key_source(), source.as_deref().filter(|name| *name == "two").or(Some("one")));
    assert_eq!(count(&again).await, 20_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_writers_notice_nothing_but_a_wait() {
    let directory = TempDir::new().unwrap();
    let db = database(&directory, 300).await;
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(300)));
    let tasks: Vec<_> = (0..8)
        .map(|i| {
            let (db, stop, written) = (db.clone(), Arc::clone(&stop), Arc::clone(&written));
            tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    match i % 4 {
                        0 => drop(db.execute("INSERT INTO t VALUES (0, 'more')", ()).await?),
                        1 => {
                            db.transaction(async |tx| {
                                tx.execute("INSERT INTO t VALUES (0, 'more')", ()).await.map(drop)
                            })
                            .await?;
                        }
                        2 => assert!(db.fetch_all("SELECT * FROM t", ()).await?.len() >= 300),
                        _ => assert!(db.fetch_stream("SELECT * FROM t", ()).count().await >= 300),
                    }
                    if i % 4 < 2 {
                        written.fetch_add(1, SeqCst);
                    }
                }
                Ok::<_, strongroom::Error>(())
            })
        })
        .collect();
    for round in 0..6 {
        db.rekey_with(named(2 - round % 2), RekeyOptions::new().limit(secs(60))).await.unwrap();
    }
    stop.store(true, SeqCst);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(count(&db).await, written.load(SeqCst));
    let stats = db.stats();
    assert_eq!(stats.total_errors, 0, "{stats:?}");
    db.close().await.unwrap();
    assert_has_key(&directory, 1, written.load(SeqCst), "at the end").await;
}

#[tokio::test]
async fn who_listens_to_changes_goes_on_listening() {
    let directory = TempDir::new().unwrap();
    let db = keyed(&directory.path().join("app.db"), raw(1)).open().await.unwrap();
    with_table(&db).await;
    let mut changes = db.changes().await.unwrap();
    db.rekey(named(2)).await.unwrap();
    db.execute("INSERT INTO t VALUES (1, 1)", ()).await.unwrap();
    loop {
        let change = timeout(secs(10), changes.next()).await.expect("a change is told").unwrap();
        if change.tables.iter().any(|table| &*table.table == "t") {
            break;
        }
    }
}

#[tokio::test]
async fn who_closes_meanwhile_is_not_kept_and_the_file_is_whole() {
    let directory = TempDir::new().unwrap();
    let db = database(&directory, 300).await;
    let change = tokio::spawn({
        let db = db.clone();
        async move { db.rekey(named(2)).await }
    });
    tokio::task::yield_now().await;
    db.close().await.unwrap();
    let outcome = timeout(secs(20), change).await.expect("it ends").unwrap();
    if let Err(error) = &outcome {
        assert!(matches!(error.kind(), ErrorKind::Closed | ErrorKind::Cancelled), "{error}");
    }
    assert_has_key(&directory, if outcome.is_ok() { 2 } else { 1 }, 300, "at the end").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_comes_to_its_end_and_a_panic_in_it_changes_nothing() {
    let directory = TempDir::new().unwrap();
    let db = database(&directory, 300_000).await;
    for (mode, byte) in [("a log", 2), ("a journal", 1)] {
        if byte == 1 {
            let mut connection = db.connection().await.unwrap();
            connection.interact(|native| native.pragma_update(None, "journal_mode", "DELETE")).await.unwrap();
        }
        let seen: Arc<Mutex<Vec<BackupProgress>>> = Arc::default();
        let notes = Arc::clone(&seen);
        let options = RekeyOptions::new().on_progress(move |now| notes.lock().unwrap().push(now));
        let report = db.rekey_with(named(byte), options).await.unwrap();
        let seen = seen.lock().unwrap();
        assert!(seen.iter().all(|now| now.total == report.pages && now.done <= now.total), "{seen:?}");
        let (written, looked): (Vec<&BackupProgress>, Vec<_>) =
            seen.iter().partition(|now| now.stage == BackupStage::Pages);
        assert!(written.windows(2).all(|two| two[0].done <= two[1].done), "{mode}: {written:?}");
        assert!(written.iter().any(|now| now.done > 0 && now.done < now.total), "{mode}: {written:?}");
        assert_eq!(written.last().unwrap().done, report.pages, "{mode}");
        assert_eq!(looked.iter().map(|now| now.done).collect::<Vec<_>>(), [0, report.pages], "{mode}");
        assert_eq!(seen.last().unwrap().stage, BackupStage::Check, "{mode}");
    }
    let told = Arc::new(AtomicI64::new(0));
    let counts = Arc::clone(&told);
    let options = RekeyOptions::new().on_progress(move |_| {
        counts.fetch_add(1, SeqCst);
        panic!("in the progress");
    });
    db.rekey_with(named(2), options).await.unwrap();
    assert_eq!(told.load(SeqCst), 1);
    assert_eq!(count(&db).await, 300_000);
    db.close().await.unwrap();
    assert_has_key(&directory, 2, 300_000, "after a panic").await;
}
