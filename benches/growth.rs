//! How cost grows with size: rows, tasks, connections, bytes of a row, open databases, statements of a transaction, and what
//! pages cost that are not in the cache. Prints tables for docs/performance.md.
//!
//! `cargo bench --bench growth -- [rows] [tasks] [connections] [bytes] [databases] [statements] [cold]`, each by its first
//! word. `STRONGROOM_BENCH_ROWS` is the most rows (1,000,000 by default), `STRONGROOM_BENCH_SECONDS` the length of one
//! measurement (0.3). "Direct" is rusqlite with the same key, cache and settings, on one thread.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers here are small"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use strongroom::rusqlite::{Connection, params};
use strongroom::sqlcipher::{Synchronous, Tuning};
use strongroom::{AsyncDatabase, PassphraseKeySource, Secret, Transaction, apply_cipher_key};
use tempfile::TempDir;

const READ: &str = "SELECT b FROM t WHERE id = $1";
const INSERT: &str = "INSERT INTO log (a, b) VALUES ($1, $2)";
const SCAN: &str = "SELECT sum(length(b)) FROM t NOT INDEXED";
const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT, c REAL);
    CREATE TABLE log (id INTEGER PRIMARY KEY, a INTEGER, b BLOB);";
const CACHE_KIB: u32 = 16_000;

fn set(name: &str, otherwise: f64) -> f64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn length() -> Duration {
    Duration::from_secs_f64(set("STRONGROOM_BENCH_SECONDS", 0.3))
}

fn key() -> Secret {
    Secret::raw_key([7; 32])
}

/// Median and 99 of 100, in microseconds.
fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    (at(0.5), at(0.99))
}

fn timed(mut work: impl FnMut(u64)) -> (f64, f64) {
    let (mut times, began) = (Vec::new(), Instant::now());
    while began.elapsed() < length() || times.len() < 3 {
        let (number, before) = (times.len() as u64, Instant::now());
        work(number);
        times.push(before.elapsed());
    }
    percentiles(times)
}

async fn awaited(mut work: impl AsyncFnMut(u64)) -> (f64, f64) {
    let (mut times, began) = (Vec::new(), Instant::now());
    while began.elapsed() < length() || times.len() < 3 {
        let (number, before) = (times.len() as u64, Instant::now());
        work(number).await;
        times.push(before.elapsed());
    }
    percentiles(times)
}

/// Scatters numbers over a range, the same for both sides.
fn scattered(number: u64, below: u64) -> i64 {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20).rem_euclid(below) as i64 + 1
}

async fn ours(path: &Path, cache: u32, connections: u32) -> AsyncDatabase {
    let tuning = Tuning::default().synchronous(Synchronous::Normal).cache_kib(cache);
    let builder = AsyncDatabase::builder(path).key(PassphraseKeySource::new(key())).tuning(tuning);
    builder.pool_max(connections).open().await.unwrap()
}

fn direct(path: &Path, cache: u32) -> Connection {
    let connection = Connection::open(path).unwrap();
    apply_cipher_key(&connection, &key()).unwrap();
    let settings = format!("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -{cache}");
    connection.execute_batch(&settings).unwrap();
    connection
}

fn read(db: &Connection, id: i64) {
    let text: String = db.prepare_cached(READ).unwrap().query_row([id], |row| row.get(0)).unwrap();
    black_box(text);
}

async fn fill(db: &AsyncDatabase, rows: u64) {
    db.execute_script(SCHEMA).await.unwrap();
    let rows =
        (1..=rows as i64).map(|id| (id, id * 7, format!("a text of some thirty characters {id}"), id as f64 / 3.0));
    db.execute_many("INSERT INTO t VALUES ($1, $2, $3, $4)", rows).await.unwrap();
    db.execute_script("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
}

fn megabytes(path: &Path) -> f64 {
    std::fs::metadata(path).unwrap().len() as f64 / 1e6
}

/// The memory of this process that is in use, in KiB; 0 where nobody says.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0)
}

async fn rows(directory: &Path) {
    println!("\n| rows | file, MB | point read us (99 of 100) | direct | ratio | insert us | direct | ratio |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut rows = 1000;
    while rows as f64 <= set("STRONGROOM_BENCH_ROWS", 1e6) {
        let path = directory.join(format!("rows-{rows}.db"));
        let db = ours(&path, CACHE_KIB, 4).await;
        fill(&db, rows).await;
        let (size, other) = (megabytes(&path), direct(&path, CACHE_KIB));
        let reads = awaited(async |number| {
            black_box(db.fetch_value::<String>(READ, (scattered(number, rows),)).await.unwrap());
        });
        let (reads, direct_reads) = (reads.await, timed(|number| read(&other, scattered(number, rows))));
        let inserts = awaited(async |number| {
            db.execute(INSERT, (number as i64, "some text of a log")).await.unwrap();
        });
        let inserts = inserts.await;
        let direct_inserts = timed(|number| {
            other.prepare_cached(INSERT).unwrap().execute((number as i64, "some text of a log")).unwrap();
        });
        println!(
            "| {rows} | {:.1} | {:.2} ({:.0}) | {:.2} ({:.0}) | {:.2} | {:.1} | {:.1} | {:.2} |",
            size,
            reads.0,
            reads.1,
            direct_reads.0,
            direct_reads.1,
            reads.0 / direct_reads.0,
            inserts.0,
            direct_inserts.0,
            inserts.0 / direct_inserts.0
        );
        drop(other);
        db.close().await.unwrap();
        rows *= 10;
    }
}

#[derive(Clone, Copy)]
enum Op {
    Read,
    Insert,
    /// A hundred rows, added up.
    Sum,
}

impl Op {
    async fn run(self, db: &AsyncDatabase, number: u64, rows: u64) {
        let id = scattered(number, rows - 100);
        match self {
            Self::Read => drop(black_box(db.fetch_value::<String>(READ, (id,)).await.unwrap())),
            Self::Insert => drop(db.execute(INSERT, (id, "some text of a log")).await.unwrap()),
            Self::Sum => {
                let sql = "SELECT sum(length(b)) FROM t WHERE id BETWEEN $1 AND $1 + 99";
                black_box(db.fetch_value::<i64>(sql, (id,)).await.unwrap());
            }
        }
    }

    /// So many tasks do it for a while: thousands a second, and the 99 of 100 in microseconds.
    async fn together(self, db: &AsyncDatabase, tasks: u64, rows: u64) -> (f64, f64) {
        let (stop, began) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let workers = (0..tasks).map(|task| {
            let (db, stop) = (db.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut times = Vec::new();
                while !stop.load(Relaxed) {
                    let before = Instant::now();
                    self.run(&db, task * 1_000_003 + times.len() as u64, rows).await;
                    times.push(before.elapsed());
                }
                times
            })
        });
        let workers: Vec<_> = workers.collect();
        tokio::time::sleep(length()).await;
        stop.store(true, Relaxed);
        let mut times = Vec::new();
        for worker in workers {
            times.append(&mut worker.await.unwrap());
        }
        (times.len() as f64 / began.elapsed().as_secs_f64() / 1000.0, percentiles(times).1)
    }
}

async fn tasks(directory: &Path) {
    const ROWS: u64 = 20_000;
    let db = ours(&directory.join("tasks.db"), CACHE_KIB, 10).await;
    fill(&db, ROWS).await;
    println!(
        "\n| tasks | point reads, k/s | 99 of 100, us | 100 rows, k/s | 99 of 100, us | inserts, k/s | 99 of 100, us |"
    );
    println!("|---|---|---|---|---|---|---|");
    for tasks in [1, 10, 100, 1000] {
        let read = Op::Read.together(&db, tasks, ROWS).await;
        let sum = Op::Sum.together(&db, tasks, ROWS).await;
        let insert = Op::Insert.together(&db, tasks, ROWS).await;
        println!(
            "| {tasks} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
            read.0, read.1, sum.0, sum.1, insert.0, insert.1
        );
    }
    db.close().await.unwrap();
}

async fn connections(directory: &Path) {
    const ROWS: u64 = 100_000;
    println!(
        "\n| connections | point reads of 32 tasks, k/s | 99 of 100, us | 100 rows, k/s | 99 of 100, us | memory, MB |"
    );
    println!("|---|---|---|---|---|---|");
    let path = directory.join("connections.db");
    let db = ours(&path, CACHE_KIB, 2).await;
    fill(&db, ROWS).await;
    db.close().await.unwrap();
    for connections in [2, 3, 10, 100] {
        let before = resident();
        let db = ours(&path, CACHE_KIB, connections).await;
        // As many as there may be are opened, and each has read all of it.
        let mut readers = Vec::new();
        for _ in 1..connections {
            let mut reader = db.read_connection().await.unwrap();
            reader.fetch_value::<i64>(SCAN, ()).await.unwrap();
            readers.push(reader);
        }
        let memory = (resident() - before) / 1000.0;
        drop(readers);
        let (read, sum) = (Op::Read.together(&db, 32, ROWS).await, Op::Sum.together(&db, 32, ROWS).await);
        println!("| {connections} | {:.0} | {:.0} | {:.0} | {:.0} | {memory:.0} |", read.0, read.1, sum.0, sum.1);
        db.close().await.unwrap();
    }
}

async fn bytes(directory: &Path) {
    println!("\n| bytes of a value | insert us | direct | ratio | read us | direct | ratio |");
    println!("|---|---|---|---|---|---|---|");
    for size in [10, 1000, 100_000, 1_000_000, 10_000_000_usize] {
        let path = directory.join(format!("bytes-{size}.db"));
        let db = ours(&path, CACHE_KIB, 2).await;
        db.execute_script(SCHEMA).await.unwrap();
        let (other, value) = (direct(&path, CACHE_KIB), vec![7_u8; size]);
        let insert = awaited(async |_| {
            // What is given away has to be made first, on either side.
            db.execute(
                "INSERT INTO log (id, a, b) VALUES (1, 1, $1) ON CONFLICT DO UPDATE SET b = $1",
                (value.clone(),),
            )
            .await
            .unwrap();
        });
        let insert = insert.await.0;
        let direct_insert = timed(|_| {
            let sql = "INSERT INTO log (id, a, b) VALUES (2, 1, ?1) ON CONFLICT DO UPDATE SET b = ?1";
            other.prepare_cached(sql).unwrap().execute(params![value.clone()]).unwrap();
        });
        let fetch = awaited(async |_| {
            black_box(db.fetch_value::<Vec<u8>>("SELECT b FROM log WHERE id = 1", ()).await.unwrap());
        });
        let fetch = fetch.await.0;
        let direct_fetch = timed(|_| {
            let mut select = other.prepare_cached("SELECT b FROM log WHERE id = 2").unwrap();
            black_box(select.query_row((), |row| row.get::<_, Vec<u8>>(0)).unwrap());
        });
        let (direct_insert, direct_fetch) = (direct_insert.0, direct_fetch.0);
        println!(
            "| {size} | {insert:.1} | {direct_insert:.1} | {:.2} | {fetch:.1} | {direct_fetch:.1} | {:.2} |",
            insert / direct_insert,
            fetch / direct_fetch
        );
        drop(other);
        db.close().await.unwrap();
    }
}

async fn databases(directory: &Path) {
    println!("\n| open databases | open and first read, ms each | memory, KiB each | threads |");
    println!("|---|---|---|---|");
    let mut open = Vec::new();
    let before = resident();
    for count in [1, 10, 100, 1000] {
        let (began, already) = (Instant::now(), open.len());
        while open.len() < count {
            let db = ours(&directory.join(format!("one-{}.db", open.len())), CACHE_KIB, 4).await;
            db.execute_script("CREATE TABLE t (id INTEGER PRIMARY KEY, b TEXT); INSERT INTO t VALUES (1, 'a')")
                .await
                .unwrap();
            black_box(db.fetch_value::<String>(READ, (1,)).await.unwrap());
            open.push(db);
        }
        let each = began.elapsed().as_secs_f64() * 1000.0 / (count - already) as f64;
        let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        println!("| {count} | {each:.2} | {:.0} | {threads} |", (resident() - before) / count as f64);
    }
    for db in open {
        db.close().await.unwrap();
    }
}

async fn statements(directory: &Path) {
    println!("\n| statements of a transaction | us each | direct | ratio |");
    println!("|---|---|---|---|");
    let path = directory.join("statements.db");
    let db = ours(&path, CACHE_KIB, 2).await;
    db.execute_script(SCHEMA).await.unwrap();
    let other = direct(&path, CACHE_KIB);
    for count in [1, 10, 100, 1000, 10_000_i64] {
        let mine = awaited(async |_| {
            let run = async |tx: &mut Transaction| {
                for number in 0..count {
                    tx.execute(INSERT, (number, "some text of a log")).await?;
                }
                Ok::<_, strongroom::Error>(())
            };
            db.transaction(run).await.unwrap();
        });
        let mine = mine.await.0 / count as f64;
        let theirs = timed(|_| {
            other.execute_batch("BEGIN IMMEDIATE").unwrap();
            for number in 0..count {
                other.prepare_cached(INSERT).unwrap().execute((number, "some text of a log")).unwrap();
            }
            other.execute_batch("COMMIT").unwrap();
        });
        let theirs = theirs.0 / count as f64;
        println!("| {count} | {mine:.2} | {theirs:.2} | {:.2} |", mine / theirs);
    }
    drop(other);
    db.close().await.unwrap();
}

/// Pages that are not in the cache of the connection are read and deciphered; the system's cache has them.
async fn cold(directory: &Path) {
    let rows = set("STRONGROOM_BENCH_ROWS", 1e6) as u64;
    let path = directory.join("cold.db");
    let db = ours(&path, CACHE_KIB, 2).await;
    fill(&db, rows).await;
    db.close().await.unwrap();
    let pages = std::fs::metadata(&path).unwrap().len() as f64 / 4096.0;
    let scans = {
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let db = ours(&path, CACHE_KIB, 2).await;
            black_box(db.fetch_value::<String>(READ, (1,)).await.unwrap());
            let began = Instant::now();
            black_box(db.fetch_value::<i64>(SCAN, ()).await.unwrap());
            mine.push(began.elapsed());
            db.close().await.unwrap();
            let other = direct(&path, CACHE_KIB);
            read(&other, 1);
            let began = Instant::now();
            black_box(other.query_row(SCAN, (), |row| row.get::<_, i64>(0)).unwrap());
            theirs.push(began.elapsed());
        }
        (percentiles(mine).0 / pages, percentiles(theirs).0 / pages)
    };
    println!(
        "\nA first scan of {rows} encrypted rows ({:.0} MB): {:.2} us a page, direct {:.2}.",
        megabytes(&path),
        scans.0,
        scans.1
    );
    println!("\n| cache of a connection, MiB | point read us (99 of 100) | direct | pages deciphered for each |");
    println!("|---|---|---|---|");
    for cache in [2000, 16_000, 64_000, 256_000] {
        let (db, other) = (ours(&path, cache, 2).await, direct(&path, cache));
        for number in 0..20_000 {
            db.fetch_value::<String>(READ, (scattered(number, rows),)).await.unwrap();
            read(&other, scattered(number, rows));
        }
        let (before, mut reads) = (db.engine_stats().page_cache_misses, 0);
        let mine = awaited(async |number| {
            black_box(db.fetch_value::<String>(READ, (scattered(number + 20_000, rows),)).await.unwrap());
            reads = number + 1;
        });
        let mine = mine.await;
        let misses = (db.engine_stats().page_cache_misses - before) as f64 / reads as f64;
        let theirs = timed(|number| read(&other, scattered(number + 20_000, rows)));
        println!(
            "| {} | {:.2} ({:.0}) | {:.2} ({:.0}) | {misses:.2} |",
            cache / 1000,
            mine.0,
            mine.1,
            theirs.0,
            theirs.1
        );
        drop(other);
        db.close().await.unwrap();
    }
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        if wants("rows") {
            rows(path).await;
        }
        if wants("tasks") {
            tasks(path).await;
        }
        if wants("connections") {
            connections(path).await;
        }
        if wants("bytes") {
            bytes(path).await;
        }
        if wants("statements") {
            statements(path).await;
        }
        if wants("cold") {
            cold(path).await;
        }
        if wants("databases") {
            databases(path).await;
        }
    });
}
