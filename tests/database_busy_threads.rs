//! A runtime whose only thread for blocking work is taken, for as long as the program likes: every call ends.
#![cfg(all(feature = "sqlcipher", feature = "migrations", unix))]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{Home, Kind, with_table};
use futures_util::{StreamExt as _, TryStreamExt as _};
use strongroom::database::{BackupOptions, CheckDepth, CopyRows};
use strongroom::sqlcipher::{ReplaceOptions, SalvageOptions};
use strongroom::{AsyncDatabase, CommandKeySource, FileKeySource, PassphraseKeySource};
use tokio::runtime::Builder;

const INSERT: &str = "INSERT INTO t (n) VALUES ($1)";

/// Runs `test` where no thread for blocking work is free; it has to end.
fn without_threads<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let (ended, has_ended) = mpsc::channel();
    let running = thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        let (release, held) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let holder = runtime.spawn_blocking(move || {
            begun.send(()).unwrap();
            held.recv().ok();
        });
        has_begun.recv().unwrap();
        runtime.block_on(test());
        assert!(!holder.is_finished(), "the thread was held all the time");
        drop(release);
        ended.send(()).unwrap();
    });
    match has_ended.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => running.join().unwrap(),
    }
}

fn key_file(directory: &Path) -> FileKeySource {
    let path = directory.join("key");
    fs::write(&path, "the key").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    FileKeySource::new(path)
}

#[test]
fn a_database_is_made_opened_and_closed_by_keys_of_every_kind() {
    without_threads(|| async {
        let directory = tempfile::tempdir().unwrap();
        let key = key_file(directory.path());
        for name in ["a.db", "a.db", "b.db"] {
            let path = directory.path().join(name);
            let db = AsyncDatabase::builder(&path).key(key.clone()).open().await.unwrap();
            assert!(db.is_encrypted() && db.close().await.unwrap().is_clean());
        }
        let path = directory.path().join("a.db");
        let by_command = CommandKeySource::new("printf").args(["the key"]);
        AsyncDatabase::builder(&path).key(by_command).open().await.unwrap().close().await.unwrap();
        AsyncDatabase::builder(&path)
            .key(PassphraseKeySource::new("the key"))
            .open()
            .await
            .unwrap()
            .close()
            .await
            .unwrap();
        let wrong = AsyncDatabase::builder(&path).key(PassphraseKeySource::new("another")).open().await.unwrap_err();
        assert_eq!(wrong.reason(), strongroom::Reason::WrongKey);
        let made = FileKeySource::new(directory.path().join("made")).create_if_missing(true);
        AsyncDatabase::builder(directory.path().join("c.db")).key(made).open().await.unwrap().close().await.unwrap();
        let lazy = AsyncDatabase::builder(&path).key(key).build();
        assert_eq!(lazy.fetch_value::<i64>("SELECT 1", ()).await.unwrap(), Some(1));
    });
}

#[test]
fn copies_keys_checks_and_everything_else_end() {
    without_threads(|| async {
        let home = Home::new(Kind::KeyedFile);
        let at = |name: &str| home.directory.path().join(name);
        let db = home.builder().pool_max(3).open().await.unwrap();
        with_table(&db).await;
        db.execute_many(INSERT, (0..3000).map(|n| (n,))).await.unwrap();
        let mut rows = db.fetch_stream("SELECT n FROM t", ());
        rows.next().await.unwrap().unwrap();
        db.execute(INSERT, (1,)).await.unwrap();
        db.transaction(async |tx| tx.execute(INSERT, (2,)).await).await.unwrap();
        assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().len(), 2999);
        assert_eq!(db.interact(|c| c.query_row("SELECT 1", (), |row| row.get::<_, i64>(0))).await.unwrap(), 1);
        let long = "SELECT count(*) FROM t a, t b WHERE a.n < 50";
        assert!(db.fetch_value::<i64>(long, ()).await.unwrap().is_some());
        assert!(db.check(CheckDepth::Full).await.unwrap().is_ok());
        db.backup_to(at("copy.db")).await.unwrap();
        db.backup_with(at("plain.db"), BackupOptions::new().plaintext()).await.unwrap();
        let migrations =
            strongroom::database::migrations::Migrations::new().sql(1, "more", "CREATE TABLE more (n INTEGER)");
        db.migrate(&migrations).await.unwrap();
        let other = AsyncDatabase::builder(at("plain.db")).open().await.unwrap();
        other.copy_rows(&db, CopyRows::of(["t"])).await.unwrap_err();
        other.execute("DELETE FROM t", ()).await.unwrap();
        db.copy_rows(&other, CopyRows::of(["t"])).await.unwrap();
        other.close().await.unwrap();
        db.vacuum().await.unwrap();
        db.checkpoint().await.unwrap();
        db.optimize().await.unwrap();
        db.rekey(PassphraseKeySource::new("another")).await.unwrap();
        let limited = db.with_timeout(Duration::from_millis(200));
        assert!(limited.fetch_value::<i64>(common::ENDLESS, ()).await.is_err());
        db.suspend().await.unwrap();
        db.resume();
        assert!(db.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap() > Some(3000));
        assert!(db.close().await.unwrap().is_clean());

        let plain = || AsyncDatabase::builder(at("plain.db"));
        plain().key(PassphraseKeySource::new("first")).encrypt(ReplaceOptions::new()).await.unwrap();
        plain().key(PassphraseKeySource::new("first")).decrypt(ReplaceOptions::new()).await.unwrap();
        plain().salvage_to(at("saved.db"), SalvageOptions::new()).await.unwrap();
        home.builder().restore_from(at("copy.db"), ReplaceOptions::new()).await.unwrap();
    });
}
