//! The library beside deadpool-postgres and sqlx on one PostgreSQL server, in one interleaved run.
//!
//! `cargo bench --manifest-path benches/postgres-peers/Cargo.toml -- [name...]` prints one line per workload: medians of
//! rounds in microseconds, lower is better, and ours against the better peer of each round. It starts a server of its own.
//! `STRONGROOM_BENCH_ROUNDS` sets the rounds (9 by default), `STRONGROOM_BENCH_SECONDS` the length of one (0.3).
//!
//! Everything is measured three times: with both sides on the same processor, with the client on one and the server on
//! another, and as the kernel places them. What a lone call takes depends more on that than on the library, and the
//! kernel changes its mind from one run to the next, so only the first two can be compared.
//!
//! Everybody has 8 connections and checks none of them before lending: sqlx is told not to, the others do not by
//! themselves. Everybody prepares statements once per connection.
#![allow(clippy::cast_precision_loss, reason = "numbers here are small")]

#[path = "../../tests/common/postgres.rs"]
mod common;
mod deadpool;
mod ours;
mod sqlx_peer;

use std::process::Command;
use std::time::{Duration, Instant};

use deadpool::Deadpool;
use ours::Ours;
use sqlx_peer::Sqlx;

pub const POOL: u32 = 8;
pub const TASKS: i64 = 32;
/// Rows of table `t`.
pub const ROWS: i64 = 100_000;
pub const BULK: i64 = 10_000;

pub const READ: &str = "SELECT b FROM t WHERE id = $1";
pub const INSERT: &str = "INSERT INTO log (a, b, c) VALUES ($1, $2, $3)";
pub const COPY: &str = "COPY log (a, b, c) FROM STDIN (FORMAT binary)";
pub const ALL: &str = "SELECT id, a, b, c FROM t";
pub const TEXT: &str = "some text of a log";

const SCHEMA: &str = "CREATE TABLE t (id bigint PRIMARY KEY, a bigint, b text, c double precision);
    CREATE TABLE log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a bigint, b text, c double precision);
    INSERT INTO t SELECT i, i * 7, 'a text of some thirty characters ' || i, i / 3.0 FROM generate_series(1, 100000) AS i;
    ANALYZE t";

/// What is measured.
#[derive(Clone, Copy, PartialEq)]
pub enum Work {
    Read,
    Insert,
    /// 100 inserts in a transaction.
    Transaction,
    /// 10,000 rows the way a user of the crate would first think of: many statements sent ahead (tokio-postgres), arrays
    /// (sqlx), `execute_many` (ours).
    Bulk,
    /// The same, by a COPY in binary form that is written by hand; ours is `execute_many` again.
    Copy,
    /// 100,000 rows, every value of which is looked at.
    Fetch,
}

/// One library, set up for the work.
pub trait Side: Clone + Send + Sync + 'static {
    /// Does the work once; `id` is another number each time.
    fn once(&self, work: Work, id: i64) -> impl Future<Output = ()> + Send;
}

const WORKS: [(&str, Work, i64); 7] = [
    ("point read", Work::Read, 1),
    ("insert", Work::Insert, 1),
    ("100 inserts in a transaction", Work::Transaction, 1),
    ("10,000 rows in bulk", Work::Bulk, 1),
    ("10,000 rows, peers with COPY by hand", Work::Copy, 1),
    ("fetch of 100,000 rows", Work::Fetch, 1),
    ("point read, 32 tasks", Work::Read, TASKS),
];

/// The processors of the client and of the server, as `taskset` takes them.
const PLACES: [(&str, &str, &str); 3] =
    [("on one processor", "0", "0"), ("on two processors", "0", "1"), ("where the kernel likes", "0-1", "0-1")];

#[tokio::main(worker_threads = 2)]
async fn main() {
    let settings = "autovacuum = off\nmax_wal_size = 8GB\ncheckpoint_timeout = 1h";
    let Some(server) = common::server_with(settings) else { return };
    common::script(&mut server.connect().await, SCHEMA).await;
    for (name, ours, theirs) in PLACES {
        place(std::process::id(), ours);
        // Sessions are made where their server is.
        place(server.id(), theirs);
        println!("{name:38} {:>12} {:>12} {:>12} {:>12}", "deadpool", "sqlx", "strongroom", "ours / best");
        compare(&server).await;
    }
}

/// Keeps all threads of a process to some processors.
fn place(process: u32, processors: &str) {
    let output = Command::new("taskset").args(["-apc", processors, &process.to_string()]).output();
    let output = output.expect("taskset of util-linux");
    assert!(output.status.success(), "this machine has too few processors: {}", String::from_utf8_lossy(&output.stderr));
}

async fn compare(server: &common::Server) {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let mut control = server.connect().await;
    let (deadpool, sqlx, ours) =
        (Deadpool::open(server.port), Sqlx::open(server.port).await, Ours::open(server.connector()).await);
    for (name, work, tasks) in WORKS {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let mut seen: [Vec<f64>; 3] = Default::default();
        let mut ratios = Vec::new();
        for round in 0..=rounds() {
            let mut times = [0.0; 3];
            for turn in 0..3 {
                // Nobody always follows the same one.
                let side = (turn + round) % 3;
                common::script(&mut control, "TRUNCATE log").await;
                times[side] = match side {
                    0 => measure(&deadpool, work, tasks).await,
                    1 => measure(&sqlx, work, tasks).await,
                    _ => measure(&ours, work, tasks).await,
                };
            }
            // The first round warms up.
            if round > 0 {
                ratios.push(times[2] / times[0].min(times[1]));
                seen.iter_mut().zip(times).for_each(|(seen, time)| seen.push(time));
            }
        }
        let [deadpool, sqlx, ours] = seen.map(median);
        println!("{name:38} {deadpool:>12.1} {sqlx:>12.1} {ours:>12.1} {:>12.2}", median(ratios));
    }
}

/// The median time of one run of the work in microseconds; with several tasks, the time from one end to the next.
async fn measure(side: &impl Side, work: Work, tasks: i64) -> f64 {
    let began = Instant::now();
    let workers: Vec<_> = (0..tasks)
        .map(|task| {
            let side = side.clone();
            tokio::spawn(async move {
                let (mut random, mut times) = (Random(task.unsigned_abs() + 1), Vec::new());
                while began.elapsed() < length() || times.len() < 3 {
                    let id = random.id();
                    let before = Instant::now();
                    side.once(work, id).await;
                    times.push(before.elapsed().as_secs_f64() * 1e6);
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for worker in workers {
        times.append(&mut worker.await.unwrap());
    }
    if tasks > 1 { began.elapsed().as_secs_f64() * 1e6 / times.len() as f64 } else { median(times) }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rounds() -> usize {
    std::env::var("STRONGROOM_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(9)
}

fn length() -> Duration {
    let seconds = std::env::var("STRONGROOM_BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.3))
}

/// xorshift: the same numbers for all sides.
struct Random(u64);

impl Random {
    fn id(&mut self) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % ROWS.unsigned_abs()).cast_signed() + 1
    }
}
