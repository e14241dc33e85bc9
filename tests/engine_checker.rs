//! A checker of what readers may see, whatever short cuts are taken: nothing older than what was acknowledged before
//! the read began, nothing that was never written, and no transaction in half.
//!
//! Tasks of this process and a second process work on one file: counters are incremented, amounts are moved, and
//! meanwhile the log is cut back, the file is vacuumed and calls are dropped half-way.
//!
//! `STRONGROOM_CHECK_SECONDS` (2 by default) is the time of each run, `STRONGROOM_CHECK_SEED` replays one.
#![cfg(feature = "sqlcipher")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "numbers here are small"
)]

#[path = "common/itself.rs"]
mod itself;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::{AsyncDatabase, ErrorKind, PassphraseKeySource, Secret};

const COUNTERS: usize = 8;
const ACCOUNTS: i64 = 10;
const TOTAL: i64 = 1000 * ACCOUNTS;
const TASKS: u64 = 16;
const KEY: [u8; 32] = [9; 32];

/// What was acknowledged to anybody, and what was at least asked for.
#[derive(Default)]
struct Known {
    acknowledged: [AtomicI64; COUNTERS],
    asked: [AtomicI64; COUNTERS],
    reads: AtomicU64,
    writes: AtomicU64,
    stop: AtomicBool,
}

impl Known {
    fn is_enough(&self) -> bool {
        self.reads.load(SeqCst) > 100 && self.writes.load(SeqCst) > 20
    }
}

fn seconds() -> u64 {
    std::env::var("STRONGROOM_CHECK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

fn seed() -> u64 {
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    std::env::var("STRONGROOM_CHECK_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(now) | 1
}

async fn open(path: &Path, encrypted: bool, tuning: Tuning) -> AsyncDatabase {
    // Nothing here takes a second, but on an emulated processor that others use, too.
    let mut builder = AsyncDatabase::builder(path).tuning(tuning).pool_max(5).pool_timeout(Duration::from_secs(60));
    if encrypted {
        builder = builder.key(PassphraseKeySource::new(Secret::raw_key(KEY)));
    }
    builder.open().await.unwrap()
}

async fn set_up(db: &AsyncDatabase) {
    db.execute_script(
        "CREATE TABLE counters (k INTEGER PRIMARY KEY, v INTEGER NOT NULL);
         CREATE TABLE accounts (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL);
         CREATE TABLE padding (id INTEGER PRIMARY KEY, text TEXT);
         CREATE TABLE batches (batch INTEGER NOT NULL, size INTEGER NOT NULL)",
    )
    .await
    .unwrap();
    db.execute_many("INSERT INTO counters VALUES ($1, 0)", (0..COUNTERS as i64).map(|k| (k,))).await.unwrap();
    db.execute_many("INSERT INTO accounts VALUES ($1, 1000)", (0..ACCOUNTS).map(|id| (id,))).await.unwrap();
}

/// One run; the tuning says which short cuts are taken.
fn check(name: &str, encrypted: bool, tuning: Tuning) {
    let seed = seed();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checked.db");
    let known = Arc::new(Known::default());
    runtime.block_on(async {
        let db = open(&path, encrypted, tuning).await;
        set_up(&db).await;
        let child = spawn_other_process(&path, encrypted, Arc::clone(&known));
        let workers: Vec<_> = (0..TASKS)
            .map(|task| {
                let random = Random(seed.wrapping_mul(task + 1) | 1);
                tokio::spawn(work(db.clone(), Arc::clone(&known), random, task))
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(seconds())).await;
        // An emulated processor takes longer to do anything.
        for _ in 0..600 {
            if known.is_enough() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        known.stop.store(true, SeqCst);
        for worker in workers {
            worker.await.unwrap_or_else(|error| panic!("{name}, seed {seed}: {error}"));
        }
        end_other_process(child);
        let sum: Option<i64> = db.fetch_value("SELECT sum(cents) FROM accounts", ()).await.unwrap();
        assert_eq!(sum, Some(TOTAL), "{name}, seed {seed}: money was lost or made");
        let health: Option<String> = db.fetch_value("PRAGMA integrity_check", ()).await.unwrap();
        assert_eq!(health.as_deref(), Some("ok"), "{name}, seed {seed}");
        let stats = db.stats();
        assert_eq!(stats.total_acquired - stats.total_released, u64::from(stats.active_connections));
        assert_all_back(&db, name, seed).await;
        let report = db.close_within(Duration::from_secs(60)).await.unwrap();
        assert!(report.is_clean(), "{name}, seed {seed}: {report:?}, {:?}", db.stats());
    });
    let (reads, writes) = (known.reads.load(SeqCst), known.writes.load(SeqCst));
    println!("{name}: {reads} reads, {writes} writes, seed {seed}");
    assert!(known.is_enough(), "{name}: hardly anything was checked");
}

/// Nobody works any more, so every connection comes back, also those whose calls were dropped.
async fn assert_all_back(db: &AsyncDatabase, name: &str, seed: u64) {
    for _ in 0..500 {
        if db.stats().active_connections == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut lent = Vec::new();
    loop {
        match db.read_connection().await {
            Ok(connection) => lent.push(connection),
            Err(error) => panic!("{name}, seed {seed}: {error}, {:?}", db.stats()),
        }
    }
}

async fn work(db: AsyncDatabase, known: Arc<Known>, mut random: Random, task: u64) {
    while !known.stop.load(SeqCst) {
        let k = random.below(COUNTERS as u64) as usize;
        match random.below(100) {
            0..55 => read(&db, &known, k).await,
            55..75 => increment(&db, &known, k).await,
            75..83 => transfer(&db, &mut random).await,
            83..89 => sum(&db).await,
            89..93 => drop_half_way(&db, &known, k, &mut random).await,
            93..95 => in_one_view(&db, k).await,
            95..97 => raw(&db, &known, k).await,
            97 if task == 0 => maintain(&db, &mut random).await,
            98 => bulk(&db, &mut random).await,
            _ => pad(&db, &mut random).await,
        }
    }
}

/// Never older than what was acknowledged before the call, never more than was asked for before its end.
async fn read(db: &AsyncDatabase, known: &Known, k: usize) {
    let before = known.acknowledged[k].load(SeqCst);
    let seen = db.fetch_value::<i64>("SELECT v FROM counters WHERE k = $1", (k as i64,)).await.unwrap().unwrap();
    let asked = known.asked[k].load(SeqCst);
    assert!(seen >= before, "counter {k}: read {seen} after {before} was acknowledged");
    assert!(seen <= asked, "counter {k}: read {seen}, but only {asked} increments were asked for");
    known.reads.fetch_add(1, SeqCst);
}

const INCREMENT: &str = "UPDATE counters SET v = v + 1 WHERE k = $1 RETURNING v";

async fn increment(db: &AsyncDatabase, known: &Known, k: usize) {
    known.asked[k].fetch_add(1, SeqCst);
    let now = db.fetch_value::<i64>(INCREMENT, (k as i64,)).await.unwrap().unwrap();
    known.acknowledged[k].fetch_max(now, SeqCst);
    known.writes.fetch_add(1, SeqCst);
}

async fn transfer(db: &AsyncDatabase, random: &mut Random) {
    let (from, to) = (random.below(ACCOUNTS as u64) as i64, random.below(ACCOUNTS as u64) as i64);
    let fails = random.below(4) == 0;
    let outcome = db
        .transaction(async |tx| {
            tx.execute("UPDATE accounts SET cents = cents - 1 WHERE id = $1", (from,)).await?;
            if fails {
                return Err(strongroom::Error::new(ErrorKind::Query, "changed my mind"));
            }
            tx.execute("UPDATE accounts SET cents = cents + 1 WHERE id = $1", (to,)).await?;
            Ok(())
        })
        .await;
    assert_eq!(outcome.is_err(), fails, "{outcome:?}");
}

async fn sum(db: &AsyncDatabase) {
    let sum: Option<i64> = db.fetch_value("SELECT sum(cents) FROM accounts", ()).await.unwrap();
    assert_eq!(sum, Some(TOTAL), "half a transfer was seen");
}

/// Inserts many rows in one call, or is dropped in the middle of it; others see all of them or none.
async fn bulk(db: &AsyncDatabase, random: &mut Random) {
    let (batch, size) = (random.below(1 << 40) as i64, 1 + random.below(3000) as i64);
    let rows = std::iter::repeat_n((batch, size), size as usize);
    let inserting = db.execute_many("INSERT INTO batches VALUES ($1, $2)", rows);
    let patience = Duration::from_millis(if random.below(2) == 0 { 1 } else { 10_000 });
    if let Ok(done) = tokio::time::timeout(patience, inserting).await {
        assert_eq!(done.unwrap().rows_affected, size as u64);
    }
    let halves = "SELECT count(*) FROM (SELECT 1 FROM batches GROUP BY batch, size HAVING count(*) <> size)";
    assert_eq!(db.fetch_value::<i64>(halves, ()).await.unwrap(), Some(0), "half a bulk insert was seen");
    if random.below(4) == 0 {
        db.execute("DELETE FROM batches", ()).await.unwrap();
    }
}

/// Polls a call a few times and drops it. What it did is not known, so nothing is acknowledged.
async fn drop_half_way(db: &AsyncDatabase, known: &Known, k: usize, random: &mut Random) {
    let polls = random.below(3);
    known.asked[k].fetch_add(1, SeqCst);
    let mut call = Box::pin(db.fetch_value::<i64>(INCREMENT, (k as i64,)));
    for _ in 0..=polls {
        if futures_util::poll!(call.as_mut()).is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// A read transaction does not move.
async fn in_one_view(db: &AsyncDatabase, k: usize) {
    let mut tx = db.begin_with(strongroom::engine::TransactionMode::READ).await.unwrap();
    let sql = "SELECT v FROM counters WHERE k = $1";
    let first: Option<i64> = tx.fetch_value(sql, (k as i64,)).await.unwrap();
    tokio::time::sleep(Duration::from_micros(300)).await;
    let second: Option<i64> = tx.fetch_value(sql, (k as i64,)).await.unwrap();
    assert_eq!(first, second, "the view of a read transaction moved");
    tx.commit().await.unwrap();
}

async fn raw(db: &AsyncDatabase, known: &Known, k: usize) {
    known.asked[k].fetch_add(1, SeqCst);
    let mut conn = db.connection().await.unwrap();
    let now = conn.fetch_value::<i64>(INCREMENT, (k as i64,)).await.unwrap().unwrap();
    drop(conn);
    known.acknowledged[k].fetch_max(now, SeqCst);
    known.writes.fetch_add(1, SeqCst);
}

/// What changes the file as a whole. The other process may be in the way; that is an answer, not a failure.
async fn maintain(db: &AsyncDatabase, random: &mut Random) {
    let sql = match random.below(4) {
        0 => "VACUUM",
        1 => "PRAGMA wal_checkpoint(RESTART)",
        _ => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    match db.execute(sql, ()).await {
        Ok(_) => {}
        Err(error) => assert!(matches!(error.kind(), ErrorKind::Busy), "{sql}: {error:?}"),
    }
}

async fn pad(db: &AsyncDatabase, random: &mut Random) {
    let text = "x".repeat(random.below(3000) as usize);
    db.execute("INSERT INTO padding (text) VALUES ($1)", (text,)).await.unwrap();
    if random.below(50) == 0 {
        db.execute_script("CREATE TABLE IF NOT EXISTS later (a); DROP TABLE later").await.unwrap();
        db.execute("DELETE FROM padding", ()).await.unwrap();
    }
}

/// The test itself, as another process: increments, and tells what was acknowledged through a pipe.
fn spawn_other_process(path: &Path, encrypted: bool, known: Arc<Known>) -> Child {
    let mut child = itself::again(module_path!(), "the_other_process")
        .env("STRONGROOM_CHECK_FILE", path)
        .env("STRONGROOM_CHECK_ENCRYPTED", if encrypted { "1" } else { "0" })
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut answers = child.stdin.take();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let mut words = line.split(' ');
            let numbers = (words.next(), words.next().and_then(|k| k.parse::<usize>().ok()), words.next());
            match numbers {
                (Some("ask"), Some(k), _) => {
                    known.asked[k].fetch_add(1, SeqCst);
                    // Only now may the row be seen. No answer: it is over.
                    answers = answers.filter(|_| !known.stop.load(SeqCst));
                    if let Some(stdin) = &mut answers {
                        writeln!(stdin, "go").unwrap();
                    }
                }
                (Some("ack"), Some(k), Some(v)) => {
                    known.acknowledged[k].fetch_max(v.parse().unwrap(), SeqCst);
                    known.writes.fetch_add(1, SeqCst);
                }
                _ => {}
            }
        }
    });
    child
}

fn end_other_process(mut child: Child) {
    assert!(child.wait().unwrap().success(), "the other process failed");
}

/// Does nothing unless started by `spawn_other_process`; ends when it is not answered any more.
#[test]
fn the_other_process() {
    let Some(path) = std::env::var_os("STRONGROOM_CHECK_FILE") else { return };
    let encrypted = std::env::var("STRONGROOM_CHECK_ENCRYPTED").is_ok_and(|value| value == "1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let db = open(Path::new(&path), encrypted, Tuning::default().synchronous(Synchronous::Normal)).await;
        let mut random = Random(0x5EED);
        loop {
            let k = random.below(COUNTERS as u64);
            say(&format!("ask {k}"));
            if std::io::stdin().read_line(&mut String::new()).unwrap() == 0 {
                break;
            }
            match db.fetch_value::<i64>(INCREMENT, (k as i64,)).await {
                Ok(now) => say(&format!("ack {k} {}", now.unwrap())),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Busy, "{error:?}"),
            }
        }
        db.close().await.unwrap();
    });
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The parent may have gone.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
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

fn normal() -> Tuning {
    Tuning::default().synchronous(Synchronous::Normal)
}

#[test]
fn readers_never_see_the_past_with_every_short_cut() {
    let all = normal().inline_reads(true).inline_writes(true).kept_snapshots(true).group_commit(true);
    check("all, plain", false, all.clone());
    check("all, encrypted", true, all.clone());
    check("all, FULL", false, all.clone().synchronous(Synchronous::Full));
    check("all, FULL with shared syncs", false, all.synchronous(Synchronous::FullShared));
}

#[test]
fn readers_never_see_the_past_with_each_short_cut_alone() {
    check("none", false, normal().plain());
    check("inline reads", false, normal().plain().inline_reads(true));
    check("kept snapshots", false, normal().plain().inline_reads(true).kept_snapshots(true));
    check("inline writes", false, normal().plain().inline_writes(true));
    check("group commit", false, normal().plain().group_commit(true));
}
