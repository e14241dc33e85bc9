//! Giving back: what can be lent again at once, what is reset first, what is thrown away, and where that may happen.

mod toy;

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use strongroom::engine::{Resource as _, ResourceState};
use strongroom::pool::AlwaysHealthy;
use strongroom::{Pool, Pooled};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep};
use toy::{Gate, Step, Toys, millis, secs, settle};

fn pool_of(toys: &Toys, size: u32) -> Pool<Toys> {
    toys.pool().min_size(0).max_size(size).build()
}

/// Borrows a connection and gives it back in `state`.
async fn returned(pool: &Pool<Toys>, state: ResourceState) {
    let mut loan = pool.get().await.unwrap();
    loan.state = state;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_can_be_lent_again_at_once() {
    let toys = Toys::default();
    let pool = pool_of(&toys, 1);
    returned(&pool, ResourceState::Idle).await;
    let stats = pool.stats();
    assert_eq!((stats.idle_connections, stats.active_connections, stats.total_released), (1, 0, 1));
    assert_eq!(toys.world.begun(Step::Reset), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_in_any_other_state_is_reset_before_anyone_gets_it() {
    let toys = Toys::default();
    let pool = pool_of(&toys, 1);
    for (resets, state) in
        [ResourceState::Unknown, ResourceState::InTransaction, ResourceState::Failed].into_iter().enumerate()
    {
        toys.world.script(Step::Reset, [Gate::Slow(100)]);
        returned(&pool, state).await;
        assert_eq!(pool.stats().active_connections, 1, "it counts as lent while it is reset");
        let loan = pool.get().await.unwrap();
        assert_eq!((loan.state(), loan.number), (ResourceState::Idle, 1));
        assert_eq!(toys.world.begun(Step::Reset), resets + 1);
    }
    assert_eq!(pool.stats().total_errors, 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_broken_or_cannot_be_reset_is_closed_and_replaced() {
    let toys = Toys::default();
    let pool = pool_of(&toys, 1);
    let faults = [None, Some(Gate::Err), Some(Gate::Panic), Some(Gate::Never)];
    for (number, reset) in faults.into_iter().enumerate() {
        toys.world.script(Step::Reset, reset);
        returned(&pool, if reset.is_some() { ResourceState::Unknown } else { ResourceState::Broken }).await;
        assert_eq!(pool.get().await.unwrap().number, number + 2, "{reset:?}");
        assert_eq!(toys.world.closed(), number + 1, "closed with a goodbye, not just dropped");
        assert_eq!(pool.stats().total_errors, number as u64 + 1);
    }
    assert_eq!((toys.world.peak.load(std::sync::atomic::Ordering::SeqCst), toys.world.live()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_that_fails_or_hangs_costs_no_capacity() {
    let toys = Toys::default();
    let pool = pool_of(&toys, 1);
    for gate in [Gate::Err, Gate::Panic, Gate::Never] {
        toys.world.script(Step::Close, [gate]);
        returned(&pool, ResourceState::Broken).await;
        pool.get().await.unwrap_or_else(|error| panic!("{gate:?}: {error}"));
    }
    assert_eq!(toys.world.live(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_long_goodbye_keeps_its_capacity_until_it_is_said_or_given_up() {
    for (gate, seconds, closed) in [(Gate::Never, 10, 0), (Gate::Slow(4000), 4, 1)] {
        let toys = Toys::default();
        let pool = pool_of(&toys, 1);
        toys.world.script(Step::Close, [gate]);
        returned(&pool, ResourceState::Broken).await;
        let begin = Instant::now();
        drop(pool.get().await.unwrap());
        assert_eq!((begin.elapsed(), toys.world.closed(), toys.world.live()), (secs(seconds), closed, 1), "{gate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_goodbye_is_over_before_another_connection_is_opened() {
    let toys = Toys::default();
    let pool = pool_of(&toys, 1);
    toys.world.script(Step::Close, [Gate::Slow(900)]);
    returned(&pool, ResourceState::Broken).await;
    drop(pool.get().await.unwrap());
    assert_eq!(toys.world.journal(), ["open Write", "close Write", "open Write"]);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_panics_gives_its_connection_back() {
    let pool = pool_of(&Toys::default(), 1);
    let holder = AssertUnwindSafe(async {
        let mut loan = pool.get().await.unwrap();
        loan.state = ResourceState::InTransaction;
        panic!("as told");
    });
    holder.catch_unwind().await.unwrap_err();
    assert_eq!(pool.get().await.unwrap().state(), ResourceState::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_replaced_in_the_background_down_to_min_size() {
    let toys = Toys::default();
    let pool = toys.pool().min_size(2).max_size(3).build();
    pool.warm().await.unwrap();
    assert_eq!((pool.stats().idle_connections, pool.stats().total_acquired), (2, 0));
    returned(&pool, ResourceState::Broken).await;
    settle().await;
    assert_eq!((pool.stats().idle_connections, toys.world.opened()), (2, 3));
    // A database that is down is tried once, not in a loop.
    toys.world.script(Step::Connect, [Gate::Err; 100]);
    returned(&pool, ResourceState::Broken).await;
    sleep(secs(3600)).await;
    assert_eq!((pool.stats().total_connections, toys.world.begun(Step::Connect)), (1, 4));
}

#[tokio::test(start_paused = true)]
async fn warming_opens_what_is_missing_and_nothing_else() {
    let toys = Toys::default();
    let pool = toys.pool().min_size(3).max_size(4).build();
    let loan = pool.get().await.unwrap();
    toys.world.script(Step::Connect, [Gate::Slow(100), Gate::Slow(100)]);
    let begin = Instant::now();
    pool.warm().await.unwrap();
    assert_eq!(begin.elapsed(), millis(100), "side by side");
    assert_eq!((pool.stats().total_connections, pool.stats().idle_connections), (3, 2));
    pool.warm().await.unwrap();
    assert_eq!(toys.world.opened(), 3);
    drop(loan);

    let toys = Toys::default();
    toys.world.script(Step::Connect, [Gate::Ok, Gate::Err]);
    let error = toys.pool().min_size(2).build().warm().await.unwrap_err();
    assert_eq!(error.to_string(), "Connect refused");
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Borrows one connection in each state a borrower can leave it in.
async fn borrowed(pool: &Pool<Toys>) -> Vec<Pooled<Toys>> {
    let mut loans = Vec::new();
    for state in [ResourceState::Idle, ResourceState::Unknown, ResourceState::Broken] {
        let mut loan = pool.get().await.unwrap();
        loan.state = state;
        loans.push(loan);
    }
    loans
}

#[test]
fn connections_can_be_given_back_outside_of_the_runtime() {
    let toys = Toys::default();
    let pool = pool_of(&toys, 3);
    let runtime = runtime();
    drop(runtime.block_on(borrowed(&pool)));
    runtime.block_on(async {
        let loans = borrowed(&pool).await;
        assert_eq!((loans.len(), toys.world.opened(), toys.world.begun(Step::Reset)), (3, 4, 1));
    });
}

#[test]
fn connections_can_be_given_back_after_the_runtime_is_gone_and_others_go_on() {
    let toys = Toys::default();
    let pool = pool_of(&toys, 3);
    let first = runtime();
    let loans = first.block_on(borrowed(&pool));
    drop(first);
    drop(loans);
    let stats = pool.stats();
    assert_eq!((stats.active_connections, stats.idle_connections), (0, 1), "nobody was left to reset the others");
    assert_eq!(toys.world.live(), 1);
    let second = runtime();
    second.block_on(async {
        let _three = borrowed(&pool).await;
        assert_eq!((toys.world.live(), pool.stats().active_connections), (3, 3));
    });
}

#[test]
fn a_runtime_that_ends_during_a_reset_frees_the_capacity() {
    let toys = Toys::default();
    toys.world.script(Step::Reset, [Gate::Never]);
    let pool = pool_of(&toys, 1);
    let first = runtime();
    first.block_on(async {
        returned(&pool, ResourceState::Unknown).await;
        settle().await;
        assert_eq!(toys.world.begun(Step::Reset), 1);
    });
    drop(first);
    assert_eq!((pool.stats().total_connections, toys.world.live()), (0, 0));
    assert_eq!(runtime().block_on(pool.get()).unwrap().number, 2);
}

#[test]
fn the_last_handle_closes_what_is_idle() {
    let toys = Toys::default();
    let runtime = runtime();
    runtime.block_on(async {
        let pool = toys.pool().min_size(3).health(AlwaysHealthy).build();
        pool.warm().await.unwrap();
        let loan = pool.get().await.unwrap();
        drop(pool);
        settle().await;
        assert_eq!(toys.world.closed(), 0, "a loan keeps its pool");
        drop(loan);
        settle().await;
        assert_eq!((toys.world.closed(), toys.world.live()), (3, 0));
    });
}
