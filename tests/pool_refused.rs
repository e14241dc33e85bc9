//! The other side refuses a further connection while the pool has some already.

mod toy;

use std::sync::atomic::Ordering::SeqCst;

use strongroom::engine::Phase;
use strongroom::pool::{FixedDelay, PoolBuilder};
use strongroom::{ErrorKind, Pool, Reason};
use tokio::time::{Instant, sleep, timeout};
use toy::{Gate, Step, Toys, millis, secs, settle};

fn toys(limit: usize) -> Toys {
    let toys = Toys::default();
    toys.world.limit.store(limit, SeqCst);
    toys
}

/// A pool of four that is allowed fewer, and tries three times.
fn refused(toys: &Toys) -> PoolBuilder<Toys> {
    toys.pool().name("ledger").max_size(4).acquire_timeout(secs(5)).retry(FixedDelay::new(3, millis(500)))
}

/// Works for 0.3 s, as so many tasks at once; how long that took.
async fn calls(pool: &Pool<Toys>, number: usize) -> std::time::Duration {
    let begin = Instant::now();
    let tasks: Vec<_> = (0..number)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.get().await?.work(millis(300)).await })
        })
        .collect();
    for task in tasks {
        timeout(secs(60), task).await.expect("a call hangs").unwrap().unwrap();
    }
    begin.elapsed()
}

async fn all_back(pool: &Pool<Toys>) {
    let report = timeout(secs(60), pool.close(secs(1))).await.expect("a permit is lost");
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_takes_the_connection_that_comes_back() {
    let toys = toys(1);
    let pool = refused(&toys).build();
    let took = calls(&pool, 4).await;
    assert!(took < millis(1250), "{took:?}");
    assert_eq!((toys.world.opened(), toys.world.live()), (1, 1));
    assert_eq!(pool.stats().waiting, 0);
    all_back(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_takes_it_where_nothing_is_tried_twice_and_where_connections_age() {
    for limit in [1, 2, 3] {
        let toys = toys(limit);
        let pool = toys.pool().max_size(4).max_lifetime(Some(secs(600))).idle_timeout(Some(secs(600))).build();
        let took = calls(&pool, 6).await;
        assert!(took < millis(1950), "{took:?}");
        assert_eq!(toys.world.opened(), limit);
        all_back(&pool).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_waits_for_the_connection_that_is_only_being_opened() {
    let toys = toys(1);
    toys.world.script(Step::Connect, [Gate::Slow(200), Gate::Transient, Gate::Transient, Gate::Transient]);
    let pool = toys.pool().max_size(4).build();
    assert!(calls(&pool, 4).await < millis(1450));
    all_back(&pool).await;

    // Nor is it waited for when that fails.
    toys.world.script(Step::Connect, [Gate::Slow(200), Gate::Transient]);
    toys.world.script(Step::Hook, [Gate::Err]);
    let pool = toys.pool().max_size(4).on_connect(|toy| Box::pin(toy.hook())).build();
    let begin = Instant::now();
    let (first, second) = tokio::join!(pool.get(), pool.get());
    assert_eq!(first.unwrap_err().kind(), ErrorKind::Connection);
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Connection);
    assert_eq!((begin.elapsed(), pool.stats().waiting), (millis(200), 0));
}

#[tokio::test(start_paused = true)]
async fn who_was_refused_comes_before_those_who_asked_later() {
    let toys = toys(1);
    let pool = refused(&toys).max_size(2).build();
    let first = pool.get().await.unwrap();
    let later = |wait| {
        let pool = pool.clone();
        tokio::spawn(async move {
            sleep(millis(wait)).await;
            let mut loan = pool.get().await.unwrap();
            loan.world.note(format!("call of {wait}"));
            loan.work(millis(10)).await.unwrap();
        })
    };
    let tasks = [1, 2, 3, 4].map(later);
    sleep(millis(100)).await;
    drop(first);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(toys.world.journal()[1], "call of 1");
    all_back(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn the_wait_ends_with_the_acquire_timeout_and_the_error_says_what_was_refused() {
    let toys = toys(1);
    let pool = refused(&toys).build();
    let _loan = pool.get().await.unwrap();
    let begin = Instant::now();
    let error = pool.get().await.unwrap_err();
    assert_eq!(begin.elapsed(), secs(5));
    assert_eq!((error.kind(), error.reason()), (ErrorKind::PoolExhausted, Reason::AllInUse));
    assert!(!error.is_transient());
    let text = error.to_string();
    assert!(text.contains("\"ledger\"") && text.contains("too many connections"), "{text}");
    assert!(text.contains("held by ") && text.contains(file!()), "{text}");
    assert_eq!((pool.stats().total_timeouts, pool.stats().waiting), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_answered_at_once_where_there_is_nothing_to_wait_for() {
    // No connection at all.
    let toys = toys(1);
    toys.world.script(Step::Connect, [Gate::Transient; 3]);
    let pool = refused(&toys).build();
    let begin = Instant::now();
    let error = pool.get().await.unwrap_err();
    assert_eq!((error.kind(), error.phase(), begin.elapsed()), (ErrorKind::Connection, Some(Phase::Connect), secs(1)));

    // An error that does not pass.
    let loan = pool.get().await.unwrap();
    toys.world.script(Step::Connect, [Gate::Err]);
    let begin = Instant::now();
    assert_eq!(pool.get().await.unwrap_err().kind(), ErrorKind::Connection);
    assert_eq!(begin.elapsed(), secs(0));

    // The only connection is held by the call itself.
    let error = loan.token().hold(async { pool.get().await }).await.unwrap_err();
    assert_eq!((error.kind(), begin.elapsed()), (ErrorKind::Connection, secs(1)));
    assert_eq!(pool.stats().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn the_wait_ends_when_the_last_connection_breaks() {
    let toys = toys(1);
    let pool = refused(&toys).build();
    let mut loan = pool.get().await.unwrap();
    toys.world.script(Step::Connect, [Gate::Transient; 9]);
    let begin = Instant::now();
    let breaks = async {
        sleep(secs(2)).await;
        loan.state = strongroom::engine::ResourceState::Broken;
        drop(loan);
    };
    let (outcome, ()) = tokio::join!(pool.get(), breaks);
    assert_eq!((outcome.unwrap_err().kind(), begin.elapsed()), (ErrorKind::Connection, secs(2)));
}

#[tokio::test(start_paused = true)]
async fn refused_calls_that_are_dropped_lose_nothing() {
    for round in 0..20_u64 {
        let toys = toys(1);
        let pool = refused(&toys).build();
        let loan = pool.get().await.unwrap();
        let waits: Vec<_> = (0..3)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { pool.get().await.map(drop) })
            })
            .collect();
        sleep(millis(round * 100)).await;
        drop(loan);
        // In some rounds the connection is on its way to the call that is dropped now.
        waits[0].abort();
        if round % 2 == 0 {
            settle().await;
        }
        waits[1].abort();
        for wait in waits {
            if let Ok(outcome) = timeout(secs(60), wait).await.expect("a call hangs") {
                outcome.unwrap();
            }
        }
        assert_eq!(calls(&pool, 1).await, millis(300));
        all_back(&pool).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_closes_answers_those_who_were_refused() {
    let toys = toys(1);
    let pool = refused(&toys).build();
    let loan = pool.get().await.unwrap();
    let wait = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get().await.map(drop) }
    });
    sleep(secs(2)).await;
    let (report, ()) = tokio::join!(pool.close(secs(1)), async { drop(loan) });
    assert_eq!(wait.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_no_wake_up_and_no_permit_is_lost() {
    let toys = toys(2);
    let pool = toys.pool().max_size(6).acquire_timeout(secs(60)).build();
    let tasks: Vec<_> = (0..12)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for _ in 0..200 {
                    drop(pool.get().await.unwrap());
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        timeout(secs(50), task).await.expect("a call hangs").unwrap();
    }
    assert!(toys.world.peak.load(SeqCst) <= 2);
    all_back(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_not_waited_for_again_still_leaves_what_comes_back() {
    let toys = toys(4);
    toys.world.script(Step::Connect, [Gate::Ok, Gate::Locked]);
    let pool = refused(&toys).build();
    let lent = pool.get().await.unwrap();
    let (second, ()) = tokio::join!(timeout(secs(60), pool.get()), async {
        sleep(millis(300)).await;
        drop(lent);
    });
    drop(second.expect("it hangs").unwrap());
    assert_eq!((toys.world.opened(), pool.stats().total_errors), (1, 1));
    all_back(&pool).await;
}
