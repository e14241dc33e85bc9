//! Borrowing: growth, order, limits, and errors that arrive at once.

mod toy;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use strongroom::engine::Phase;
use strongroom::pool::{Attempt, FixedDelay};
use strongroom::{ErrorKind, Pool, Pooled, Reason, Result, RetryPolicy};
use tokio::time::Instant;
use toy::{Gate, Step, Toys, millis, secs, settle};

#[tokio::test(start_paused = true)]
async fn a_second_connection_is_opened_at_once() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(2).build();
    let begin = Instant::now();
    let (first, second) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    assert_ne!(first.number, second.number);
    assert_eq!(begin.elapsed(), millis(0), "growth waits for nothing");
}

#[tokio::test(start_paused = true)]
async fn building_needs_no_runtime_and_opens_nothing() {
    let toys = Toys::default();
    let pool = std::thread::spawn({
        let toys = toys.clone();
        move || toys.pool().idle_timeout(Some(secs(1))).max_lifetime(Some(secs(1))).build()
    });
    let pool = pool.join().unwrap();
    assert_eq!((toys.world.begun(Step::Connect), pool.stats().total_connections), (0, 0));
    pool.get().await.unwrap();
    assert_eq!(toys.world.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_connection_used_last_is_lent_first() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(3).build();
    let mut loans = Vec::new();
    for _ in 0..3 {
        loans.push(pool.get().await.unwrap());
    }
    loans.swap(0, 2);
    let last = loans.last().unwrap().number;
    for loan in loans {
        drop(loan);
    }
    assert_eq!(pool.get().await.unwrap().number, last);
    assert_eq!(toys.world.opened(), 3);
}

#[tokio::test(start_paused = true)]
async fn callers_are_served_in_the_order_in_which_they_came() {
    let pool = Toys::default().pool().max_size(1).build();
    let order = Arc::new(Mutex::new(Vec::new()));
    let loan = pool.get().await.unwrap();
    let mut tasks = Vec::new();
    for number in 0..20 {
        let (pool, order) = (pool.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let _loan = pool.get().await.unwrap();
            order.lock().unwrap().push(number);
            tokio::time::sleep(millis(1)).await;
        }));
        settle().await;
    }
    assert_eq!(pool.stats().waiting, 20);
    drop(loan);
    // A newcomer does not overtake those who wait.
    let newcomer = pool.get().await.unwrap();
    assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
    drop(newcomer);
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_connect_reaches_the_caller_at_once_and_costs_no_capacity() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(2).build();
    toys.world.script(Step::Connect, [Gate::Err, Gate::Panic, Gate::Err, Gate::Panic, Gate::Panic]);
    let begin = Instant::now();
    for reason in [Reason::Unspecified, Reason::Panicked, Reason::Unspecified, Reason::Panicked, Reason::Panicked] {
        let error = pool.get().await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Connection, reason), "{error}");
        assert_eq!(error.phase(), Some(Phase::Connect));
    }
    assert_eq!(begin.elapsed(), millis(0));
    let _both = (pool.get().await.unwrap(), pool.get().await.unwrap());
    assert_eq!(pool.stats().total_errors, 5);
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_hangs_costs_its_callers_the_timeout_and_nothing_more() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(2).acquire_timeout(secs(2)).build();
    toys.world.script(Step::Connect, [Gate::Never, Gate::Never]);
    let begin = Instant::now();
    let (first, second) = tokio::join!(pool.get(), pool.get());
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert_eq!((error.kind(), error.phase()), (ErrorKind::Timeout, Some(Phase::Connect)), "{error}");
    }
    assert_eq!(begin.elapsed(), secs(2));
    let stats = pool.stats();
    assert_eq!((stats.total_timeouts, stats.total_errors), (2, 2));
    let _both = (pool.get().await.unwrap(), pool.get().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_tried_again_within_the_acquire_timeout() {
    let toys = Toys::default();
    let pool = Pool::builder(toys.clone()).connect_timeout(secs(1)).acquire_timeout(secs(10)).build();
    toys.world.script(Step::Connect, [Gate::Never, Gate::Slow(500)]);
    let begin = Instant::now();
    pool.get().await.unwrap();
    assert_eq!(begin.elapsed(), millis(1000 + 500 + 500), "limit, pause, slow connect");
}

#[tokio::test(start_paused = true)]
async fn transient_errors_are_tried_again_as_the_policy_says_and_permanent_ones_never() {
    let toys = Toys::default();
    let pool = Pool::builder(toys.clone()).retry(FixedDelay::new(3, millis(200))).build();
    toys.world.script(Step::Connect, [Gate::Transient, Gate::Transient, Gate::Ok]);
    let begin = Instant::now();
    let loan = pool.get().await.unwrap();
    assert_eq!((begin.elapsed(), toys.world.begun(Step::Connect)), (millis(400), 3));

    toys.world.script(Step::Connect, [Gate::Transient, Gate::Transient, Gate::Transient, Gate::Ok]);
    let error = pool.get().await.unwrap_err();
    assert_eq!(toys.world.begun(Step::Connect), 6, "three attempts in all");
    assert!(!error.is_transient(), "retries are used up: {error}");

    toys.world.script(Step::Connect, [Gate::Err]);
    let begin = Instant::now();
    pool.get().await.unwrap_err();
    assert_eq!((begin.elapsed(), toys.world.begun(Step::Connect)), (millis(0), 7));
    drop(loan);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_would_begin_after_the_deadline_is_not_waited_for() {
    let toys = Toys::default();
    let pool = Pool::builder(toys.clone()).retry(FixedDelay::new(10, secs(3))).acquire_timeout(secs(5)).build();
    toys.world.script(Step::Connect, [Gate::Transient; 10]);
    let begin = Instant::now();
    let error = pool.get().await.unwrap_err();
    assert_eq!((begin.elapsed(), toys.world.begun(Step::Connect)), (secs(3), 2));
    assert_eq!(error.to_string(), "Connect busy", "the cause, not a timeout");
}

#[tokio::test(start_paused = true)]
async fn the_hook_prepares_every_new_connection_and_its_failure_is_a_failed_connect() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(2).on_connect(|toy| Box::pin(toy.hook())).build();
    toys.world.script(Step::Hook, [Gate::Ok, Gate::Err, Gate::Panic]);
    let kept = pool.get().await.unwrap();
    assert_eq!(pool.get().await.unwrap_err().to_string(), "Hook refused");
    assert_eq!(pool.get().await.unwrap_err().reason(), Reason::Panicked);
    assert_eq!((toys.world.closed(), toys.world.live()), (2, 1), "what the hook refused was closed properly");
    let stats = pool.stats();
    assert_eq!((stats.total_errors, stats.total_opened, stats.total_connections), (2, 1, 1));
    let fresh = pool.get().await.unwrap();
    assert_eq!(toys.world.begun(Step::Hook), 4);
    drop((kept, fresh));
    pool.get().await.unwrap();
    assert_eq!(toys.world.begun(Step::Hook), 4, "not on connections that were opened before");
}

#[tokio::test(start_paused = true)]
async fn a_connection_or_a_policy_that_panics_where_it_must_not_costs_no_capacity() {
    struct Panicky;
    impl RetryPolicy for Panicky {
        fn next_delay(&self, _: Attempt<'_>) -> Option<std::time::Duration> {
            panic!("as told")
        }
    }
    let toys = Toys::default();
    let pool = toys.pool().max_size(1).retry(Panicky).build();
    toys.world.script(Step::Connect, [Gate::Err]);
    AssertUnwindSafe(pool.get()).catch_unwind().await.unwrap_err();
    let mut loan = pool.get().await.unwrap();
    loan.rude = true;
    drop(loan);
    assert_eq!(pool.get().await.unwrap().number, 2, "a connection whose state panics is broken");
}

#[tokio::test(start_paused = true)]
async fn get_can_be_spawned_and_shared() {
    fn shared<T: Send + Sync>(_: &T) {}
    async fn borrow(pool: Pool<Toys>) -> Result<usize> {
        let loan: Pooled<Toys> = pool.get().await?;
        shared(&loan);
        Ok(loan.number)
    }
    let pool = Toys::default().pool().build();
    shared(&pool);
    assert_eq!(tokio::spawn(borrow(pool.clone())).await.unwrap().unwrap(), 1);
}
