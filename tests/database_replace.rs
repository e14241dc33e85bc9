//! What takes the place of a database: a copy, or itself encrypted or decrypted. What was there is whole until then.
#![cfg(feature = "sqlcipher")]

mod common;
#[path = "common/everything.rs"]
mod everything;

use std::path::{Path, PathBuf};

use common::{Home, Kind, key, kinds, millis, numbers};
use strongroom::pool::NoRetry;
use strongroom::sqlcipher::{ReplaceOptions, Tuning};
use strongroom::{
    AsyncDatabase, DatabaseBuilder, ErrorKind, PassphraseKeySource, Reason, Secret, SqlCipherConnector, rusqlite,
};

fn other() -> PassphraseKeySource {
    PassphraseKeySource::new(Secret::raw_key([8; 32]))
}

/// Waits for nobody.
fn brief(path: &Path) -> DatabaseBuilder<SqlCipherConnector> {
    AsyncDatabase::builder(path).tuning(Tuning::default().busy_timeout(millis(50))).retry(NoRetry)
}

fn files(home: &Home) -> Vec<String> {
    let names =
        home.directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn is_plain(path: &Path) -> bool {
    std::fs::read(path).unwrap().starts_with(b"SQLite format 3\0")
}

/// Lets others of the group read it.
#[cfg(unix)]
fn permit(path: &Path) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
}

#[cfg(unix)]
fn is_permitted(path: &Path) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777 == 0o640
}

fn kept(home: &Home) -> PathBuf {
    home.directory.path().join("kept.db")
}

async fn one(path: &Path, key: Option<PassphraseKeySource>) -> Option<i64> {
    let builder = AsyncDatabase::builder(path).create_if_missing(false);
    let db = match key {
        Some(key) => builder.key(key).open().await,
        None => builder.open().await,
    };
    let db = db.unwrap();
    let one = db.fetch_value("SELECT sum(a) FROM t", ()).await.unwrap();
    db.close().await.unwrap();
    one
}

/// A database with this number in it, closed.
async fn with_one(path: &Path, key: Option<PassphraseKeySource>, one: i64) {
    let builder = AsyncDatabase::builder(path);
    let db = match key {
        Some(key) => builder.key(key).open().await,
        None => builder.open().await,
    };
    let db = db.unwrap();
    db.execute_script(&format!("CREATE TABLE t (a); INSERT INTO t VALUES ({one})")).await.unwrap();
    db.close().await.unwrap();
}

/// On Windows, a writer that comes just after a reader was once refused to write: docs/platforms.md.
#[cfg(unix)]
#[tokio::test]
async fn everything_survives_encryption_and_decryption() {
    for (vacuum, page, encoding, wal) in
        [(2, 4096, "UTF-8", true), (0, 1024, "UTF-8", false), (1, 8192, "UTF-16le", true), (0, 512, "UTF-8", true)]
    {
        let what = format!("auto_vacuum {vacuum}, {page} bytes, {encoding}, wal {wal}");
        let home = Home::new(Kind::PlainFile);
        let path = home.path();
        {
            let made = rusqlite::Connection::open(&path).unwrap();
            let settings =
                format!("PRAGMA page_size = {page}; PRAGMA auto_vacuum = {vacuum}; PRAGMA encoding = '{encoding}'");
            made.execute_batch(&settings).unwrap();
            made.execute_batch(everything::SCHEMA).unwrap();
            if wal {
                made.execute_batch("PRAGMA journal_mode = WAL").unwrap();
            }
        }
        permit(&path);
        let original = std::fs::read(&path).unwrap();
        let read_plain = || async {
            let db = AsyncDatabase::builder(&path).read_only().open().await.unwrap();
            let found = everything::read(&db).await;
            db.close().await.unwrap();
            found
        };
        let before = read_plain().await;
        let options = ReplaceOptions::new().keep(kept(&home)).check(strongroom::database::CheckDepth::Full);
        let report = AsyncDatabase::builder(&path).key(key()).encrypt(options).await.unwrap();
        assert!(report.encrypted && !is_plain(&path), "{what}");
        assert_eq!(files(&home), ["app.db", "kept.db"], "{what}");
        assert!(is_permitted(&path), "{what}");
        // What is kept has another journal mode in its header, and else every byte.
        let now = std::fs::read(kept(&home)).unwrap();
        assert_eq!((now.len(), &now[100..]), (original.len(), &original[100..]), "{what}");

        let db = AsyncDatabase::builder(&path).key(key()).open().await.unwrap();
        assert_eq!(everything::read(&db).await, before, "{what}");
        db.close().await.unwrap();
        AsyncDatabase::builder(&path).key(key()).decrypt(ReplaceOptions::new()).await.unwrap();
        assert!(is_plain(&path), "{what}");
        assert_eq!(files(&home), ["app.db", "kept.db"], "{what}");
        assert_eq!(read_plain().await, before, "{what}");
        let db = AsyncDatabase::builder(&path).open().await.unwrap();
        everything::assert_works(&db, &what).await;
        db.close().await.unwrap();
    }
}

/// The size of a page is part of the format: an encrypted file has that of its version, and keeps it when it is decrypted.
#[tokio::test]
async fn a_decrypted_file_keeps_the_size_of_its_pages() {
    for page in [4096_u32, 8192, 1024] {
        let home = Home::new(Kind::KeyedFile);
        let builder = || AsyncDatabase::builder(home.path()).key(key()).cipher_page_size(page);
        let db = builder().open().await.unwrap();
        db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
        db.close().await.unwrap();
        builder().decrypt(ReplaceOptions::new()).await.unwrap();
        let db = home_plain(&home).await;
        assert_eq!(db.fetch_value::<u32>("PRAGMA page_size", ()).await.unwrap(), Some(page));
        assert_eq!(db.fetch_value::<i64>("SELECT a FROM t", ()).await.unwrap(), Some(1));
        db.close().await.unwrap();
        // Whoever opens it with a size of its own has to say so; it is not made so by itself.
        let error = builder().encrypt(ReplaceOptions::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{page}: {error}");
    }
}

async fn home_plain(home: &Home) -> AsyncDatabase {
    AsyncDatabase::builder(home.path()).create_if_missing(false).open().await.unwrap()
}

/// The log of a process that was killed belongs to the file.
#[tokio::test]
async fn what_is_only_in_the_log_is_encrypted_too() {
    let (home, made) = (Home::new(Kind::PlainFile), Home::new(Kind::PlainFile));
    let db = made.open().await;
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
    for end in ["", "-wal"] {
        let from = format!("{}{end}", made.path().display());
        std::fs::copy(from, format!("{}{end}", home.path().display())).unwrap();
    }
    AsyncDatabase::builder(home.path()).key(key()).encrypt(ReplaceOptions::new()).await.unwrap();
    assert_eq!(files(&home), ["app.db"]);
    assert_eq!(one(&home.path(), Some(key())).await, Some(1));
}

#[tokio::test]
async fn a_file_that_somebody_has_open_is_left_alone() {
    let home = Home::new(Kind::PlainFile);
    let (path, copy) = (home.path(), home.directory.path().join("copy.db"));
    let db = home.open().await;
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
    db.backup_to(&copy).await.unwrap();
    let error = brief(&path).key(key()).encrypt(ReplaceOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    let error = brief(&path).restore_from(&copy, ReplaceOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    db.checkpoint().await.unwrap();
    let error = brief(&path).restore_from(&copy, ReplaceOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    assert_eq!(db.fetch_value::<i64>("SELECT sum(a) FROM t", ()).await.unwrap(), Some(3));
    db.close().await.unwrap();
    assert_eq!(files(&home), ["app.db", "copy.db"]);
    // And while it is being replaced, nobody gets in.
    let inside = path.clone();
    let options = ReplaceOptions::new().on_progress(move |_| {
        let other = rusqlite::Connection::open(&inside);
        if cfg!(windows) {
            // There it is shared with nobody.
            assert_eq!(other.unwrap_err().sqlite_error_code(), Some(rusqlite::ErrorCode::CannotOpen));
            return;
        }
        let other = other.unwrap();
        other.busy_timeout(millis(0)).unwrap();
        let refused = other.query_row("SELECT count(*) FROM sqlite_schema", (), |_| Ok(()));
        assert_eq!(refused.unwrap_err().sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
    });
    brief(&path).restore_from(&copy, options).await.unwrap();
    assert_eq!(one(&path, None).await, Some(1));
}

#[tokio::test]
async fn wrong_calls_are_refused_by_name_and_change_nothing() {
    let home = Home::new(Kind::KeyedFile);
    let path = home.path();
    with_one(&path, Some(key()), 1).await;
    let bytes = std::fs::read(&path).unwrap();
    let again = brief(&path).key(other()).encrypt(ReplaceOptions::new()).await.unwrap_err();
    assert_eq!(kinds(&again), (ErrorKind::Encryption, Reason::KeyMissing), "{again}");
    let wrong = brief(&path).key(other()).decrypt(ReplaceOptions::new()).await.unwrap_err();
    assert_eq!(kinds(&wrong), (ErrorKind::Encryption, Reason::WrongKey), "{wrong}");
    for keyless in [
        brief(&path).encrypt(ReplaceOptions::new()).await,
        brief(&path).decrypt(ReplaceOptions::new()).await,
        brief(Path::new(":memory:")).key(key()).encrypt(ReplaceOptions::new()).await,
        brief(Path::new(":memory:")).restore_from(&path, ReplaceOptions::new()).await,
    ] {
        assert_eq!(keyless.unwrap_err().kind(), ErrorKind::Config);
    }
    let missing = brief(&path).key(key()).restore_from("no such copy", ReplaceOptions::new()).await.unwrap_err();
    assert_eq!(kinds(&missing), (ErrorKind::Connection, Reason::NotFound), "{missing}");
    let itself = brief(&path).key(key()).restore_from(&path, ReplaceOptions::new()).await.unwrap_err();
    assert_eq!(itself.kind(), ErrorKind::Busy, "{itself}");
    std::fs::write(kept(&home), "in use").unwrap();
    let taken = brief(&path).key(key()).decrypt(ReplaceOptions::new().keep(kept(&home))).await.unwrap_err();
    assert!(taken.to_string().contains("kept.db"), "{taken}");
    assert_eq!(std::fs::read(kept(&home)).unwrap(), b"in use");
    let missing =
        brief(&home.directory.path().join("none.db")).key(key()).encrypt(ReplaceOptions::new()).await.unwrap_err();
    assert_eq!(kinds(&missing), (ErrorKind::Connection, Reason::NotFound), "{missing}");
    assert_eq!(files(&home), ["app.db", "kept.db"]);
    assert_eq!(one(&path, Some(key())).await, Some(1));
    assert_eq!(std::fs::read(&path).unwrap()[..16], bytes[..16]);
}

#[tokio::test]
async fn a_copy_is_restored_whatever_stands_there_and_is_kept_if_asked() {
    for stands in ["nothing", "a database", "one with a log", "a damaged one", "another key", "no database"] {
        for keep in [false, true] {
            let what = format!("{stands}, keep {keep}");
            let home = Home::new(Kind::KeyedFile);
            let (path, copy) = (home.path(), home.directory.path().join("copy.db"));
            with_one(&copy, Some(key()), 7).await;
            match stands {
                "nothing" => {}
                "no database" => std::fs::write(&path, "a text of some length, which is no database").unwrap(),
                "another key" => with_one(&path, Some(other()), 1).await,
                _ => with_one(&path, Some(key()), 1).await,
            }
            if matches!(stands, "one with a log" | "a damaged one") {
                let made = Home::new(Kind::KeyedFile);
                let db = made.open().await;
                db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
                for end in ["", "-wal"] {
                    std::fs::copy(format!("{}{end}", made.path().display()), format!("{}{end}", path.display()))
                        .unwrap();
                }
            }
            let mut salt = 0;
            if stands == "a damaged one" {
                let mut bytes = std::fs::read(&path).unwrap();
                salt = bytes[3];
                bytes[3] ^= 1;
                std::fs::write(&path, bytes).unwrap();
            }
            let old = std::fs::read(&path).ok();
            let options = if keep { ReplaceOptions::new().keep(kept(&home)) } else { ReplaceOptions::new() };
            let report = brief(&path).key(key()).restore_from(&copy, options).await;
            let report = report.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(report.encrypted, "{what}");
            let mut expected = vec!["app.db", "copy.db"];
            if keep && old.is_some() {
                expected.push("kept.db");
            }
            let mut found = files(&home);
            found.retain(|name| name != "kept.db-wal" || stands != "a damaged one");
            assert_eq!(found, expected, "{what}");
            assert_eq!(one(&path, Some(key())).await, Some(7), "{what}");
            match stands {
                _ if !keep => {}
                "a database" | "one with a log" => assert_eq!(one(&kept(&home), Some(key())).await, Some(1), "{what}"),
                "another key" => assert_eq!(one(&kept(&home), Some(other())).await, Some(1), "{what}"),
                "a damaged one" => {
                    // Nothing of it is lost: healed, it has what was in its log.
                    let mut bytes = std::fs::read(kept(&home)).unwrap();
                    bytes[3] = salt;
                    std::fs::write(kept(&home), bytes).unwrap();
                    assert_eq!(one(&kept(&home), Some(key())).await, Some(1), "{what}");
                }
                _ => assert_eq!(std::fs::read(kept(&home)).ok(), old, "{what}"),
            }
        }
    }
}

#[tokio::test]
async fn a_copy_under_another_key_or_none_gets_the_key_of_the_database() {
    for (copied, restored) in [(Some(8), true), (None, true), (Some(8), false), (None, false)] {
        let what = format!("{copied:?} to {restored}");
        let home = Home::new(Kind::KeyedFile);
        let (path, copy) = (home.path(), home.directory.path().join("copy.db"));
        with_one(&copy, copied.map(|_| other()), 7).await;
        let options = if copied.is_some() {
            ReplaceOptions::new().copy_key(other())
        } else {
            ReplaceOptions::new().copy_plaintext()
        };
        let builder = if restored { brief(&path).key(key()) } else { brief(&path) };
        builder.restore_from(&copy, options).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(is_plain(&path), !restored, "{what}");
        assert_eq!(one(&path, restored.then(key)).await, Some(7), "{what}");
    }
}

#[tokio::test]
async fn a_damaged_copy_replaces_nothing() {
    let home = Home::new(Kind::KeyedFile);
    let (path, copy) = (home.path(), home.directory.path().join("copy.db"));
    with_one(&path, Some(key()), 1).await;
    let db = AsyncDatabase::builder(&copy).key(key()).open().await.unwrap();
    db.execute_script(&format!("CREATE TABLE t AS SELECT i a, hex(i) h FROM ({})", numbers(4000))).await.unwrap();
    db.close().await.unwrap();
    let mut bytes = std::fs::read(&copy).unwrap();
    bytes[7 * 4096 + 10] ^= 1;
    std::fs::write(&copy, &bytes).unwrap();
    let error = brief(&path).key(key()).restore_from(&copy, ReplaceOptions::new()).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Storage, Reason::Damaged), "{error}");
    assert_eq!(files(&home), ["app.db", "copy.db"]);
    assert_eq!(one(&path, Some(key())).await, Some(1));
    assert_eq!(std::fs::read(&copy).unwrap(), bytes);
}

#[tokio::test]
async fn a_dropped_call_leaves_the_database_as_it_was() {
    let home = Home::new(Kind::PlainFile);
    let path = home.path();
    let db = home.open().await;
    db.execute_script(&format!("CREATE TABLE t AS SELECT i a, zeroblob(300) z FROM ({})", numbers(3000)))
        .await
        .unwrap();
    db.close().await.unwrap();
    for steps in [0, 2, 5] {
        let reached = std::sync::Arc::new(tokio::sync::Notify::new());
        let (tell, mut left) = (std::sync::Arc::clone(&reached), steps);
        let options = ReplaceOptions::new().on_progress(move |_| {
            if left == 0 {
                tell.notify_one();
                std::thread::sleep(millis(3));
            } else {
                left -= 1;
            }
        });
        tokio::select! {
            done = brief(&path).key(key()).encrypt(options) => panic!("it was not stopped: {done:?}"),
            () = reached.notified() => {}
        }
        let gone = async {
            while files(&home).iter().any(|name| name.contains("-copy-")) {
                tokio::time::sleep(millis(2)).await;
            }
        };
        tokio::time::timeout(common::secs(10), gone).await.expect("the draft is removed");
        assert!(is_plain(&path));
        assert_eq!(one(&path, None).await, Some(4_501_500));
    }
}

/// Also pages that no row is read from.
#[tokio::test]
async fn a_file_that_was_damaged_on_the_way_takes_no_place() {
    for way in ["encrypt", "decrypt", "restore"] {
        let home = Home::new(if way == "encrypt" { Kind::PlainFile } else { Kind::KeyedFile });
        let db = home.open().await;
        db.execute_script(&format!("CREATE TABLE t AS SELECT i a, hex(i) h FROM ({})", numbers(4000))).await.unwrap();
        db.execute("CREATE INDEX last ON t (h)", ()).await.unwrap();
        db.backup_to(kept(&home)).await.unwrap();
        db.close().await.unwrap();
        let directory = home.directory.path().to_owned();
        let options = ReplaceOptions::new().on_progress(move |now| {
            if now.stage == strongroom::database::BackupStage::Check && now.done == 0 {
                let mut paths = directory.read_dir().unwrap().map(|entry| entry.unwrap().path());
                let draft = paths.find(|path| path.to_string_lossy().contains("app.db-copy-")).unwrap();
                let mut bytes = std::fs::read(&draft).unwrap();
                let page = bytes.len() - 4096;
                bytes[page..page + 8].fill(0x5a);
                std::fs::write(&draft, bytes).unwrap();
            }
        });
        let (before, builder) = (files(&home), AsyncDatabase::builder(home.path()).key(key()));
        let error = match way {
            "encrypt" => builder.encrypt(options).await.unwrap_err(),
            "decrypt" => builder.decrypt(options).await.unwrap_err(),
            _ => builder.restore_from(kept(&home), options).await.unwrap_err(),
        };
        assert_eq!(kinds(&error), (ErrorKind::Storage, Reason::Damaged), "{way}: {error}");
        assert_eq!(way != "decrypt", error.to_string().contains("fails its seal"), "{way}: {error}");
        assert_eq!(files(&home), before, "{way}");
        assert_eq!(one(&home.path(), (way != "encrypt").then(key)).await, Some(8_002_000), "{way}");
    }
}
