//! Settings outside their bounds: moved to the bound, with a warning, never a panic.

#[path = "common/log.rs"]
mod log;
mod toy;

use log::Log;
use strongroom::pool::PoolBuilder;
use strongroom::{Pool, Reason};
use tokio::time::Instant;
use toy::{Gate, Step, Toys, secs};

/// Builds a pool and returns it with the warnings that gave.
fn built(set: impl FnOnce(PoolBuilder<Toys>) -> PoolBuilder<Toys>) -> (Pool<Toys>, Toys, Vec<String>) {
    let (toys, (log, _listening)) = (Toys::default(), Log::listen());
    let pool = set(toys.pool()).build();
    (pool, toys, log.lines())
}

/// How many connections the pool lends before it says no.
async fn measured_max(pool: &Pool<Toys>) -> usize {
    let mut loans = Vec::new();
    loop {
        match pool.get().await {
            Ok(loan) => loans.push(loan),
            Err(error) => {
                assert_eq!(error.reason(), Reason::AllInUse);
                return loans.len();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn max_size_is_between_1_and_100() {
    for (given, used, warned) in [(0, 1, true), (1, 1, false), (10, 10, false), (100, 100, false), (101, 100, true)] {
        let (pool, _, warnings) = built(|pool| pool.min_size(0).max_size(given).acquire_timeout(secs(1)));
        assert_eq!(measured_max(&pool).await, used, "max_size({given})");
        assert_eq!(warnings.len(), usize::from(warned), "max_size({given}): {warnings:?}");
    }
    let (.., warnings) = built(|pool| pool.max_size(u32::MAX));
    assert!(warnings[0].contains("WARN") && warnings[0].contains("setting=\"pool.max_size\""), "{warnings:?}");
    assert!(warnings[0].contains("given=4294967295 used=100"), "{warnings:?}");
}

#[tokio::test(start_paused = true)]
async fn min_size_is_between_0_and_10_and_never_above_max_size() {
    for (min, max, used, warned) in
        [(0, 10, 0, false), (10, 20, 10, false), (11, 20, 10, true), (3, 2, 2, true), (1, 0, 1, true)]
    {
        let (pool, toys, warnings) = built(|pool| pool.min_size(min).max_size(max));
        pool.warm().await.unwrap();
        assert_eq!(toys.world.opened(), used, "min_size({min}) of max_size({max})");
        assert_eq!(warnings.len(), usize::from(warned), "min_size({min}) of max_size({max}): {warnings:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn acquire_timeout_is_between_1_and_300_seconds() {
    for (given, used, warned) in [(0, 1, true), (1, 1, false), (30, 30, false), (300, 300, false), (301, 300, true)] {
        let (pool, _, warnings) = built(|pool| pool.max_size(1).acquire_timeout(secs(given)));
        let _loan = pool.get().await.unwrap();
        let begin = Instant::now();
        pool.get().await.unwrap_err();
        assert_eq!(begin.elapsed(), secs(used), "acquire_timeout({given} s)");
        assert_eq!(warnings.len(), usize::from(warned), "acquire_timeout({given} s): {warnings:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_defaults_are_one_ten_and_thirty_seconds_without_a_warning() {
    let (pool, toys, warnings) = built(|pool| pool);
    pool.warm().await.unwrap();
    assert_eq!((toys.world.opened(), warnings.len()), (1, 0));
    let begin = Instant::now();
    assert_eq!(measured_max(&pool).await, 10);
    assert_eq!(begin.elapsed(), secs(30));
}

#[tokio::test(start_paused = true)]
async fn durations_of_nothing_and_of_ever_are_survived() {
    use std::time::Duration;
    let (pool, _, warnings) = built(|pool| {
        let zero = Some(Duration::ZERO);
        pool.idle_timeout(zero).max_lifetime(zero).connect_timeout(Duration::ZERO)
    });
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    pool.get().await.unwrap();
    let (pool, toys, warnings) = built(|pool| {
        let ever = Some(Duration::MAX);
        pool.idle_timeout(ever).max_lifetime(ever).connect_timeout(Duration::MAX).acquire_timeout(Duration::MAX)
    });
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    toys.world.script(Step::Connect, [Gate::Never]);
    let begin = Instant::now();
    pool.get().await.unwrap_err();
    assert_eq!(begin.elapsed(), secs(300));
}
