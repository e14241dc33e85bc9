//! What is measured, and how.

use std::time::{Duration, Instant};

use strongroom::sqlcipher::Synchronous;

pub(crate) const TASKS: u64 = 32;
pub(crate) const KEY: [u8; 32] = [7; 32];

#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) rows: u64,
    pub(crate) synchronous: Synchronous,
    pub(crate) encrypted: bool,
    /// Somebody listens to what is committed.
    pub(crate) followed: bool,
    /// Commits wait for the disk on the caller's thread.
    pub(crate) in_place: bool,
}

/// What one round measured.
#[derive(Clone, Copy, Default)]
pub(crate) struct Round {
    /// Operations per second.
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

#[derive(Clone, Copy)]
pub(crate) enum Work {
    Reads {
        tasks: u64,
    },
    Triples {
        tasks: u64,
    },
    Ranges {
        tasks: u64,
    },
    /// A read, an update and an insert, committed together.
    Transactions {
        tasks: u64,
    },
    First,
    Inserts {
        tasks: u64,
    },
    Mixed,
    Bulk,
    Fetch,
    FetchAs,
    Stream,
    /// A write, letting go of everything, and a read that opens again.
    Sleep,
}

/// A row of table `t`.
pub(crate) type Tuple = (i64, i64, String, f64);

pub(crate) const READ: &str = "SELECT b FROM t WHERE id = $1";
pub(crate) const INSERT: &str = "INSERT INTO log (a, b) VALUES ($1, $2)";
pub(crate) const UPDATE: &str = "UPDATE t SET a = a + 1 WHERE id = $1";
pub(crate) const TRIPLE: &str = "SELECT a, b, c FROM t WHERE id = $1";
pub(crate) const RANGE: &str = "SELECT id, a, b, c FROM t WHERE id BETWEEN $1 AND $2";
pub(crate) const BALANCE: &str = "SELECT a FROM t WHERE id = $1";
pub(crate) const ALL: &str = "SELECT id, a, b, c FROM t";

pub(crate) const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT, c REAL);
    CREATE TABLE log (id INTEGER PRIMARY KEY, a INTEGER, b TEXT);";

pub(crate) fn fill(rows: u64) -> String {
    format!(
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT {rows})
         INSERT INTO t SELECT i, i * 7, 'a text of some thirty characters ' || i, i / 3.0 FROM n;"
    )
}

pub(crate) fn timed(operations: u64, mut work: impl FnMut()) -> Round {
    let (mut times, began) = (Vec::with_capacity(1 << 20), Instant::now());
    while began.elapsed() < length() {
        let before = Instant::now();
        work();
        times.push(before.elapsed());
    }
    let rate = (times.len() as u64 * operations) as f64 / began.elapsed().as_secs_f64();
    Round { rate, ..percentiles(times) }
}

pub(crate) fn percentiles(mut times: Vec<Duration>) -> Round {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    Round { rate: 0.0, p50: at(0.5), p99: at(0.99) }
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn rounds() -> usize {
    std::env::var("STRONGROOM_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

pub(crate) fn length() -> Duration {
    let seconds = std::env::var("STRONGROOM_BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.5))
}

/// xorshift: the same numbers for both sides.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
