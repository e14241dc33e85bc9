//! Idle timeout and lifetime. These tests wait for real, for milliseconds.

mod toy;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use strongroom::Pool;
use strongroom::pool::{AlwaysHealthy, PoolBuilder};
use tokio::time::{sleep, timeout};
use toy::{Gate, Step, Toys, millis, secs};

fn pool(toys: &Toys, set: impl FnOnce(PoolBuilder<Toys>) -> PoolBuilder<Toys>) -> Pool<Toys> {
    set(toys.pool().max_size(4).health(AlwaysHealthy)).build()
}

/// Opens `count` connections and lets them lie idle.
async fn stock(pool: &Pool<Toys>, count: usize) {
    let mut loans = Vec::new();
    for _ in 0..count {
        loans.push(pool.get().await.unwrap());
    }
}

async fn until(what: &str, happened: impl Fn() -> bool) {
    let wait = async {
        while !happened() {
            sleep(millis(2)).await;
        }
    };
    timeout(secs(10), wait).await.unwrap_or_else(|_| panic!("{what}: did not happen"));
}

#[tokio::test]
async fn by_default_nothing_is_reaped() {
    let toys = Toys::default();
    let pool = pool(&toys, |pool| pool);
    stock(&pool, 4).await;
    sleep(millis(100)).await;
    assert_eq!((pool.stats().idle_connections, toys.world.closed()), (4, 0));
}

#[tokio::test]
async fn idle_connections_are_closed_down_to_min_size_and_none_is_opened_for_them() {
    let toys = Toys::default();
    let pool = pool(&toys, |pool| pool.min_size(2).idle_timeout(Some(millis(20))));
    stock(&pool, 4).await;
    until("reaping", || toys.world.closed() == 2).await;
    sleep(millis(200)).await;
    assert_eq!((toys.world.opened(), toys.world.closed()), (4, 2), "no loop of closing and opening");
    let stats = pool.stats();
    assert_eq!((stats.total_connections, stats.idle_connections, stats.total_errors), (2, 2, 0));
    assert!(pool.get().await.unwrap().number <= 4, "the kept ones are still lent");
}

#[tokio::test]
async fn with_a_lane_the_writer_is_what_is_kept() {
    let toys = Toys::default();
    let pool = pool(&toys, |pool| pool.min_size(1).writer_lane(true).idle_timeout(Some(millis(20))));
    drop(pool.get().await.unwrap());
    for _ in 0..3 {
        drop(pool.get_for(strongroom::engine::Access::Read).await.unwrap());
    }
    until("reaping", || toys.world.closed() == toys.world.opened() - 1).await;
    assert_eq!(pool.get().await.unwrap().number, 1);
}

#[tokio::test]
async fn a_connection_past_its_lifetime_is_not_shelved_again() {
    let toys = Toys::default();
    let pool = pool(&toys, |pool| pool.min_size(1).max_size(1).max_lifetime(Some(millis(30))));
    let loan = pool.get().await.unwrap();
    sleep(millis(60)).await;
    assert_eq!(toys.world.closed(), 0, "not while it is lent");
    drop(loan);
    assert_eq!(pool.get().await.unwrap().number, 2);
    assert_eq!((toys.world.closed(), toys.world.peak.load(SeqCst)), (1, 1), "closed before the next was opened");
}

#[tokio::test]
async fn a_connection_kept_for_min_size_is_replaced_when_its_lifetime_ends() {
    let toys = Toys::default();
    let pool = pool(&toys, |pool| pool.min_size(1).idle_timeout(Some(millis(10))).max_lifetime(Some(millis(80))));
    stock(&pool, 1).await;
    until("replacement", || toys.world.opened() == 2).await;
    assert_eq!(toys.world.closed(), 1);
}

#[tokio::test]
async fn a_goodbye_that_hangs_blocks_nobody() {
    let toys = Toys::default();
    let pool = pool(&toys, |pool| pool.min_size(0).idle_timeout(Some(millis(10))));
    toys.world.script(Step::Close, [Gate::Never]);
    stock(&pool, 1).await;
    until("reaping", || toys.world.begun(Step::Close) == 1).await;
    let begin = std::time::Instant::now();
    assert_eq!(pool.stats().total_connections, 0, "out of service");
    stock(&pool, 4).await;
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn close_waits_for_what_the_reaper_is_closing() {
    let toys = Toys::default();
    let pool = pool(&toys, |pool| pool.min_size(0).idle_timeout(Some(millis(10))));
    toys.world.script(Step::Close, [Gate::Slow(100)]);
    stock(&pool, 1).await;
    until("reaping", || toys.world.begun(Step::Close) == 1).await;
    pool.close(secs(1)).await;
    assert_eq!(toys.world.live(), 0);
}
