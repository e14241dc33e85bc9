//! A busy process leaves the file to another one from time to time.
#![cfg(all(feature = "sqlcipher", unix))]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::{AsyncDatabase, apply_cipher_key, rusqlite};
use tempfile::TempDir;

#[path = "common/cipher.rs"]
mod cipher;
#[path = "common/other.rs"]
mod other;

use cipher::{create, keyed};
use other::key;

const CHILD: &str = "STRONGROOM_TEST_WRITER";
const FOR: Duration = Duration::from_millis(1500);

/// Does nothing unless started by [`start`]: writes by itself, with a little work of its own between two writes.
#[test]
fn the_other_writer() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let connection = rusqlite::Connection::open(path).unwrap();
    apply_cipher_key(&connection, &key()).unwrap();
    connection.execute_batch("INSERT INTO t VALUES ('theirs')").unwrap();
    println!("begun");
    let (began, mut commits) = (Instant::now(), 0);
    while began.elapsed() < FOR {
        connection.execute_batch("INSERT INTO t VALUES ('theirs')").unwrap();
        commits += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("commits: {commits}");
}

fn start(path: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_other_writer", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut says = BufReader::new(child.stdout.take().unwrap());
    line(&mut says, "begun");
    (child, says)
}

/// What stands behind the word on the next line that has it.
fn line(says: &mut impl std::io::BufRead, word: &str) -> String {
    let mut lines = says.lines().map(Result::unwrap);
    let found = lines.find_map(|line| line.split_once(word).map(|(_, rest)| rest.to_owned()));
    found.expect("the other process ended early")
}

/// The other's part of all commits, in percent, while three tasks write here.
async fn share<F: Future<Output = ()> + Send>(
    synchronous: Synchronous,
    write: impl Fn(AsyncDatabase) -> F + Copy + Send + 'static,
) -> u64 {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.db");
    create(keyed(&path, key())).await;
    let db = keyed(&path, key()).tuning(Tuning::default().synchronous(synchronous)).open().await.unwrap();
    let (mut child, mut says) = start(&path);
    let began = Instant::now();
    let busy = || {
        let db = db.clone();
        tokio::spawn(async move {
            let mut commits = 0;
            while began.elapsed() < FOR {
                write(db.clone()).await;
                commits += 1;
            }
            commits
        })
    };
    let (one, two, three) = tokio::try_join!(busy(), busy(), busy()).unwrap();
    let theirs: u64 = line(&mut says, "commits: ").parse().unwrap();
    assert!(child.wait().unwrap().success());
    let ours: u64 = one + two + three;
    db.close().await.unwrap();
    eprintln!("{synchronous:?}: {ours} here, {theirs} there");
    theirs * 100 / (ours + theirs)
}

/// Holds the lock for some milliseconds, so that it is almost never free.
const PUT: &str = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
                   SELECT 'mine' FROM n WHERE i = 5000";

#[tokio::test(flavor = "multi_thread")]
async fn another_process_that_writes_gets_its_part_of_the_commits_beside_busy_tasks() {
    for synchronous in [Synchronous::Full, Synchronous::Normal] {
        let share = share(synchronous, |db| async move {
            db.execute(PUT, ()).await.unwrap();
        })
        .await;
        assert!(share >= 10, "{synchronous:?}: {share} percent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_that_writes_gets_its_part_beside_busy_transactions() {
    let share = share(Synchronous::Full, |db| async move {
        db.transaction(async |tx| tx.execute(PUT, ()).await).await.unwrap();
    })
    .await;
    assert!(share >= 10, "{share} percent");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_that_writes_gets_its_part_beside_bulk_inserts() {
    let share = share(Synchronous::Full, |db| async move {
        let sets = (0..2000).map(|n| (format!("mine {n}"),));
        db.execute_many("INSERT INTO t VALUES ($1)", sets).await.unwrap();
    })
    .await;
    assert!(share >= 10, "{share} percent");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_that_writes_gets_its_part_beside_scripts_and_rusqlite() {
    let share = share(Synchronous::Full, |db| async move {
        db.execute_script(&format!("BEGIN; {PUT}; COMMIT")).await.unwrap();
        db.interact(|c| c.execute(PUT, ())).await.unwrap();
    })
    .await;
    assert!(share >= 10, "{share} percent");
}
