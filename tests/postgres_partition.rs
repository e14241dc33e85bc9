//! A primary that nobody reaches any more, and one whose disk is full, while callers append to lists and read them:
//! nothing that was acknowledged is lost, nothing is done twice, all that was told has one order, and the handle heals.
//!
//! `STRONGROOM_FAILOVER_ROUNDS` says how often, 1 by default.
#![cfg(all(feature = "postgres", target_os = "linux"))]
#![allow(clippy::large_futures, reason = "a test may have a large stack")]

#[path = "common/cluster.rs"]
mod cluster;
#[path = "common/postgres.rs"]
mod common;
#[path = "common/lists.rs"]
mod lists;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use cluster::Cluster;
use lists::histories::{Op, Order, Outcome, Transaction, check};
use lists::{Caller, TABLE};
use strongroom::AsyncDatabase;
use strongroom::database::{Isolation, TransactionOptions};
use strongroom::engine::TransactionMode;
use strongroom::pool::ExponentialBackoff;
use strongroom::postgres::PostgresConnector;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

type Db = AsyncDatabase<PostgresConnector>;

/// Callers at work, and how many of their appends were acknowledged.
struct Work {
    db: Db,
    callers: Vec<JoinHandle<Vec<Transaction>>>,
    done: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

fn modes() -> (TransactionOptions, TransactionMode) {
    let write = TransactionOptions::new().isolation(Isolation::Serializable);
    (write, TransactionMode::READ.isolation(Isolation::Serializable))
}

impl Work {
    async fn begin(cluster: &Cluster) -> Self {
        let connector = cluster.connector().setting("default_transaction_isolation", "serializable");
        let db = AsyncDatabase::with_connector(connector).pool_max(10).pool_timeout(Duration::from_secs(5));
        let db = db.retry(ExponentialBackoff::default()).open().await.expect("a database");
        db.execute_script(TABLE).await.expect("a table");
        let (done, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let callers = (1..11).map(|number| {
            // Nobody is told that a host is cut off, so a call has to have an end by itself.
            let db = db.with_timeout(Duration::from_secs(3));
            let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
            tokio::spawn(async move {
                let (write, read) = modes();
                let mut caller = Caller::new(number, 1, write, read);
                while !stop.load(SeqCst) {
                    if caller.step(&db).await.is_some() {
                        sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                    let last = caller.history.last();
                    let appends = |told: &Transaction| {
                        told.outcome == Outcome::Committed && told.ops.iter().any(|op| matches!(op, Op::Append(..)))
                    };
                    done.fetch_add(usize::from(last.is_some_and(appends)), SeqCst);
                }
                caller.history
            })
        });
        Self { callers: callers.collect(), db, done, stop }
    }

    /// Until a hundred more appends were acknowledged.
    async fn goes_on(&self, when: &str) -> Duration {
        let (begun, before) = (Instant::now(), self.done.load(SeqCst));
        let more = async {
            while self.done.load(SeqCst) < before + 100 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(240), more).await.unwrap_or_else(|_| panic!("nothing is written {when}"));
        begun.elapsed()
    }

    async fn end(self, what: &str) {
        self.stop.store(true, SeqCst);
        let mut history = Vec::new();
        for caller in self.callers {
            history.extend(caller.await.expect("no caller panics"));
        }
        let (write, read) = modes();
        let mut last = Caller::new(5000, 0, write, read);
        last.read_all(&self.db).await.expect("the lists");
        history.extend(last.history);
        let checked = check(&history, Order::LastReading).unwrap_or_else(|anomaly| panic!("{what}: {anomaly:?}"));
        println!("{what}: {checked:?}");
    }
}

fn rounds() -> usize {
    std::env::var("STRONGROOM_FAILOVER_ROUNDS").map_or(1, |rounds| rounds.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_nobody_reaches_costs_time_and_nothing_else() {
    let Some(cluster) = Cluster::start_apart() else { return };
    let work = Work::begin(&cluster).await;
    for round in 0..rounds() {
        work.goes_on("at first").await;
        let lost = cluster.primary();
        cluster.script("part", &lost);
        let promoted = cluster.script("promote", "");
        let gap = work.goes_on("behind the partition").await;
        println!("round {round}: {lost} was cut off, {promoted} was promoted, written again after {gap:?}");
        // It still takes itself for the primary, and must not come back as one.
        cluster.script("kill", &lost);
        cluster.script("join", &lost);
        cluster.script("rejoin", &lost);
        work.goes_on("when it is back as a standby").await;
    }
    work.end("a partition").await;
}

/// A link that is cut for a moment, with nobody promoted: commits wait for a standby that confirms them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_cut_off_for_a_moment_goes_on() {
    let Some(cluster) = Cluster::start_apart() else { return };
    let work = Work::begin(&cluster).await;
    for _ in 0..rounds() {
        work.goes_on("at first").await;
        cluster.script("part", "n0");
        sleep(Duration::from_secs(4)).await;
        cluster.script("join", "n0");
        println!("written again after {:?}", work.goes_on("when the link is back").await);
    }
    work.end("a link that was cut").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_whose_disk_is_full_costs_time_and_nothing_else() {
    let Some(cluster) = Cluster::start_small("400m") else { return };
    let work = Work::begin(&cluster).await;
    work.db.execute_script("CREATE TABLE pad (text TEXT)").await.expect("a table");
    for round in 0..rounds() {
        work.goes_on("at first").await;
        let filler = cluster.directory.path().join("n0/filler");
        let mut file = std::fs::File::create(&filler).expect("a file");
        while file.write_all(&vec![1; 1 << 16]).is_ok() {}
        drop(file);
        let limited = work.db.with_timeout(Duration::from_secs(3));
        let (begun, mut failed) = (Instant::now(), Vec::new());
        while begun.elapsed() < Duration::from_secs(4) {
            let pad = "INSERT INTO pad SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 20000)";
            if let Err(error) = limited.execute(pad, ()).await {
                failed.push(error);
                sleep(Duration::from_millis(50)).await;
            }
        }
        assert!(!failed.is_empty(), "the disk was not full");
        std::fs::remove_file(&filler).expect("removed");
        let down = cluster.script("status", "").contains("n0 down");
        if down {
            cluster.script("revive", "n0");
        }
        let gap = work.goes_on("when the disk has space again").await;
        println!("round {round}: down: {down}, {} calls failed, as {}; again after {gap:?}", failed.len(), failed[0]);
    }
    work.end("a full disk").await;
}
