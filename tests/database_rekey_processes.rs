//! Processes that are killed while they change the key: the file opens with the old or the new one, and lacks no row. And a
//! process that has the file open: it goes on, and nothing is changed. One that lets go of it now and then works on under each new
//! key, if its source has that, and is told otherwise.
//!
//! `STRONGROOM_REKEY_KILLS` (6 by default) is the number of deaths at random moments, `STRONGROOM_KILL_SEED` replays them.
//! `STRONGROOM_REKEY_MB` (0 by default) makes the file that is worked with beside changes of its key larger by so much.
#![cfg(all(feature = "sqlcipher", feature = "sops", unix))]

mod common;
#[path = "common/killed.rs"]
mod killed;
#[path = "common/named.rs"]
mod named;
#[path = "common/other.rs"]
mod other;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{key, millis, numbers};
use killed::killed;
use named::Named;
use other::Other;
use strongroom::database::CheckDepth;
use strongroom::keys::CandidateKeySource;
use strongroom::keys::sops::{AgeIdentity, IdentitySources, SopsBackend};
use strongroom::sqlcipher::Tuning;
use strongroom::{
    AsyncDatabase, CachedKeySource, ErrorKind, FileKeySource, KeySource, PassphraseKeySource, Reason, Result, Secret,
    SopsKeySource,
};
use tempfile::TempDir;

const CHILD: &str = "STRONGROOM_TEST_REKEY";
const ROWS: u64 = 2000;
/// A child that nobody kills ends by itself.
const LONGEST: Duration = Duration::from_secs(30);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn open(path: &Path) -> AsyncDatabase {
    let both = CandidateKeySource::new(Named("one", 1)).or(Named("two", 2));
    AsyncDatabase::builder(path).key(both).open().await.unwrap()
}

/// Does nothing unless started by the test below.
#[test]
fn the_rekeying_process() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    runtime().block_on(async {
        let (db, began) = (open(Path::new(&path)).await, Instant::now());
        println!("\nready");
        for i in 0.. {
            let next = if db.key_source() == Some("one") { Named("two", 2) } else { Named("one", 1) };
            db.rekey(next).await.unwrap();
            let row = db.execute("INSERT INTO t VALUES (0, $1)", (format!("row {i}"),)).await.unwrap();
            println!("{}", row.last_insert_id.unwrap());
            assert!(began.elapsed() < LONGEST, "nobody has killed this process");
        }
    });
}

/// Has a process change the key again and again, kills it so long after it began, and says which rows it reported.
fn rekeyed(path: &Path, after: Duration) -> Vec<u64> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_rekeying_process", "--nocapture"]).env(CHILD, path);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "ready"), "the process did not come to that");
    let gone = killed(&mut child, Instant::now(), after);
    assert!(!gone.success() && gone.code().is_none(), "it failed: {gone}");
    lines.filter_map(|line| line.parse().ok()).collect()
}

#[test]
fn a_file_whose_key_was_being_changed_when_the_process_was_killed_has_the_old_or_the_new_one() {
    let (rounds, seed) = (number("STRONGROOM_REKEY_KILLS", 6), number("STRONGROOM_KILL_SEED", fastrand::u64(..)));
    let (mut random, home) = (fastrand::Rng::with_seed(seed), tempfile::tempdir().unwrap());
    let path = home.path().join("app.db");
    runtime().block_on(async {
        let db = open(&path).await;
        db.execute_script(&format!("CREATE TABLE t AS SELECT i, hex(i) h FROM ({})", numbers(ROWS))).await.unwrap();
        db.close().await.unwrap();
    });
    let (mut least, mut reported) = (ROWS, 0);
    for round in 0..rounds {
        let after = Duration::from_micros(random.u64(..60_000));
        let what = format!("seed {seed}, round {round}, killed after {after:?}");
        let rows = rekeyed(&path, after);
        reported += rows.len();
        least = rows.into_iter().max().unwrap_or(least).max(least);
        runtime().block_on(async {
            let db = open(&path).await;
            let (count, sum): (u64, u64) = {
                let row = db.fetch_one("SELECT count(*), sum(i) FROM t", ()).await.unwrap().unwrap();
                (row.get(0).unwrap(), row.get(1).unwrap())
            };
            assert!(count >= least && sum == ROWS * (ROWS + 1) / 2, "{what}: {count} rows of {least}");
            least = count;
            let report = db.check(CheckDepth::Full).await.unwrap();
            assert!(report.is_ok(), "{what}: {report:?}");
            db.close().await.unwrap();
        });
        let left: Vec<_> = home.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["app.db"], "{what}");
    }
    println!("{reported} changes of key were reported in {rounds} rounds");
}

#[test]
fn the_other_process() {
    other::be_the_other_process();
}

#[test]
fn a_file_that_another_process_has_open_keeps_its_key_and_both_work_on() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("app.db");
    runtime().block_on(async {
        let impatient = Tuning::default().busy_timeout(millis(10));
        let db = AsyncDatabase::builder(&path).key(key()).tuning(impatient).open().await.unwrap();
        db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES ('row')").await.unwrap();
        let mut other = Other::open(&path);
        let new = || PassphraseKeySource::new(Secret::raw_key([2; 32]));
        for _ in 0..2 {
            let error = db.rekey(new()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
            let text = error.to_string();
            assert!(
                text.contains("another connection has the file open; close it there, in another process"),
                "{text}"
            );
            assert!(error.is_transient());
            other.run("INSERT INTO t VALUES ('theirs')");
            db.execute("INSERT INTO t VALUES ('ours')", ()).await.unwrap();
        }
        // Also one that holds a transaction, and one that dies in it.
        other.run("BEGIN; SELECT * FROM t");
        assert_eq!(db.rekey(new()).await.unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(common::count(&db).await, 5);
        other.kill();
        db.rekey(new()).await.unwrap();
        assert_eq!(common::count(&db).await, 5);
        db.close().await.unwrap();
        let db = AsyncDatabase::builder(&path).key(new()).open().await.unwrap();
        assert_eq!(common::count(&db).await, 5);
    });
}

const BESIDE: &str = "STRONGROOM_TEST_BESIDE";

/// Works with the file that is named, by the key in the file that stands beside it, until that is to stop; lets go of it now
/// and then. Does nothing unless started by the test below.
#[test]
fn the_process_beside() {
    let Some(path) = std::env::var_os(BESIDE) else { return };
    let path = Path::new(&path);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let db = AsyncDatabase::builder(path).key(the_key(path)).pool_max(4).open().await.unwrap();
        let (began, mut rows) = (Instant::now(), 0);
        println!("\nready");
        while !path.with_extension("stop").exists() {
            let tasks: Vec<_> = (0..8).map(|i| tokio::spawn(work(db.clone(), i % 2 == 0))).collect();
            for task in tasks {
                rows += task.await.unwrap().unwrap();
            }
            db.suspend().await.unwrap();
            tokio::time::sleep(millis(20)).await;
            assert!(began.elapsed() < 4 * LONGEST, "nobody has stopped this process");
        }
        db.close().await.unwrap();
        println!("{rows}");
    });
}

/// In a file of its own; or, where an identity stands beside the database, in a SOPS file, remembered for longer than the test
/// takes.
fn the_key(path: &Path) -> Box<dyn KeySource> {
    let identity = path.with_extension("identity");
    let Ok(text) = std::fs::read_to_string(&identity) else {
        return Box::new(FileKeySource::new(path.with_extension("key")).raw_key().create_if_missing(true));
    };
    let identities = IdentitySources::none().secret(text);
    let source = SopsKeySource::at(path.with_extension("yaml")).identities(identities).backend(SopsBackend::Native);
    let recipient = std::fs::read_to_string(path.with_extension("recipient")).unwrap();
    Box::new(CachedKeySource::new(source.create_if_missing(true).recipients([recipient]), 100 * LONGEST))
}

/// Gives the key of one database to another.
fn copy_key(from: &Path, to: &Path) {
    for part in ["key", "yaml", "identity", "recipient"].map(|end| (from.with_extension(end), to.with_extension(end))) {
        if part.0.exists() {
            std::fs::copy(part.0, part.1).unwrap();
        }
    }
}

/// Writes some rows, or reads what must be there; says how many were written.
async fn work(db: AsyncDatabase, writes: bool) -> Result<u64> {
    for _ in 0..4 {
        if writes {
            db.execute("INSERT INTO t VALUES (0, 'more')", ()).await?;
        } else {
            let sum: Option<u64> = db.fetch_value("SELECT sum(i) FROM t", ()).await?;
            assert_eq!(sum, Some(ROWS * (ROWS + 1) / 2));
        }
    }
    Ok(if writes { 4 } else { 0 })
}

#[test]
fn a_process_beside_twenty_changes_of_key_works_on_and_one_with_the_old_key_is_told() {
    let home = TempDir::new().unwrap();
    changes_beside_others(&home, 20);
}

#[test]
fn a_process_beside_changes_of_a_key_in_a_sops_file_works_on_and_one_with_the_old_key_is_told() {
    let (home, identity) = (TempDir::new().unwrap(), AgeIdentity::generate());
    identity.write(home.path().join("app.identity")).unwrap();
    std::fs::write(home.path().join("app.recipient"), identity.recipient()).unwrap();
    changes_beside_others(&home, 8);
    assert!(home.path().join("app.yaml").exists() && !home.path().join("app.key").exists());
}

fn changes_beside_others(home: &TempDir, wanted: usize) {
    let megabytes = number("STRONGROOM_REKEY_MB", 0);
    let (path, old) = (home.path().join("app.db"), home.path().join("old.db"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let db = AsyncDatabase::builder(&path).key(the_key(&path)).pool_max(4).open().await.unwrap();
        db.execute_script(&format!("CREATE TABLE t AS SELECT i, hex(i) h FROM ({})", numbers(ROWS))).await.unwrap();
        let more = format!("CREATE TABLE more AS SELECT i, randomblob(1000) z FROM ({})", numbers(900 * megabytes));
        if megabytes > 0 {
            db.execute_script(&more).await.unwrap();
            db.checkpoint().await.unwrap();
            let file = path.metadata().unwrap().len();
            assert!(file >= megabytes * 1_000_000, "{file} bytes");
        }
        // Has the old key only, and does not notice the first changes.
        copy_key(&path, &old);
        let late = AsyncDatabase::builder(&path).key(the_key(&old)).open().await.unwrap();
        assert_eq!(common::count(&late).await, ROWS.cast_signed());
        late.suspend().await.unwrap();

        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_process_beside", "--nocapture"]).env(BESIDE, &path);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line == "ready"), "the process did not come to that");

        let stop = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..32)
            .map(|i| {
                let (db, stop) = (db.clone(), Arc::clone(&stop));
                tokio::spawn(async move {
                    let mut rows = 0;
                    while !stop.load(SeqCst) {
                        rows += work(db.clone(), i % 4 == 0).await?;
                        tokio::time::sleep(millis(20)).await;
                    }
                    Ok::<_, strongroom::Error>(rows)
                })
            })
            .collect();
        let (mut changes, mut busy, began) = (0, 0, Instant::now());
        while changes < wanted {
            match db.rekey_fresh(the_key(&path)).await {
                Ok(_) => changes += 1,
                Err(error) if error.kind() == ErrorKind::Busy => busy += 1,
                Err(error) => panic!("after {changes} changes: {error}"),
            }
            assert!(began.elapsed() < 3 * LONGEST, "{changes} changes, {busy} times in the way");
        }
        stop.store(true, SeqCst);
        let mut rows = ROWS;
        for task in tasks {
            rows += task.await.unwrap().unwrap();
        }
        std::fs::write(path.with_extension("stop"), "").unwrap();
        let theirs: u64 = lines.find_map(|line| line.parse().ok()).expect("the process beside has failed");
        assert!(child.wait().unwrap().success());
        println!(
            "{} rows, {theirs} of the process beside, {busy} times in the way, {:?}",
            rows - ROWS,
            began.elapsed()
        );
        assert!(theirs > 0);
        assert_eq!(common::count(&db).await, (rows + theirs).cast_signed());
        assert_eq!(db.stats().total_errors, 0, "{:?}", db.stats());
        assert!(db.check(CheckDepth::Full).await.unwrap().is_ok());
        db.close().await.unwrap();

        let error = late.execute("DELETE FROM t", ()).await.unwrap_err();
        assert_eq!(error.reason(), Reason::WrongKey, "{error}");
        let text = error.to_string();
        assert!(text.contains("the key of the file was changed by another process"), "{text}");
        assert!(text.contains("does not offer the new one; store the new key there"), "{text}");
        copy_key(&path, &old);
        assert_eq!(common::count(&late).await, (rows + theirs).cast_signed());
    });
}
