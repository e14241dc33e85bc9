//! The library beside rusqlite called directly, in one interleaved run: medians of rounds, as ratios.
//!
//! `cargo bench --bench ratios -- [name...]` prints one line per workload. "Direct" is rusqlite called synchronously
//! with a cached statement in autocommit on one thread. `STRONGROOM_BENCH_ROUNDS` sets the rounds (5 by default),
//! `STRONGROOM_BENCH_SECONDS` the length of one (0.5 by default).
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "numbers here are small"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::{AsyncDatabase, PassphraseKeySource, Secret, rusqlite};

const TASKS: u64 = 32;
const KEY: [u8; 32] = [7; 32];

#[derive(Clone, Copy)]
struct Setup {
    rows: u64,
    full: bool,
    encrypted: bool,
}

/// What one round measured.
#[derive(Clone, Copy, Default)]
struct Round {
    /// Operations per second.
    rate: f64,
    p50: f64,
    p99: f64,
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let plain = Setup { rows: 1000, full: false, encrypted: false };
    let secret = Setup { encrypted: true, ..plain };
    let works: [(&str, Setup, Work, bool); 14] = [
        ("point read, 1 task", plain, Work::Reads { tasks: 1 }, false),
        ("point read, 32 tasks", plain, Work::Reads { tasks: TASKS }, true),
        ("point read of 100,000 rows, 32 tasks", Setup { rows: 100_000, ..plain }, Work::Reads { tasks: TASKS }, true),
        ("insert, 32 tasks, NORMAL", plain, Work::Inserts { tasks: TASKS }, true),
        ("insert, 32 tasks, FULL", Setup { full: true, ..plain }, Work::Inserts { tasks: TASKS }, true),
        ("insert, 1 task, NORMAL", plain, Work::Inserts { tasks: 1 }, false),
        ("insert, 1 task, FULL", Setup { full: true, ..plain }, Work::Inserts { tasks: 1 }, false),
        ("90/10, 32 tasks", plain, Work::Mixed, true),
        ("100,000 inserts in one call", plain, Work::Bulk, false),
        ("fetch 100,000 rows", Setup { rows: 100_000, ..plain }, Work::Fetch, false),
        ("encrypted point read, 1 task", secret, Work::Reads { tasks: 1 }, false),
        ("encrypted insert, 32 tasks, NORMAL", secret, Work::Inserts { tasks: TASKS }, true),
        ("encrypted 90/10, 32 tasks", secret, Work::Mixed, true),
        (
            "encrypted point read of 100,000 rows, 32 tasks",
            Setup { rows: 100_000, ..secret },
            Work::Reads { tasks: TASKS },
            true,
        ),
    ];
    println!("{:48} {:>12} {:>12} {:>7}  {:>9} {:>9}", "work", "direct", "strongroom", "ratio", "p50 us", "p99 us");
    for (name, setup, work, by_rate) in works {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let (direct_path, our_path) = (directory.path().join("direct.db"), directory.path().join("ours.db"));
        let direct = prepare_direct(&direct_path, setup);
        let ours = runtime.block_on(prepare_ours(&our_path, setup));
        let (mut directs, mut mine, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds() {
            let one = work.direct(&direct, setup);
            let other = runtime.block_on(work.ours(&ours, setup));
            ratios.push(if by_rate { other.rate / one.rate } else { other.p50 / one.p50 });
            directs.push(one);
            mine.push(other);
        }
        runtime.block_on(ours.close()).unwrap();
        let unit = |round: &Round| if by_rate { round.rate } else { round.p50 };
        println!(
            "{name:48} {:>12.2} {:>12.2} {:>7.2}  {:>9.2} {:>9.1}",
            median(directs.iter().map(unit)),
            median(mine.iter().map(unit)),
            median(ratios.into_iter()),
            median(mine.iter().map(|round| round.p50)),
            median(mine.iter().map(|round| round.p99)),
        );
    }
    println!(
        "rates are operations per second, higher is better; others are microseconds at the median, lower is better"
    );
    if wanted.is_empty() || wanted.iter().any(|part| "neighbours".contains(part.as_str())) {
        runtime.block_on(neighbours(plain));
    }
}

/// What others on the same runtime notice: a timer beside 32 readers, and point reads beside a long scan.
async fn neighbours(setup: Setup) {
    let directory = tempfile::tempdir().unwrap();
    let db = prepare_ours(&directory.path().join("ours.db"), Setup { rows: 100_000, ..setup }).await;
    let (mut late, mut rates, mut tails, mut scans) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds() {
        let timer = tokio::spawn(async {
            let (mut late, began) = (Vec::new(), Instant::now());
            while began.elapsed() < length() {
                let before = Instant::now();
                tokio::time::sleep(Duration::from_millis(1)).await;
                late.push(before.elapsed().saturating_sub(Duration::from_millis(1)));
            }
            percentiles(late).p99
        });
        Work::Reads { tasks: TASKS }.ours(&db, setup).await;
        late.push(timer.await.unwrap());

        let scan = tokio::spawn({
            let db = db.clone();
            async move {
                let (mut times, began) = (Vec::new(), Instant::now());
                while began.elapsed() < length() {
                    let before = Instant::now();
                    db.fetch_value::<f64>("SELECT sum(c * a) FROM t", ()).await.unwrap();
                    times.push(before.elapsed());
                }
                percentiles(times).p50
            }
        });
        let reads = Work::Reads { tasks: 16 }.ours(&db, setup).await;
        rates.push(reads.rate);
        tails.push(reads.p99);
        scans.push(scan.await.unwrap());
    }
    db.close().await.unwrap();
    let mid = |values: Vec<f64>| median(values.into_iter());
    println!("a timer of 1 ms beside 32 readers: {:.0} us late at p99", mid(late));
    println!(
        "point reads of 16 tasks beside a scan of {:.1} ms: {:.0} per second, p99 {:.0} us",
        mid(scans) / 1000.0,
        mid(rates),
        mid(tails)
    );
}

#[derive(Clone, Copy)]
enum Work {
    Reads { tasks: u64 },
    Inserts { tasks: u64 },
    Mixed,
    Bulk,
    Fetch,
}

const READ: &str = "SELECT b FROM t WHERE id = $1";
const INSERT: &str = "INSERT INTO log (a, b) VALUES ($1, $2)";
const UPDATE: &str = "UPDATE t SET a = a + 1 WHERE id = $1";
const ALL: &str = "SELECT id, a, b, c FROM t";

impl Work {
    fn direct(self, db: &rusqlite::Connection, setup: Setup) -> Round {
        let mut random = Random(1);
        let read = |random: &mut Random| {
            let id = random.below(setup.rows) as i64 + 1;
            let text: String = db.prepare_cached(READ).unwrap().query_row([id], |row| row.get(0)).unwrap();
            std::hint::black_box(text);
        };
        match self {
            Self::Reads { .. } => timed(1, || read(&mut random)),
            Self::Inserts { .. } => timed(1, || {
                let id = random.below(1 << 30) as i64;
                db.prepare_cached(INSERT).unwrap().execute((id, "some text of a log")).unwrap();
            }),
            Self::Mixed => timed(1, || {
                if random.below(10) == 0 {
                    let id = random.below(setup.rows) as i64 + 1;
                    db.prepare_cached(UPDATE).unwrap().execute([id]).unwrap();
                } else {
                    read(&mut random);
                }
            }),
            Self::Bulk => timed(100_000, || {
                db.execute_batch("BEGIN IMMEDIATE").unwrap();
                {
                    let mut insert = db.prepare_cached(INSERT).unwrap();
                    for id in 0..100_000_i64 {
                        insert.execute((id, "some text of a log")).unwrap();
                    }
                }
                db.execute_batch("COMMIT; DELETE FROM log").unwrap();
            }),
            Self::Fetch => timed(100_000, || {
                let mut all = db.prepare_cached(ALL).unwrap();
                let rows = all.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
                let rows: Vec<(i64, i64, String, f64)> = rows.unwrap().map(Result::unwrap).collect();
                std::hint::black_box(rows);
            }),
        }
    }

    async fn ours(self, db: &AsyncDatabase, setup: Setup) -> Round {
        let tasks = match self {
            Self::Reads { tasks } | Self::Inserts { tasks } => tasks,
            Self::Mixed => TASKS,
            Self::Bulk | Self::Fetch => return self.ours_in_bulk(db).await,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let workers: Vec<_> = (0..tasks)
            .map(|task| {
                let (db, stop, done) = (db.clone(), Arc::clone(&stop), Arc::clone(&done));
                tokio::spawn(async move {
                    let mut random = Random(task + 1);
                    let mut times = Vec::with_capacity(1 << 16);
                    while !stop.load(Relaxed) {
                        let before = Instant::now();
                        self.one(&db, setup, &mut random).await;
                        times.push(before.elapsed());
                    }
                    done.fetch_add(times.len() as u64, Relaxed);
                    times
                })
            })
            .collect();
        tokio::time::sleep(length()).await;
        stop.store(true, Relaxed);
        let mut times = Vec::new();
        for worker in workers {
            times.append(&mut worker.await.unwrap());
        }
        Round { rate: done.load(Relaxed) as f64 / began.elapsed().as_secs_f64(), ..percentiles(times) }
    }

    async fn one(self, db: &AsyncDatabase, setup: Setup, random: &mut Random) {
        let id = random.below(setup.rows) as i64 + 1;
        match self {
            Self::Inserts { .. } => {
                db.execute(INSERT, (id, "some text of a log")).await.unwrap();
            }
            Self::Mixed if random.below(10) == 0 => {
                db.execute(UPDATE, (id,)).await.unwrap();
            }
            _ => {
                std::hint::black_box(db.fetch_value::<String>(READ, (id,)).await.unwrap());
            }
        }
    }

    async fn ours_in_bulk(self, db: &AsyncDatabase) -> Round {
        let (mut times, began) = (Vec::new(), Instant::now());
        while began.elapsed() < length() {
            let before = Instant::now();
            if matches!(self, Self::Bulk) {
                let rows = (0..100_000_i64).map(|id| (id, "some text of a log"));
                db.execute_many(INSERT, rows).await.unwrap();
                db.execute("DELETE FROM log", ()).await.unwrap();
            } else {
                std::hint::black_box(db.fetch_all(ALL, ()).await.unwrap());
            }
            times.push(before.elapsed());
        }
        let rate = times.len() as f64 * 100_000.0 / began.elapsed().as_secs_f64();
        Round { rate, ..percentiles(times) }
    }
}

fn prepare_direct(path: &Path, setup: Setup) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(path).unwrap();
    if setup.encrypted {
        strongroom::apply_cipher_key(&db, &Secret::raw_key(KEY)).unwrap();
    }
    let synchronous = if setup.full { "FULL" } else { "NORMAL" };
    db.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA foreign_keys = ON; {SCHEMA}"
    ))
    .unwrap();
    db.execute_batch(&fill(setup.rows)).unwrap();
    db
}

async fn prepare_ours(path: &Path, setup: Setup) -> AsyncDatabase {
    let synchronous = if setup.full { Synchronous::Full } else { Synchronous::Normal };
    let mut builder = AsyncDatabase::builder(path).tuning(Tuning::default().synchronous(synchronous));
    if setup.encrypted {
        builder = builder.key(PassphraseKeySource::new(Secret::raw_key(KEY)));
    }
    let db = builder.open().await.unwrap();
    db.execute_script(SCHEMA).await.unwrap();
    db.execute_script(&fill(setup.rows)).await.unwrap();
    db
}

const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT, c REAL);
    CREATE TABLE log (id INTEGER PRIMARY KEY, a INTEGER, b TEXT);";

fn fill(rows: u64) -> String {
    format!(
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT {rows})
         INSERT INTO t SELECT i, i * 7, 'a text of some thirty characters ' || i, i / 3.0 FROM n;"
    )
}

fn timed(operations: u64, mut work: impl FnMut()) -> Round {
    let (mut times, began) = (Vec::with_capacity(1 << 20), Instant::now());
    while began.elapsed() < length() {
        let before = Instant::now();
        work();
        times.push(before.elapsed());
    }
    let rate = (times.len() as u64 * operations) as f64 / began.elapsed().as_secs_f64();
    Round { rate, ..percentiles(times) }
}

fn percentiles(mut times: Vec<Duration>) -> Round {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    Round { rate: 0.0, p50: at(0.5), p99: at(0.99) }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rounds() -> usize {
    std::env::var("STRONGROOM_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

fn length() -> Duration {
    let seconds = std::env::var("STRONGROOM_BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.5))
}

/// xorshift: the same numbers for both sides.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
