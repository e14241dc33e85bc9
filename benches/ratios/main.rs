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

mod direct;
mod ours;
mod work;

use std::time::{Duration, Instant};

use strongroom::sqlcipher::Synchronous;

use crate::direct::prepare_direct;
use crate::ours::prepare_ours;
use crate::work::{Round, Setup, TASKS, Work, length, median, percentiles, rounds};

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let plain =
        Setup { rows: 1000, synchronous: Synchronous::Normal, encrypted: false, followed: false, in_place: false };
    let secret = Setup { encrypted: true, ..plain };
    let full = Setup { synchronous: Synchronous::Full, ..plain };
    let shared = Setup { synchronous: Synchronous::FullShared, ..plain };
    let in_place = Setup { in_place: true, ..full };
    let followed = Setup { followed: true, ..plain };
    let large = Setup { rows: 100_000, ..plain };
    let works: [(&str, Setup, Work, bool); 35] = [
        ("point read, 1 task", plain, Work::Reads { tasks: 1 }, false),
        ("point read, 32 tasks", plain, Work::Reads { tasks: TASKS }, true),
        ("point read of 100,000 rows, 32 tasks", large, Work::Reads { tasks: TASKS }, true),
        ("point read of a row of three, 1 task", plain, Work::Triples { tasks: 1 }, false),
        ("point read of a row of three, 32 tasks", plain, Work::Triples { tasks: TASKS }, true),
        ("100 rows by range, 1 task", plain, Work::Ranges { tasks: 1 }, false),
        ("100 rows by range, 32 tasks", plain, Work::Ranges { tasks: TASKS }, true),
        ("transaction, 32 tasks, NORMAL", plain, Work::Transactions { tasks: TASKS }, true),
        ("transaction, 32 tasks, FULL", full, Work::Transactions { tasks: TASKS }, true),
        ("transaction, 32 tasks, FULL, shared syncs", shared, Work::Transactions { tasks: TASKS }, true),
        ("transaction, 1 task, NORMAL", plain, Work::Transactions { tasks: 1 }, false),
        ("transaction, 1 task, FULL", full, Work::Transactions { tasks: 1 }, false),
        ("transaction, 1 task, FULL, shared syncs", shared, Work::Transactions { tasks: 1 }, false),
        ("transaction, 1 task, FULL, in place", in_place, Work::Transactions { tasks: 1 }, false),
        ("transaction, 32 tasks, FULL, in place", in_place, Work::Transactions { tasks: TASKS }, true),
        ("first of 100,000 rows", large, Work::First, false),
        ("insert, 32 tasks, NORMAL", plain, Work::Inserts { tasks: TASKS }, true),
        ("insert, 32 tasks, FULL", full, Work::Inserts { tasks: TASKS }, true),
        ("insert, 1 task, NORMAL", plain, Work::Inserts { tasks: 1 }, false),
        ("insert, 1 task, FULL", full, Work::Inserts { tasks: 1 }, false),
        ("insert, 1 task, FULL, in place", in_place, Work::Inserts { tasks: 1 }, false),
        ("insert, 32 tasks, FULL, in place", in_place, Work::Inserts { tasks: TASKS }, true),
        ("followed insert, 1 task, NORMAL", followed, Work::Inserts { tasks: 1 }, false),
        ("followed insert, 32 tasks, NORMAL", followed, Work::Inserts { tasks: TASKS }, true),
        ("90/10, 32 tasks", plain, Work::Mixed, true),
        ("100,000 inserts in one call", plain, Work::Bulk, false),
        ("fetch 100,000 rows", large, Work::Fetch, false),
        ("fetch 100,000 rows into tuples", large, Work::FetchAs, false),
        ("stream 100,000 rows into tuples", large, Work::Stream, false),
        ("encrypted point read, 1 task", secret, Work::Reads { tasks: 1 }, false),
        ("encrypted insert, 32 tasks, NORMAL", secret, Work::Inserts { tasks: TASKS }, true),
        ("encrypted 90/10, 32 tasks", secret, Work::Mixed, true),
        (
            "encrypted point read of 100,000 rows, 32 tasks",
            Setup { rows: 100_000, ..secret },
            Work::Reads { tasks: TASKS },
            true,
        ),
        ("write, suspend, read, 1 task", plain, Work::Sleep, false),
        ("encrypted write, suspend, read, 1 task", secret, Work::Sleep, false),
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
