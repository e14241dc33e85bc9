//! Copies of an encrypted file under its own key: the pages as they stand, of one moment, wherever they stand at that moment.
//!
//! `STRONGROOM_BACKUP_COPIES` (24 by default) is the number of copies that are made while two processes write.
#![cfg(all(feature = "sqlcipher", unix))]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{Home, Kind, key, kinds, numbers};
use strongroom::database::{BackupOptions, BackupStage, CheckDepth};
use strongroom::rusqlite::Connection;
use strongroom::sqlcipher::{Checkpoints, Tuning};
use strongroom::{AsyncDatabase, DatabaseBuilder, ErrorKind, Reason, Secret, SqlCipherConnector, apply_cipher_key};

type Builder = DatabaseBuilder<SqlCipherConnector>;
type Format = fn(Builder) -> Builder;

const CHILD: &str = "STRONGROOM_TEST_BACKUP_WRITER";
const ACCOUNTS: u64 = 400;

/// A log that only grows, unless the test copies it.
fn growing(builder: Builder) -> Builder {
    builder.tuning(Tuning::default().checkpoints(Checkpoints::External))
}

fn copy_of(home: &Home) -> PathBuf {
    home.directory.path().join("copy.db")
}

fn log_of(home: &Home) -> PathBuf {
    home.directory.path().join("app.db-wal")
}

async fn open(path: &Path) -> AsyncDatabase {
    AsyncDatabase::builder(path).key(key()).create_if_missing(false).open().await.unwrap()
}

/// Another program that works with the file.
fn stranger(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    apply_cipher_key(&connection, &Secret::raw_key([7; 32])).unwrap();
    connection.busy_timeout(common::secs(10)).unwrap();
    connection
}

async fn sum(db: &AsyncDatabase) -> i64 {
    db.fetch_value("SELECT sum(n * length(z)) FROM t", ()).await.unwrap().unwrap()
}

async fn filled(db: &AsyncDatabase, rows: u64) {
    let rows = format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, z BLOB); CREATE INDEX i ON t (n);
         INSERT INTO t SELECT i, i, randomblob(600) FROM ({})",
        numbers(rows)
    );
    db.execute_script(&rows).await.unwrap();
}

/// Byte by byte, vectors included, so nothing was decrypted on the way.
#[tokio::test]
async fn the_pages_of_the_copy_are_those_of_the_original_in_every_format() {
    let formats: [(&str, Format); 5] = [
        ("usual", |builder| builder),
        ("pages of 8192", |builder| builder.cipher_page_size(8192)),
        ("pages of 1024", |builder| builder.cipher_page_size(1024)),
        ("version 3", |builder| builder.cipher_compatibility(3)),
        ("plain header", |builder| builder.plaintext_header_with([5; 16])),
    ];
    for (format, with) in formats {
        for logged in [false, true] {
            let what = format!("{format}, logged {logged}");
            let home = Home::new(Kind::KeyedFile);
            let db = growing(with(home.builder())).open().await.unwrap();
            filled(&db, 300).await;
            if !logged {
                db.close().await.unwrap();
                with(home.builder()).open().await.unwrap().close().await.unwrap();
            }
            let db = if logged { db } else { growing(with(home.builder())).open().await.unwrap() };
            assert_eq!(log_of(&home).metadata().is_ok_and(|log| log.len() > 0), logged, "{what}");
            let report = db.backup_with(copy_of(&home), BackupOptions::new().check(CheckDepth::Full)).await.unwrap();
            db.interact(|own| own.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))).await.unwrap();
            // By another process, as its handle would end the locks of this one.
            let original = home.directory.path().join("original.db");
            assert!(Command::new("cp").arg(home.path()).arg(&original).status().unwrap().success());
            let (original, copy) = (std::fs::read(original).unwrap(), std::fs::read(copy_of(&home)).unwrap());
            assert_eq!(report.bytes, copy.len() as u64, "{what}");
            assert!(original == copy, "{what}: {} and {} bytes", original.len(), copy.len());
        }
    }
}

/// The log has pages many times, pages that the file does not have yet, and pages that the database does not have any more.
#[tokio::test]
async fn a_log_that_is_longer_than_the_file_is_in_the_copy() {
    let home = Home::new(Kind::KeyedFile);
    let db = growing(home.builder()).open().await.unwrap();
    filled(&db, 200).await;
    db.close().await.unwrap();
    home.open().await.close().await.unwrap();
    let db = growing(home.builder()).open().await.unwrap();
    for round in 0..5 {
        let more = format!("INSERT INTO t SELECT 1000 * ({round} + 1) + i, i, randomblob(600) FROM ({})", numbers(100));
        db.execute(&more, ()).await.unwrap();
        db.execute("UPDATE t SET n = n + 1", ()).await.unwrap();
        let file = home.path().metadata().unwrap().len();
        assert!(log_of(&home).metadata().unwrap().len() > file, "round {round}: a log that is shorter shows nothing");
        let options = BackupOptions::new().replace(true).check(CheckDepth::Full);
        db.backup_with(copy_of(&home), options).await.unwrap();
        let copy = open(&copy_of(&home)).await;
        assert_eq!(sum(&copy).await, sum(&db).await, "round {round}");
        copy.close().await.unwrap();
    }
    let before = db.backup_with(copy_of(&home), BackupOptions::new().replace(true)).await.unwrap().pages;
    db.execute_script("DELETE FROM t WHERE id > 100; PRAGMA incremental_vacuum").await.unwrap();
    let after =
        db.backup_with(copy_of(&home), BackupOptions::new().replace(true).check(CheckDepth::Full)).await.unwrap();
    assert!(after.pages < before / 2, "{} and {before} pages", after.pages);
    let copy = open(&copy_of(&home)).await;
    assert_eq!(sum(&copy).await, sum(&db).await);
}

/// How the log stands when the copy begins: nothing in it, something that the file lacks, or all of it copied and not yet
/// begun anew.
#[tokio::test]
async fn commits_and_checkpoints_in_the_middle_of_a_copy_are_not_in_it() {
    for at_first in ["nothing", "something", "copied"] {
        for mode in ["PASSIVE", "RESTART", "TRUNCATE"] {
            let what = format!("{at_first} in the log, {mode}");
            let home = Home::new(Kind::KeyedFile);
            let db = growing(home.builder()).open().await.unwrap();
            filled(&db, 400).await;
            let other = stranger(&home.path());
            let checkpoint = |mode: &str| {
                let sql = format!("PRAGMA wal_checkpoint({mode})");
                other.query_row(&sql, (), |row| row.get::<_, i64>(0)).unwrap();
            };
            match at_first {
                "nothing" => checkpoint("TRUNCATE"),
                "something" => {
                    checkpoint("TRUNCATE");
                    other.execute("UPDATE t SET n = n + 1 WHERE id % 2 = 0", ()).unwrap();
                }
                _ => checkpoint("PASSIVE"),
            }
            drop(other);
            let before = sum(&db).await;
            let (path, way) = (home.path(), mode.to_owned());
            let options = BackupOptions::new().check(CheckDepth::Full).step_pages(8).on_progress(move |now| {
                if now.stage == BackupStage::Pages && now.done % 24 == 0 {
                    let other = stranger(&path);
                    // Whoever waits for readers gives up at once.
                    other.busy_timeout(std::time::Duration::ZERO).unwrap();
                    for _ in 0..2 {
                        other.execute("UPDATE t SET n = n + 7, z = randomblob(599)", ()).unwrap();
                        let sql = format!("PRAGMA wal_checkpoint({way})");
                        other.query_row(&sql, (), |_| Ok(())).unwrap();
                    }
                }
            });
            db.backup_with(copy_of(&home), options).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            let copy = open(&copy_of(&home)).await;
            assert_eq!(sum(&copy).await, before, "{what}");
            assert_ne!(sum(&db).await, before, "{what}: nobody wrote beside the copy");
        }
    }
}

/// Moves money between accounts until it is killed. Does nothing unless started by the test below.
#[test]
fn the_writing_process() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let (other, mut random) = (stranger(Path::new(&path)), fastrand::Rng::new());
    other.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 60").unwrap();
    loop {
        let [from, to] = [0; 2].map(|_| random.u64(1..=ACCOUNTS));
        other
            .execute_batch(&format!(
                "BEGIN IMMEDIATE; UPDATE accounts SET cents = cents - 1, moves = moves + 1 WHERE id = {from};
                 UPDATE accounts SET cents = cents + 1 WHERE id = {to};
                 INSERT INTO ticks VALUES ({from}); COMMIT"
            ))
            .unwrap();
    }
}

struct Writer(Child);

impl Writer {
    fn of(path: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_writing_process", "--nocapture"]).env(CHILD, path);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// One process copies and writes, another one writes and copies its log, and some of them are killed in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_copy_is_of_one_moment_while_two_processes_write() {
    let home = Home::new(Kind::KeyedFile);
    let db = home.open().await;
    db.execute_script(&format!(
        "CREATE TABLE accounts (id INTEGER PRIMARY KEY, cents INTEGER, filler, moves INTEGER DEFAULT 0);
         INSERT INTO accounts (id, cents, filler) SELECT i, 100, zeroblob(1500) FROM ({}); CREATE TABLE ticks (n INTEGER)",
        numbers(ACCOUNTS)
    ))
    .await
    .unwrap();
    let reads = home.builder().read_only().open().await.unwrap();
    let own = {
        let db = db.clone();
        tokio::spawn(async move {
            loop {
                db.execute_script(&format!(
                    "BEGIN IMMEDIATE; UPDATE accounts SET cents = cents - 1, moves = moves + 1 WHERE id = {0};
                     UPDATE accounts SET cents = cents + 1 WHERE id = {1}; INSERT INTO ticks VALUES ({0}); COMMIT",
                    fastrand::u64(1..=ACCOUNTS),
                    fastrand::u64(1..=ACCOUNTS)
                ))
                .await
                .unwrap();
            }
        })
    };
    let copies = std::env::var("STRONGROOM_BACKUP_COPIES").map_or(24, |number| number.parse().unwrap());
    let (mut last, mut grown) = (0, 0);
    for round in 0..copies {
        let writer = Writer::of(&home.path());
        let from = if round % 3 == 0 { &reads } else { &db };
        let options = BackupOptions::new().replace(true).step_pages(5 + round % 40).check(CheckDepth::Full);
        from.backup_with(copy_of(&home), options).await.unwrap();
        drop(writer);
        let copy = open(&copy_of(&home)).await;
        let number = async |sql: &str| copy.fetch_value::<i64>(sql, ()).await.unwrap().unwrap();
        let ticks = number("SELECT count(*) FROM ticks").await;
        assert_eq!(number("SELECT sum(cents) FROM accounts").await, (100 * ACCOUNTS).cast_signed(), "round {round}");
        assert_eq!(number("SELECT sum(moves) FROM accounts").await, ticks, "round {round}");
        assert!(ticks >= last, "round {round}: {ticks} after {last}");
        grown += u32::from(ticks > last);
        last = ticks;
        copy.close().await.unwrap();
    }
    own.abort();
    assert!(grown > copies / 2, "in {grown} rounds somebody wrote");
}

/// The copy has no page that fails its seal, wherever the original has it.
#[tokio::test]
async fn a_damaged_page_is_named_and_not_copied() {
    for (logged, plaintext) in [(false, false), (true, false), (false, true)] {
        let what = format!("logged {logged}, plaintext {plaintext}");
        let home = Home::new(Kind::KeyedFile);
        let db = growing(home.builder()).open().await.unwrap();
        filled(&db, 300).await;
        if !logged {
            db.close().await.unwrap();
            home.open().await.close().await.unwrap();
        }
        // The last frame of the log is the last of its page, too.
        let (path, at, page) = if logged {
            let log = std::fs::read(log_of(&home)).unwrap();
            let frame = log.len() - 24 - 4096;
            (log_of(&home), frame + 24 + 100, u32::from_be_bytes(log[frame..frame + 4].try_into().unwrap()))
        } else {
            (home.path(), 5 * 4096 + 100, 6)
        };
        // Not by a handle of this process, which would end the locks of the database.
        let flip =
            format!("printf '\\xa5\\x5a\\xa5' | dd of='{}' bs=1 seek={at} conv=notrunc status=none", path.display());
        assert!(Command::new("bash").args(["-c", &flip]).status().unwrap().success());
        let db = if logged { db } else { growing(home.builder()).open().await.unwrap() };
        let options = BackupOptions::new();
        let options = if plaintext { options.plaintext() } else { options };
        let error = db.backup_with(copy_of(&home), options).await.unwrap_err();
        assert_eq!(kinds(&error), (ErrorKind::Storage, Reason::Damaged), "{what}: {error}");
        assert!(
            plaintext || error.to_string().contains(&format!("the original is damaged: page {page} fails")),
            "{what}: {error}"
        );
        assert!(!copy_of(&home).exists(), "{what}");
    }
}
