//! Health checks: when they run, and what a dead connection costs.

mod toy;

use std::time::Duration;

use strongroom::engine::ResourceState;
use strongroom::pool::{AlwaysHealthy, Ping};
use strongroom::{Error, ErrorKind, HealthCheck, Reason, Result};
use tokio::time::{Instant, advance};
use toy::{Gate, Step, Toy, Toys, millis, secs};

#[tokio::test(start_paused = true)]
async fn a_connection_used_a_moment_ago_is_not_checked() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(1).build();
    drop(pool.get().await.unwrap());
    assert_eq!(toys.world.begun(Step::Ping), 0, "never a fresh one");
    advance(millis(499)).await;
    drop(pool.get().await.unwrap());
    assert_eq!(toys.world.begun(Step::Ping), 0);
    advance(millis(500)).await;
    let loan = pool.get().await.unwrap();
    assert_eq!(toys.world.begun(Step::Ping), 1);
    advance(secs(5)).await;
    drop(loan);
    drop(pool.get().await.unwrap());
    assert_eq!(toys.world.begun(Step::Ping), 1, "a long loan is use, not idleness");
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_that_says_no_goodbye_keeps_nobody_past_his_timeout() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(1).acquire_timeout(secs(4)).health(Ping).build();
    drop(pool.get().await.unwrap());
    toys.world.script(Step::Ping, [Gate::Never]);
    toys.world.script(Step::Close, [Gate::Never]);
    let begin = Instant::now();
    assert_eq!(pool.get().await.unwrap().number, 2);
    assert_eq!(begin.elapsed(), secs(2 + 1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_its_check_is_closed_and_replaced_within_the_call() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(2).health(Ping).build();
    for (number, gate) in [Gate::Err, Gate::Panic].into_iter().enumerate() {
        drop(pool.get().await.unwrap());
        toys.world.script(Step::Ping, [gate]);
        let loan = pool.get().await.unwrap();
        assert_eq!(loan.number, number + 2);
        assert_eq!((toys.world.closed(), toys.world.live()), (number + 1, 1));
        let stats = pool.stats();
        assert_eq!((stats.total_errors, stats.total_connections), (number as u64 + 1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn every_dead_connection_that_lies_idle_is_passed_over() {
    let toys = Toys::default();
    let pool = toys.pool().min_size(4).max_size(4).health(Ping).build();
    pool.warm().await.unwrap();
    toys.world.script(Step::Ping, [Gate::Err, Gate::Err, Gate::Err, Gate::Ok]);
    let loan = pool.get().await.unwrap();
    assert!(loan.number <= 4, "the last of the old ones was alive");
    assert_eq!((toys.world.closed(), pool.stats().total_connections), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_leaves_the_caller_time_to_connect_anew() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(1).acquire_timeout(secs(2)).health(Ping).build();
    drop(pool.get().await.unwrap());
    toys.world.script(Step::Ping, [Gate::Never]);
    let begin = Instant::now();
    assert_eq!(pool.get().await.unwrap().number, 2);
    assert_eq!(begin.elapsed(), secs(1), "half of what the caller had");
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_whose_replacement_fails_gives_that_error_and_keeps_the_capacity() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(1).health(Ping).build();
    drop(pool.get().await.unwrap());
    toys.world.script(Step::Ping, [Gate::Err]);
    toys.world.script(Step::Connect, [Gate::Err]);
    assert_eq!(pool.get().await.unwrap_err().to_string(), "Connect refused");
    assert_eq!((pool.stats().total_connections, pool.stats().total_errors), (0, 2));
    pool.get().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_users_own_check_sees_how_long_the_connection_was_idle() {
    struct NotOnMondays;
    #[strongroom::pool::async_trait]
    impl HealthCheck<Toy> for NotOnMondays {
        async fn check(&self, toy: &mut Toy, idle: Duration) -> Result<()> {
            toy.world.note(format!("checked after {idle:?}"));
            Err(Error::new(ErrorKind::Connection, "it is Monday").because(Reason::Broken))
        }
    }
    let toys = Toys::default();
    let pool = toys.pool().health(NotOnMondays).build();
    drop(pool.get().await.unwrap());
    advance(secs(7)).await;
    assert_eq!(pool.get().await.unwrap().number, 2);
    assert_eq!(toys.world.journal()[1], "checked after 7s");
    let pool = toys.pool().health(AlwaysHealthy).build();
    drop(pool.get().await.unwrap());
    advance(secs(7)).await;
    pool.get().await.unwrap();
    assert_eq!(toys.world.begun(Step::Ping), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_its_check_leaves_in_a_transaction_is_not_lent() {
    struct LeavesItSo(ResourceState);
    #[strongroom::pool::async_trait]
    impl HealthCheck<Toy> for LeavesItSo {
        async fn check(&self, toy: &mut Toy, _idle: Duration) -> Result<()> {
            toy.state = self.0;
            Ok(())
        }
    }
    for state in [ResourceState::InTransaction, ResourceState::Failed, ResourceState::Altered, ResourceState::Broken] {
        let toys = Toys::default();
        let pool = toys.pool().max_size(1).health(LeavesItSo(state)).build();
        drop(pool.get().await.unwrap());
        advance(secs(7)).await;
        assert_eq!(pool.get().await.unwrap().number, 2, "{state:?}");
        assert_eq!((toys.world.closed(), pool.stats().total_errors), (1, 1), "{state:?}");
    }
}
