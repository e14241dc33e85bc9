//! Copies of a database that is worked with: as it is at one moment, whole or not there at all.
#![cfg(feature = "sqlcipher")]

mod common;
#[path = "common/everything.rs"]
mod everything;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Home, Kind, key, kinds, memory, millis, numbers, secs};
use strongroom::database::{BackupOptions, BackupStage, CheckDepth};
use strongroom::pool::NoRetry;
use strongroom::{AsyncDatabase, ErrorKind, PassphraseKeySource, Reason, Secret};

fn other() -> PassphraseKeySource {
    PassphraseKeySource::new(Secret::raw_key([8; 32]))
}

/// Everything in the directory but the database itself.
fn beside(home: &Home) -> Vec<String> {
    let names =
        home.directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with("app.db")).collect();
    names.sort();
    names
}

fn copy_of(home: &Home) -> PathBuf {
    home.directory.path().join("copy.db")
}

async fn open(path: &Path, key: Option<PassphraseKeySource>) -> strongroom::Result<AsyncDatabase> {
    let builder = AsyncDatabase::builder(path).create_if_missing(false).retry(NoRetry);
    match key {
        Some(key) => builder.key(key).open().await,
        None => builder.open().await,
    }
}

#[tokio::test]
async fn everything_is_in_the_copy_whatever_it_is_encrypted_with() {
    for kind in Kind::ALL {
        for (name, keyed) in [("same", kind.is_keyed()), ("other", true), ("plain", false)] {
            for depth in [CheckDepth::Quick, CheckDepth::Full] {
                let what = format!("{kind:?} to {name}, {depth:?}");
                let home = Home::new(kind);
                let db = home.open().await;
                db.execute_script(everything::SCHEMA).await.unwrap();
                let before = everything::read(&db).await;
                let options = BackupOptions::new().check(depth);
                let (options, opens) = match name {
                    "same" => (options, kind.is_keyed().then(key)),
                    "other" => (options.key(other()), Some(other())),
                    _ => (options.plaintext(), None),
                };
                let report = db.backup_with(copy_of(&home), options).await.unwrap();
                assert_eq!(report.encrypted, keyed, "{what}");
                assert_eq!(report.bytes, copy_of(&home).metadata().unwrap().len(), "{what}");
                assert_eq!(report.bytes, report.pages * 4096, "{what}");
                assert_eq!(beside(&home), ["copy.db"], "{what}");
                #[cfg(unix)]
                {
                    use std::os::unix::fs::PermissionsExt as _;
                    assert_eq!(copy_of(&home).metadata().unwrap().permissions().mode() & 0o777, 0o600, "{what}");
                }
                let magic = std::fs::read(copy_of(&home)).unwrap().starts_with(b"SQLite format 3\0");
                assert_eq!(magic, !keyed, "{what}");
                let copy = open(&copy_of(&home), opens).await.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(everything::read(&copy).await, before, "{what}");
                everything::assert_works(&copy, &what).await;
                assert_eq!(everything::read(&db).await, before, "{what}: the original");
                copy.close().await.unwrap();
                db.close().await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn the_copy_opens_with_the_passphrase_of_the_original_and_with_no_other() {
    let home = Home::new(Kind::KeyedFile);
    let right = || PassphraseKeySource::new("right");
    let db = AsyncDatabase::builder(home.path()).key(right()).open().await.unwrap();
    db.execute_script("CREATE TABLE t (a)").await.unwrap();
    db.backup_to(copy_of(&home)).await.unwrap();
    open(&copy_of(&home), Some(right())).await.unwrap().close().await.unwrap();
    let error = open(&copy_of(&home), Some(other())).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Encryption, Reason::WrongKey));
    let error = open(&copy_of(&home), None).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Encryption, Reason::KeyMissing));
}

/// Money moves between accounts all the time; in the copy none is missing, and what was committed before is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_copy_is_of_one_moment_while_others_write() {
    for (kind, plaintext) in
        [(Kind::PlainFile, true), (Kind::KeyedFile, false), (Kind::KeyedFile, true), (Kind::KeyedMemory, false)]
    {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(&format!(
            "CREATE TABLE accounts (id INTEGER PRIMARY KEY, cents INTEGER, filler, moves INTEGER DEFAULT 0);
             INSERT INTO accounts (id, cents, filler) SELECT i, 100, zeroblob(1000) FROM ({}); CREATE TABLE ticks (n INTEGER)",
            numbers(1000)
        ))
        .await
        .unwrap();
        let (stop, ticks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writers: Vec<_> = (0..2)
            .map(|seed| {
                let (db, stop, ticks) = (db.clone(), Arc::clone(&stop), Arc::clone(&ticks));
                tokio::spawn(async move {
                    let mut n = seed;
                    while !stop.load(SeqCst) {
                        n = (n * 7919 + 13) % 999;
                        db.transaction(async |tx| {
                            tx.execute(
                                "UPDATE accounts SET cents = cents - 1, moves = moves + 1 WHERE id = $1",
                                (n + 1,),
                            )
                            .await?;
                            tx.execute("UPDATE accounts SET cents = cents + 1 WHERE id = $1", (999 - n,)).await?;
                            tx.execute("INSERT INTO ticks VALUES ($1)", (n,)).await.map(drop)
                        })
                        .await
                        .unwrap();
                        ticks.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        while ticks.load(SeqCst) < 10 {
            tokio::time::sleep(millis(1)).await;
        }
        let before = ticks.load(SeqCst);
        let options = BackupOptions::new().step_pages(8).on_progress(|_| std::thread::sleep(millis(1)));
        let options = if plaintext { options.plaintext() } else { options };
        db.backup_with(copy_of(&home), options).await.unwrap();
        stop.store(true, SeqCst);
        for writer in writers {
            writer.await.unwrap();
        }
        let after = ticks.load(SeqCst);
        assert!(kind == Kind::KeyedMemory || after > before, "{kind:?}: nobody wrote beside the copy");
        let copy = open(&copy_of(&home), (kind.is_keyed() && !plaintext).then(key)).await.unwrap();
        let sum: i64 = copy.fetch_value("SELECT sum(cents) FROM accounts", ()).await.unwrap().unwrap();
        assert_eq!(sum, 100_000, "{kind:?}");
        let found: i64 = copy.fetch_value("SELECT count(*) FROM ticks", ()).await.unwrap().unwrap();
        let moves: i64 = copy.fetch_value("SELECT sum(moves) FROM accounts", ()).await.unwrap().unwrap();
        assert_eq!(moves, found, "{kind:?}: two tables of different moments");
        let found = u64::try_from(found).unwrap();
        assert!((before..=after).contains(&found), "{kind:?}: {before} <= {found} <= {after}");
    }
}

#[tokio::test]
async fn a_file_is_replaced_only_when_asked_and_only_when_nobody_has_it_open() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
    let target = copy_of(&home);
    std::fs::write(&target, "something else").unwrap();
    let error = db.backup_to(&target).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(std::fs::read(&target).unwrap(), b"something else");
    let replacing = || BackupOptions::new().replace(true);
    db.backup_with(&target, replacing()).await.unwrap();
    db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();

    let used = open(&target, Some(key())).await.unwrap();
    used.execute("INSERT INTO t VALUES (3)", ()).await.unwrap();
    let error = db.backup_with(&target, replacing()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Busy | ErrorKind::Config), "{error}");
    assert_eq!(used.fetch_value::<i64>("SELECT sum(a) FROM t", ()).await.unwrap(), Some(4));
    used.checkpoint().await.unwrap();
    let error = db.backup_with(&target, replacing()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    used.close().await.unwrap();

    db.backup_with(&target, replacing()).await.unwrap();
    assert_eq!(beside(&home), ["copy.db"]);
    let copy = open(&target, Some(key())).await.unwrap();
    assert_eq!(copy.fetch_value::<i64>("SELECT sum(a) FROM t", ()).await.unwrap(), Some(3));
}

/// The engine would take it for the log of the copy.
#[tokio::test]
async fn a_log_without_its_database_is_in_the_way() {
    let home = Home::new(Kind::PlainFile);
    let db = home.open().await;
    let log = home.directory.path().join("copy.db-wal");
    std::fs::write(&log, "left over").unwrap();
    let error = db.backup_to(copy_of(&home)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert_eq!(beside(&home), ["copy.db-wal"]);
}

#[tokio::test]
async fn a_copy_of_a_database_onto_itself_is_refused() {
    for replace in [false, true] {
        let home = Home::new(Kind::KeyedFile);
        let db = home.open().await;
        db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
        db.checkpoint().await.unwrap();
        db.backup_with(home.path(), BackupOptions::new().replace(replace)).await.unwrap_err();
        assert_eq!(db.fetch_value::<i64>("SELECT a FROM t", ()).await.unwrap(), Some(1));
        db.execute("INSERT INTO t VALUES (2)", ()).await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_copy_leaves_nothing_and_the_database_as_it_was() {
    for plaintext in [false, true] {
        let home = Home::new(Kind::KeyedFile);
        let db = home.builder().pool_max(2).open().await.unwrap();
        db.execute_script(&format!("CREATE TABLE t AS SELECT i, zeroblob(500) z FROM ({})", numbers(4000)))
            .await
            .unwrap();
        for stop_at in [0, 1, 3] {
            let reached = Arc::new(tokio::sync::Notify::new());
            let (tell, mut steps) = (Arc::clone(&reached), 0);
            let options = BackupOptions::new().step_pages(16).on_progress(move |_| {
                if steps >= stop_at {
                    tell.notify_one();
                    std::thread::sleep(millis(5));
                }
                steps += 1;
            });
            let options = if plaintext { options.plaintext() } else { options };
            tokio::select! {
                done = db.backup_with(copy_of(&home), options) => panic!("it was not stopped: {done:?}"),
                () = reached.notified() => {}
            }
            common::assert_whole(&db, "after a dropped copy").await;
            let gone = async {
                while !beside(&home).is_empty() {
                    tokio::time::sleep(millis(2)).await;
                }
            };
            tokio::time::timeout(secs(10), gone).await.expect("the draft is removed");
        }
        // A time limit is another way to drop it.
        let options = BackupOptions::new().step_pages(1).on_progress(|_| std::thread::sleep(millis(5)));
        let options = if plaintext { options.plaintext() } else { options };
        let error = db.with_timeout(millis(50)).backup_with(copy_of(&home), options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert_eq!(beside(&home), Vec::<String>::new());
    }
}

#[tokio::test]
async fn the_log_is_kept_from_starting_over_no_longer_than_allowed() {
    for plaintext in [false, true] {
        let home = Home::new(Kind::KeyedFile);
        let db = home.open().await;
        db.execute_script(&format!("CREATE TABLE t AS SELECT i, zeroblob(500) z FROM ({})", numbers(2000)))
            .await
            .unwrap();
        let slow = |limit| {
            let options = BackupOptions::new().step_pages(1).hold_log_at_most(limit);
            let options = options.on_progress(|now| {
                if now.stage != BackupStage::Check {
                    std::thread::sleep(millis(3));
                }
            });
            if plaintext { options.plaintext() } else { options }
        };
        let error = db.backup_with(copy_of(&home), slow(millis(5))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.to_string().contains("5ms"), "{error}");
        assert_eq!(beside(&home), Vec::<String>::new());
        // Afterwards the log starts over.
        db.execute("DELETE FROM t WHERE i = 1", ()).await.unwrap();
        assert_eq!(db.checkpoint().await.unwrap().log_bytes, 0);
        let report = db.backup_with(copy_of(&home), slow(secs(60))).await.unwrap();
        assert!(report.held <= report.duration);
    }
}

/// What happens to the file between the copying and the look at it is seen.
#[tokio::test]
async fn a_copy_that_was_damaged_on_the_way_is_no_copy() {
    for (kind, plaintext) in [(Kind::KeyedFile, false), (Kind::PlainFile, false), (Kind::KeyedFile, true)] {
        let home = Home::new(kind);
        let db = home.open().await;
        db.execute_script(&format!("CREATE TABLE t AS SELECT i, hex(i) h FROM ({})", numbers(4000))).await.unwrap();
        let directory = home.directory.path().to_owned();
        let options = BackupOptions::new().on_progress(move |now| {
            if (now.stage, now.done) != (BackupStage::Check, 0) {
                return;
            }
            let names = directory.read_dir().unwrap().map(|entry| entry.unwrap().path());
            let draft = names.into_iter().find(|path| path.to_string_lossy().contains("copy.db-copy-")).unwrap();
            let mut bytes = std::fs::read(&draft).unwrap();
            // A header of a page, so that also what is not encrypted is damaged for its reader.
            bytes[4 * 4096..4 * 4096 + 8].fill(0x5a);
            std::fs::write(&draft, bytes).unwrap();
        });
        let options = if plaintext { options.plaintext() } else { options };
        let error = db.backup_with(copy_of(&home), options).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Storage, Reason::Damaged), "{kind:?}: {error}");
        assert_eq!(beside(&home), Vec::<String>::new());
        common::assert_whole(&db, "after a damaged copy").await;
    }
}

/// SQLite's own copying goes on over a page that fails its seal, and gives a page of zeros a good one.
#[tokio::test]
async fn a_damaged_database_has_no_copy() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script(&format!("CREATE TABLE t AS SELECT i, hex(i) h FROM ({})", numbers(4000))).await.unwrap();
    db.close().await.unwrap();
    let mut bytes = std::fs::read(home.path()).unwrap();
    bytes[5 * 4096 + 100] ^= 1;
    std::fs::write(home.path(), bytes).unwrap();
    let db = home.open().await;
    for options in [BackupOptions::new(), BackupOptions::new().plaintext()] {
        let error = db.backup_with(copy_of(&home), options).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Storage, Reason::Damaged), "{error}");
        assert_eq!(beside(&home), Vec::<String>::new());
    }
}

#[tokio::test]
async fn progress_comes_to_its_end_and_a_panic_in_it_costs_nothing_else() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script(&format!("CREATE TABLE t AS SELECT i, zeroblob(500) z FROM ({})", numbers(2000))).await.unwrap();
    for (plaintext, stage) in [(false, BackupStage::Pages), (true, BackupStage::Rows)] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&seen);
        let options = BackupOptions::new().step_pages(10).replace(true);
        let options = options.on_progress(move |now| notes.lock().unwrap().push(now));
        let report =
            db.backup_with(copy_of(&home), if plaintext { options.plaintext() } else { options }).await.unwrap();
        let seen = seen.lock().unwrap();
        let copied: Vec<_> = seen.iter().filter(|now| now.stage == stage).collect();
        assert!(copied.len() > 3 && copied.windows(2).all(|two| two[0].done <= two[1].done), "{copied:?}");
        let last = copied.last().unwrap();
        assert_eq!(last.done, last.total, "{plaintext}");
        assert_eq!(last.total, if plaintext { 2000 } else { report.pages });
        assert_eq!(seen.last().unwrap().stage, BackupStage::Check);
        assert_eq!(seen.last().unwrap().done, seen.last().unwrap().total);
    }
    std::fs::remove_file(copy_of(&home)).unwrap();
    let options = BackupOptions::new().on_progress(|_| panic!("in the progress"));
    let error = db.backup_with(copy_of(&home), options).await.unwrap_err();
    assert_eq!(error.reason(), Reason::Panicked);
    assert_eq!(beside(&home), Vec::<String>::new());
    common::assert_whole(&db, "after a panic").await;
}

#[tokio::test]
async fn wrong_places_and_keys_are_refused_by_name_before_anything_is_made() {
    let db = memory().await;
    let home = tempfile::tempdir().unwrap();
    let error = db.backup_to(home.path()).await.unwrap_err();
    assert!(error.to_string().contains("directory"), "{error}");
    let error = db.backup_to(home.path().join("missing/copy.db")).await.unwrap_err();
    assert_eq!(kinds(&error), (ErrorKind::Connection, Reason::NotFound), "{error}");
    for bad in ["", "x'0123'"] {
        let options = BackupOptions::new().key(PassphraseKeySource::new(bad));
        let error = db.backup_with(home.path().join("copy.db"), options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Key, "{error}");
    }
    assert_eq!(home.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn a_copy_can_be_made_of_what_is_only_read_or_open_exclusively() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (1)").await.unwrap();
    db.close().await.unwrap();
    for (n, builder) in
        [home.builder().read_only(), home.builder().immutable(), home.builder().exclusive()].into_iter().enumerate()
    {
        let db = builder.open().await.unwrap();
        for (m, options) in [BackupOptions::new(), BackupOptions::new().plaintext()].into_iter().enumerate() {
            let target = home.directory.path().join(format!("copy{n}{m}.db"));
            db.backup_with(&target, options).await.unwrap();
            let copy = open(&target, (m == 0).then(key)).await.unwrap();
            assert_eq!(copy.fetch_value::<i64>("SELECT a FROM t", ()).await.unwrap(), Some(1));
        }
        db.close().await.unwrap();
    }
}

/// Of a killed process; nobody has it locked any more.
#[tokio::test]
async fn what_a_killed_copy_has_left_is_removed_by_the_next() {
    let home = Home::new(Kind::PlainFile);
    let db = home.open().await;
    for left in ["copy.db-copy-0123456789abcdef", "copy.db-copy-0123456789abcdef-wal"] {
        std::fs::write(home.directory.path().join(left), "half").unwrap();
    }
    let others = home.directory.path().join("copy.db-copy-of-mine");
    std::fs::write(&others, "not ours").unwrap();
    // One that is being made is left alone.
    let (first, second) = tokio::join!(
        db.backup_with(copy_of(&home), BackupOptions::new().on_progress(|_| std::thread::sleep(millis(5)))),
        async {
            tokio::time::sleep(millis(3)).await;
            db.backup_with(copy_of(&home), BackupOptions::new()).await
        }
    );
    assert!(first.is_ok() || second.is_ok(), "{first:?}, {second:?}");
    assert_eq!(beside(&home), ["copy.db", "copy.db-copy-of-mine"]);
    let _: Duration = first.or(second).unwrap().duration;
}
