//! A relative path means one file, whatever becomes of the working directory. That is the process's, so each case but one
//! runs in a process of its own.
#![cfg(all(feature = "sqlite", feature = "migrations"))]

use std::fs;
use std::path::Path;
use std::process::Command;

use strongroom::AsyncDatabase;
use strongroom::database::BackupOptions;
use strongroom::database::migrations::Migrations;
use strongroom::sqlcipher::{ReplaceOptions, SalvageOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_stays_the_same_file_when_the_process_changes_its_directory() {
    let [one, two] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for directory in [&two, &one] {
        std::env::set_current_dir(directory).unwrap();
        let db = AsyncDatabase::builder("app.db").open().await.unwrap();
        db.execute_script("CREATE TABLE t (a)").await.unwrap();
        db.close().await.unwrap();
    }
    let lazy = AsyncDatabase::builder("./app.db").pool_max(5).build();
    let late = AsyncDatabase::builder("new.db");
    let missing = AsyncDatabase::builder("missing/app.db");
    let memory = AsyncDatabase::builder(":memory:");
    std::env::set_current_dir(&two).unwrap();
    lazy.execute_many("INSERT INTO t VALUES ($1)", (0..2000).map(|n| (n,))).await.unwrap();
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(lazy.read_connection().await.unwrap());
    }
    for reader in &mut readers {
        assert_eq!(reader.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(2000));
    }
    drop(readers);
    assert!(lazy.engine_stats().wal_bytes > 0, "the log of another file was looked at");
    assert!(lazy.close().await.unwrap().is_clean());
    late.open().await.unwrap().close().await.unwrap();
    assert!(one.path().join("new.db").exists() && !two.path().join("new.db").exists());
    let error = missing.open().await.unwrap_err();
    assert_eq!(error.to_string().split(';').next(), Some("cannot open missing/app.db: there is no directory missing"));
    assert!(memory.open().await.unwrap().fetch_value::<i64>("SELECT 1", ()).await.unwrap().is_some());
    let other = AsyncDatabase::builder("app.db").open().await.unwrap();
    assert_eq!(other.fetch_value::<i64>("SELECT count(*) FROM t", ()).await.unwrap(), Some(0));
}

const HERE: &str = "RELATIVE_PATHS_HERE";

/// Runs `child` in a process of its own, in the first of two directories; it is told where both are.
async fn apart(name: &str, child: impl AsyncFnOnce(&Path)) {
    if let Some(here) = std::env::var_os(HERE) {
        return child(Path::new(&here)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", name, "--nocapture"]).env(HERE, folder.path());
    assert!(again.current_dir(folder.path().join("one")).status().unwrap().success());
}

#[tokio::test]
async fn copies_go_where_the_path_led_when_they_were_asked_for() {
    apart("copies_go_where_the_path_led_when_they_were_asked_for", async |here| {
        let (one, two) = (here.join("one"), here.join("two"));
        let db = AsyncDatabase::builder("app.db").open().await.unwrap();
        db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
        let early = db.backup_to("early.db");
        let replaced = AsyncDatabase::builder("replaced.db");
        let restored = AsyncDatabase::builder("restored.db");
        let keeps = ReplaceOptions::new().keep("kept.db");
        let saved = AsyncDatabase::builder("app.db");
        std::env::set_current_dir(&two).unwrap();
        early.await.unwrap();
        db.backup_with("late.db", BackupOptions::new()).await.unwrap();
        assert!(one.join("early.db").exists() && !one.join("late.db").exists());
        assert!(two.join("late.db").exists() && !two.join("early.db").exists());
        // The copy's path is one of this moment, the database's of the one in which it was named.
        restored.restore_from("late.db", ReplaceOptions::new()).await.unwrap();
        assert!(one.join("restored.db").exists() && !two.join("restored.db").exists());
        fs::copy(one.join("early.db"), one.join("replaced.db")).unwrap();
        replaced.restore_from("late.db", keeps).await.unwrap();
        assert!(one.join("kept.db").exists() && !two.join("kept.db").exists());
        db.close().await.unwrap();
        saved.salvage_to("saved.db", SalvageOptions::new()).await.unwrap();
        assert!(two.join("saved.db").exists() && !one.join("saved.db").exists());
        assert!(!two.join("app.db").exists() && !two.join("replaced.db").exists());
    })
    .await;
}

#[cfg(all(feature = "sqlcipher", unix))]
#[tokio::test]
async fn keys_that_are_made_and_files_that_are_encrypted_stay_where_they_were_named() {
    use strongroom::FileKeySource;

    apart("keys_that_are_made_and_files_that_are_encrypted_stay_where_they_were_named", async |here| {
        let (one, two) = (here.join("one"), here.join("two"));
        let made = FileKeySource::new("made.key").create_if_missing(true);
        let lazy = AsyncDatabase::builder("app.db").key(made.clone()).build();
        let plain = AsyncDatabase::builder("plain.db").open().await.unwrap();
        plain.execute_script("CREATE TABLE t (a)").await.unwrap();
        plain.close().await.unwrap();
        let encrypts = AsyncDatabase::builder("plain.db").key(FileKeySource::new("other.key").create_if_missing(true));
        std::env::set_current_dir(&two).unwrap();
        lazy.execute_script("CREATE TABLE t (a)").await.unwrap();
        assert!(one.join("made.key").exists() && one.join("app.db").exists());
        let before = fs::read(one.join("made.key")).unwrap();
        lazy.rekey_fresh(made).await.unwrap();
        lazy.close().await.unwrap();
        assert_ne!(fs::read(one.join("made.key")).unwrap(), before);
        encrypts.encrypt(ReplaceOptions::new()).await.unwrap();
        assert!(one.join("other.key").exists());
        assert_eq!(fs::read_dir(&two).unwrap().count(), 0, "nothing was made elsewhere");
        let key = FileKeySource::new(one.join("made.key"));
        assert!(
            AsyncDatabase::builder(one.join("app.db")).key(key).open().await.unwrap().table_exists("t").await.unwrap()
        );
    })
    .await;
}

#[tokio::test]
async fn a_folder_of_migrations_is_read_where_it_was_named() {
    apart("a_folder_of_migrations_is_read_where_it_was_named", async |here| {
        for (name, column) in [("one", "ours"), ("two", "theirs")] {
            let folder = here.join(name).join("migrations");
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("0001_make.sql"), format!("CREATE TABLE t ({column})")).unwrap();
        }
        let migrations = Migrations::from_folder("migrations").unwrap();
        let db = AsyncDatabase::builder(":memory:").open().await.unwrap();
        std::env::set_current_dir(here.join("two")).unwrap();
        db.migrate(&migrations).await.unwrap();
        assert!(db.fetch_all("SELECT ours FROM t", ()).await.is_ok());
    })
    .await;
}

/// SQLite's own paths: in a statement, a relative one is of the moment in which it runs. So says `builder`.
#[tokio::test]
async fn a_file_that_a_hook_attaches_by_its_whole_path_is_the_same_on_every_connection() {
    apart("a_file_that_a_hook_attaches_by_its_whole_path_is_the_same_on_every_connection", async |here| {
        let other = AsyncDatabase::builder("other.db").open().await.unwrap();
        other.execute_script("CREATE TABLE o (a); INSERT INTO o VALUES (1)").await.unwrap();
        other.close().await.unwrap();
        let whole = std::path::absolute("other.db").unwrap().to_str().unwrap().to_owned();
        let db = AsyncDatabase::builder("app.db")
            .pool_max(5)
            .on_connect(move |connection| {
                let whole = whole.clone();
                Box::pin(async move {
                    connection.interact(move |c| c.execute("ATTACH $1 AS other", (whole,)).map(drop)).await
                })
            })
            .open()
            .await
            .unwrap();
        std::env::set_current_dir(here.join("two")).unwrap();
        let mut readers = Vec::new();
        for _ in 0..4 {
            readers.push(db.read_connection().await.unwrap());
        }
        for reader in &mut readers {
            assert_eq!(reader.fetch_value::<i64>("SELECT count(*) FROM other.o", ()).await.unwrap(), Some(1));
        }
    })
    .await;
}
