//! A checker of what listeners are told, whatever happens: writers in two processes, listeners and watchers in both, calls
//! that are dropped half-way, transactions that are rolled back, savepoints, groups.
//!
//! After quiet, every watcher shows the final state. The events of a process add up to exactly what it committed itself, in
//! order and without a gap.
//!
//! `STRONGROOM_CHECK_SECONDS` (2 by default) is the time of a run, `STRONGROOM_CHECK_SEED` replays one.
#![cfg(feature = "sqlcipher")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use strongroom::database::{ChangeKind, ChangeOptions};
use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::{AsyncDatabase, ErrorKind, PassphraseKeySource, Secret};
use tokio::time::timeout;

const FILE: &str = "STRONGROOM_OBSERVED_FILE";
const TASKS: u64 = 6;
const KEY: [u8; 32] = [9; 32];
const PATIENCE: Duration = Duration::from_secs(20);

fn seconds() -> u64 {
    std::env::var("STRONGROOM_CHECK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

fn seed() -> u64 {
    let now = || u64::from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos());
    std::env::var("STRONGROOM_CHECK_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(now) | 1
}

async fn open(path: &Path) -> AsyncDatabase {
    let tuning = Tuning::default().synchronous(Synchronous::Normal);
    let key = PassphraseKeySource::new(Secret::raw_key(KEY));
    AsyncDatabase::builder(path).key(key).tuning(tuning).pool_max(5).pool_timeout(PATIENCE).open().await.unwrap()
}

/// What this process is certain to have committed, and what may have been, of calls that were dropped.
#[derive(Default)]
struct Done {
    stop: AtomicBool,
    /// Rows inserted, less rows deleted, into `rows`.
    certain: AtomicI64,
    doubtful: AtomicI64,
}

/// One process: it writes, listens and watches, until the time is over, and then looks whether all is as it was told.
async fn observe(path: &Path, seed: u64, origin: i64) {
    let db = open(path).await;
    let done = Arc::new(Done::default());
    let options = ChangeOptions::new().rows(origin == 1).capacity(8).look_every(Duration::from_millis(5));
    let mut changes = db.changes_with(options).await.unwrap();
    let listener = tokio::spawn({
        let done = Arc::clone(&done);
        async move {
            let (mut sequence, mut told, mut merged) = (0, 0, 0);
            // The tasks mark the end by a row of their own.
            loop {
                let change = timeout(PATIENCE, changes.next()).await.expect("the end is told").unwrap();
                assert_eq!(change.sequence, sequence + change.commits, "seed {seed}: an event is missing");
                sequence = change.sequence;
                merged += u64::from(change.is_merged());
                if let Some(rows) = change.table("rows") {
                    assert!(rows.exact, "{rows:?}");
                    told += i64::try_from(rows.inserted).unwrap() - i64::try_from(rows.deleted).unwrap();
                    for row in rows.rows.iter().flatten() {
                        assert_ne!(row.kind, ChangeKind::Update, "{row:?}");
                    }
                }
                assert!(change.table("undone").is_none(), "seed {seed}: what was rolled back was told: {change:?}");
                if change.touches("finished") && change.table("finished").is_some() && done.stop.load(SeqCst) {
                    return (told, sequence, merged);
                }
                if sequence % 64 == 0 {
                    // Slow now and then, so that events are merged.
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            }
        }
    });
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| tokio::spawn(work(db.clone(), Arc::clone(&done), Random(seed.wrapping_mul(task + 1) | 1), origin)))
        .collect();
    tokio::time::sleep(Duration::from_secs(seconds())).await;
    done.stop.store(true, SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    db.execute("INSERT INTO finished VALUES ($1)", (origin,)).await.unwrap();
    let (told, commits, merged) = listener.await.unwrap();
    let (certain, doubtful) = (done.certain.load(SeqCst), done.doubtful.load(SeqCst));
    println!(
        "process {origin}: {commits} events, {merged} merged, {told} told, {certain} certain, {doubtful} in doubt"
    );
    assert!((told - certain).abs() <= doubtful, "seed {seed}: {told} told, {certain} certain, {doubtful} in doubt");
    // The rows say of which process they are: what it has told is what is there.
    let mine = db.fetch_value::<i64>("SELECT count(*) FROM rows WHERE origin = $1", (origin,)).await.unwrap().unwrap();
    assert_eq!(told, mine, "seed {seed}: the events do not add up to what was committed");
    assert!(commits > 50, "hardly anything was checked");
    db.close().await.unwrap();
}

async fn work(db: AsyncDatabase, done: Arc<Done>, mut random: Random, origin: i64) {
    while !done.stop.load(SeqCst) {
        let written = match random.below(10) {
            0..4 => db.execute("INSERT INTO rows (origin) VALUES ($1)", (origin,)).await.map(|_| 1),
            4 => {
                let sql = "DELETE FROM rows WHERE id = (SELECT max(id) FROM rows WHERE origin = $1)";
                db.execute(sql, (origin,)).await.map(|changes| -i64::try_from(changes.rows_affected).unwrap())
            }
            5 => db.execute_many("INSERT INTO rows (origin) VALUES ($1)", [(origin,); 20]).await.map(|_| 20),
            6 => db.transaction(async |tx| nested(tx, origin).await).await.map(|()| 1),
            7 => {
                let undone = db.transaction(async |tx| {
                    tx.execute("INSERT INTO undone VALUES ($1)", (origin,)).await?;
                    tx.execute("INSERT INTO rows (origin) VALUES (NULL)", ()).await
                });
                assert!(undone.await.is_err());
                Ok(0)
            }
            8 => {
                done.doubtful.fetch_add(3, SeqCst);
                let sql = "INSERT INTO rows (origin) VALUES ($1), ($1), ($1)";
                let patience = Duration::from_micros(random.below(400));
                match timeout(patience, db.execute(sql, (origin,))).await {
                    Ok(Ok(_)) => {
                        done.doubtful.fetch_sub(3, SeqCst);
                        Ok(3)
                    }
                    _ => Ok(0),
                }
            }
            _ => db.checkpoint().await.map(|_| 0),
        };
        match written {
            Ok(rows) => {
                done.certain.fetch_add(rows, SeqCst);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error}"),
        }
    }
}

async fn nested(tx: &mut strongroom::Transaction, origin: i64) -> strongroom::Result<()> {
    tx.execute("INSERT INTO rows (origin) VALUES ($1)", (origin,)).await?;
    let mut inner = tx.begin().await?;
    inner.execute("INSERT INTO undone VALUES ($1)", (origin,)).await?;
    inner.rollback().await
}

/// Watches until both processes have finished, and then looks whether it shows the end.
async fn watch(path: &Path) {
    let db = open(path).await;
    let look = Duration::from_millis(5);
    let mut count = db.watch_as::<(i64, i64)>("SELECT count(*), coalesce(sum(id), 0) FROM rows", ()).look_every(look);
    let mut finished = db.watch_as::<i64>("SELECT count(*) FROM finished", ()).look_every(look);
    let mut shown = None;
    loop {
        tokio::select! {
            biased;
            both = finished.next() => if both.unwrap().unwrap() == [2] { break },
            result = count.next() => shown = Some(result.unwrap().unwrap()),
        }
    }
    // It is quiet now: within a moment, the last state has been shown.
    let last = db.fetch_all_as::<(i64, i64)>("SELECT count(*), coalesce(sum(id), 0) FROM rows", ()).await.unwrap();
    while shown.as_ref() != Some(&last) {
        shown = Some(timeout(PATIENCE, count.next()).await.expect("the last state is shown").unwrap().unwrap());
    }
    assert!(timeout(Duration::from_millis(100), count.next()).await.is_err(), "something comes after the last state");
    db.close().await.unwrap();
}

fn process(path: &Path, seed: u64, origin: i64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (first, second) = (path.to_owned(), path.to_owned());
        let watchers =
            [tokio::spawn(async move { watch(&first).await }), tokio::spawn(async move { watch(&second).await })];
        observe(path, seed, origin).await;
        for watcher in watchers {
            timeout(2 * PATIENCE, watcher).await.expect("the watchers see the end").unwrap();
        }
    });
}

#[test]
fn every_listener_is_told_what_was_committed_and_every_watcher_shows_the_end() {
    let (directory, seed) = (tempfile::tempdir().unwrap(), seed());
    let path = directory.path().join("observed.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let db = open(&path).await;
        db.execute_script(
            "CREATE TABLE rows (id INTEGER PRIMARY KEY, origin INTEGER NOT NULL); CREATE INDEX by_origin ON rows (origin);
             CREATE TABLE undone (a); CREATE TABLE finished (origin)",
        )
        .await
        .unwrap();
        db.close().await.unwrap();
    });
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_other_process", "--nocapture"])
        .env(FILE, &path)
        .env("STRONGROOM_CHECK_SEED", seed.to_string())
        .stdout(Stdio::inherit())
        .spawn()
        .unwrap();
    process(&path, seed, 1);
    assert!(other.wait().unwrap().success(), "seed {seed}: the other process says why");
}

/// Does nothing unless it is started by the test above.
#[test]
fn the_other_process() {
    if let Some(path) = std::env::var_os(FILE) {
        process(Path::new(&path), seed().wrapping_mul(31) | 1, 2);
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
