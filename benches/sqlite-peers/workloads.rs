//! What every program of this bench does, whichever library it is about.
//!
//! `program WORKLOAD DIRECTORY SECONDS` makes a database in the directory, does the work for that time and prints
//! `workload operations_per_second median_us 99th_percentile_us`. It panics when a value read is not the one written or
//! when a write is missing: no figure is of nothing.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The most connections that a pool may have.
#[allow(dead_code, reason = "not every library has a pool, or needs to be told")]
pub const POOL: u32 = 10;
/// Rows of one bulk insert, and of table `t` where it is large.
pub const MANY: i64 = 100_000;
pub const TEXT: &str = "some text of a log";

pub const READ: &str = "SELECT b FROM t WHERE id = $1";
pub const INSERT: &str = "INSERT INTO log (a, b) VALUES ($1, $2)";
pub const UPDATE: &str = "UPDATE t SET a = a + 1 WHERE id = $1";
pub const ALL: &str = "SELECT id, a, b, c FROM t";

const SCHEMA: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT, c REAL);
    CREATE TABLE log (id INTEGER PRIMARY KEY, a INTEGER, b TEXT);";
const PREFIX: &str = "a text of some thirty characters ";

/// A row of table `t`, owned.
pub type Row = (i64, i64, String, f64);

/// How a connection is to be set up; all have a busy timeout of 5 s and SQLite's default page cache of 2000 KiB.
#[derive(Clone, Debug)]
pub struct Setup {
    pub path: PathBuf,
    /// NORMAL or FULL.
    pub synchronous: &'static str,
}

impl Setup {
    #[allow(dead_code, reason = "not every library takes its settings as SQL")]
    pub fn pragmas(&self) -> String {
        format!("PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = {};", self.synchronous)
    }
}

/// One library, used as its documentation advises.
pub trait Peer: Sized {
    fn open(setup: Setup) -> impl Future<Output = Self> + Send;
    /// Statements without parameters and results.
    fn script(&self, sql: String) -> impl Future<Output = ()> + Send;
    /// The integer that a statement gives.
    fn number(&self, sql: String) -> impl Future<Output = i64> + Send;
    /// [`READ`].
    fn read(&self, id: i64) -> impl Future<Output = String> + Send;
    /// [`INSERT`] of `a` and [`TEXT`], committed.
    fn insert(&self, a: i64) -> impl Future<Output = ()> + Send;
    /// [`UPDATE`], committed.
    fn update(&self, id: i64) -> impl Future<Output = ()> + Send;
    /// Inserts the numbers from 0 to [`MANY`], each with [`TEXT`], in one transaction.
    fn bulk(&self) -> impl Future<Output = ()> + Send;
    /// [`ALL`].
    fn fetch(&self) -> impl Future<Output = Vec<Row>> + Send;
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Read,
    Insert,
    /// One update in ten operations, else reads.
    Mixed,
    Bulk,
    Fetch,
}

#[derive(Clone, Copy)]
struct Work {
    name: &'static str,
    kind: Kind,
    tasks: u64,
    /// Rows of table `t`.
    rows: i64,
    synchronous: &'static str,
}

const NORMAL: Work = Work { name: "", kind: Kind::Read, tasks: 1, rows: 1000, synchronous: "NORMAL" };

const WORKS: [Work; 9] = [
    Work { name: "read-1", ..NORMAL },
    Work { name: "read-32", tasks: 32, ..NORMAL },
    Work { name: "read-32-large", tasks: 32, rows: MANY, ..NORMAL },
    Work { name: "insert-32-normal", kind: Kind::Insert, tasks: 32, ..NORMAL },
    Work { name: "insert-32-full", kind: Kind::Insert, tasks: 32, synchronous: "FULL", ..NORMAL },
    Work { name: "mixed-32", kind: Kind::Mixed, tasks: 32, ..NORMAL },
    Work { name: "insert-1-normal", kind: Kind::Insert, ..NORMAL },
    Work { name: "bulk", kind: Kind::Bulk, ..NORMAL },
    Work { name: "fetch", kind: Kind::Fetch, rows: MANY, ..NORMAL },
];

/// What a run did.
#[derive(Default)]
struct Done {
    times: Vec<Duration>,
    writes: i64,
}

/// The work on as many tasks as it asks for.
#[allow(dead_code, reason = "for libraries that tasks can share")]
pub fn on_tasks<P: Peer + Clone + Send + Sync + 'static>() {
    run(async |peer: &P, work, length| {
        let workers: Vec<_> = (0..work.tasks)
            .map(|task| {
                let peer = peer.clone();
                tokio::spawn(async move { repeat(&peer, work, task, length).await })
            })
            .collect();
        let mut all = Done::default();
        for worker in workers {
            let mut done = worker.await.unwrap();
            all.times.append(&mut done.times);
            all.writes += done.writes;
        }
        all
    });
}

/// The work one by one, whatever number of tasks it asks for.
#[allow(dead_code, reason = "for rusqlite called directly")]
pub fn on_one_thread<P: Peer>() {
    run(async |peer: &P, work, length| repeat(peer, work, 0, length).await);
}

fn run<P: Peer>(measure: impl AsyncFn(&P, Work, Duration) -> Done) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, directory, seconds] = arguments.as_slice() else { panic!("give WORKLOAD DIRECTORY SECONDS") };
    let work = WORKS.into_iter().find(|work| work.name == name).expect("the name of a workload");
    let length = Duration::from_secs_f64(seconds.parse().expect("seconds"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let peer: P = prepare(Path::new(directory), work).await;
        let warm = measure(&peer, work, length / 5).await;
        let began = Instant::now();
        let mut done = measure(&peer, work, length).await;
        let elapsed = began.elapsed();
        check(&peer, work, warm.writes + done.writes).await;

        done.times.sort_unstable();
        let at = |part: usize| done.times[(done.times.len() - 1) * part / 100].as_secs_f64() * 1e6;
        let rate = done.times.len() as f64 / elapsed.as_secs_f64();
        println!("{name} {rate:.1} {:.3} {:.3}", at(50), at(99));
    });
}

async fn prepare<P: Peer>(directory: &Path, work: Work) -> P {
    let path = directory.join("bench.db");
    let peer = P::open(Setup { path: path.clone(), synchronous: work.synchronous }).await;
    peer.script(SCHEMA.into()).await;
    peer.script(format!(
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT {})
         INSERT INTO t SELECT i, i * 7, '{PREFIX}' || i, i / 3.0 FROM n;",
        work.rows
    ))
    .await;
    assert!(path.with_extension("db-wal").exists(), "not in WAL mode");
    let synchronous = ["OFF", "NORMAL", "FULL"][peer.number("PRAGMA synchronous".into()).await as usize];
    assert_eq!(synchronous, work.synchronous);
    peer
}

async fn repeat<P: Peer>(peer: &P, work: Work, task: u64, length: Duration) -> Done {
    let mut done = Done { times: Vec::with_capacity(1 << 16), writes: 0 };
    let (mut random, began) = (Random(task + 1), Instant::now());
    loop {
        let id = random.below(work.rows) + 1;
        let kind = if work.kind == Kind::Mixed && random.below(10) > 0 { Kind::Read } else { work.kind };
        let before = Instant::now();
        // In a bulk the time is for checking and clearing too; three are enough for a median.
        if before - began >= length && (work.tasks > 1 || done.times.len() >= 3) {
            return done;
        }
        match kind {
            Kind::Read => {
                let text = peer.read(id).await;
                done.times.push(before.elapsed());
                assert_eq!(text[PREFIX.len()..].parse(), Ok(id));
            }
            Kind::Insert => {
                peer.insert(id).await;
                done.times.push(before.elapsed());
                done.writes += 1;
            }
            Kind::Mixed => {
                peer.update(id).await;
                done.times.push(before.elapsed());
                done.writes += 1;
            }
            Kind::Bulk => {
                peer.bulk().await;
                done.times.push(before.elapsed());
                assert_eq!(peer.number("SELECT count(*) FROM log".into()).await, MANY);
                assert_eq!(peer.number("SELECT sum(a) FROM log".into()).await, MANY * (MANY - 1) / 2);
                peer.script("DELETE FROM log".into()).await;
            }
            Kind::Fetch => {
                let rows = peer.fetch().await;
                done.times.push(before.elapsed());
                assert_eq!(rows.len() as i64, MANY);
                for (id, a, b, c) in rows {
                    assert_eq!((a, b[PREFIX.len()..].parse(), c), (id * 7, Ok(id), id as f64 / 3.0));
                }
            }
        }
    }
}

/// Every write is there.
async fn check<P: Peer>(peer: &P, work: Work, writes: i64) {
    let (inserts, updates) = if work.kind == Kind::Insert { (writes, 0) } else { (0, writes) };
    let whole = format!("SELECT count(*) FROM log WHERE b = '{TEXT}' AND a BETWEEN 1 AND {}", work.rows);
    assert_eq!(peer.number(whole).await, inserts);
    assert_eq!(peer.number("SELECT sum(a - id * 7) FROM t".into()).await, updates);
}

/// xorshift: the same numbers for everyone.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as i64
    }
}
