//! Dropping the futures of a pool, wherever they wait, and failing every step in every way: nothing is lost.

mod toy;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use futures_util::FutureExt as _;
use strongroom::engine::{Access, ResourceState};
use strongroom::pool::Ping;
use strongroom::{Pool, Result};
use tokio::time::{sleep, timeout};
use toy::{Gate, Step, Toys, World, millis, secs};

const SIZE: u32 = 2;

fn pool(toys: &Toys) -> Pool<Toys> {
    toys.pool()
        .min_size(0)
        .max_size(SIZE)
        .acquire_timeout(secs(60))
        .health(Ping)
        .on_connect(|toy| Box::pin(toy.hook()))
        .build()
}

/// Every connection there can be is there, and none besides.
async fn assert_whole(pool: &Pool<Toys>, world: &World, what: &str) {
    for step in [Step::Connect, Step::Hook, Step::Ping, Step::Reset, Step::Close] {
        world.script(step, []);
    }
    sleep(secs(30)).await;
    let stats = pool.stats();
    assert_eq!((stats.active_connections, stats.waiting), (0, 0), "{what}: {stats:?}");
    assert_eq!(world.live(), stats.total_connections as usize, "{what}: {stats:?}");
    let mut loans = Vec::new();
    for _ in 0..SIZE {
        let loan = timeout(secs(1), pool.get()).await.unwrap_or_else(|_| panic!("{what}: capacity was lost"));
        loans.push(loan.unwrap());
    }
    assert!(loans.iter().all(|loan| loan.state == ResourceState::Idle), "{what}");
    assert_eq!(world.live(), SIZE as usize, "{what}");
    let stats = pool.stats();
    assert_eq!(stats.total_acquired - stats.total_released, u64::from(stats.active_connections), "{what}");
    assert!(world.peak.load(SeqCst) <= SIZE as usize, "{what}: more connections than allowed");
}

/// A loan that comes back in the middle of something.
async fn unfinished_loan(pool: &Pool<Toys>) -> Result<()> {
    let mut loan = pool.get().await?;
    loan.state = ResourceState::Unknown;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn no_fault_at_any_step_costs_capacity() {
    use Gate::{Err, Never, Ok, Panic, Slow};
    let gates = [Ok, Err, Slow(10), Never, Panic];
    std::panic::set_hook(Box::new(|_| ()));
    let mut schedules = 0;
    for connect in gates {
        for hook in gates {
            for ping in gates {
                for reset in gates {
                    for close in [Ok, Err, Never, Panic] {
                        let what = format!("{connect:?} {hook:?} {ping:?} {reset:?} {close:?}");
                        let toys = Toys::default();
                        let pool = pool(&toys);
                        for (step, gate) in [
                            (Step::Connect, connect),
                            (Step::Hook, hook),
                            (Step::Ping, ping),
                            (Step::Reset, reset),
                            (Step::Close, close),
                        ] {
                            toys.world.script(step, [gate, gate]);
                        }
                        // Each caller gives up before the pool does.
                        for _ in 0..4 {
                            timeout(secs(20), unfinished_loan(&pool)).await.ok();
                        }
                        assert_whole(&pool, &toys.world, &what).await;
                        schedules += 1;
                    }
                }
            }
        }
    }
    drop(std::panic::take_hook());
    assert_eq!(schedules, 5 * 5 * 5 * 5 * 4);
}

/// What a future is dropped in the middle of.
#[derive(Clone, Copy, Debug)]
enum Scene {
    /// The first connection is opened.
    Fresh,
    /// An idle connection is checked, and the check fails.
    Dead,
    /// All are lent; one comes back and needs a reset.
    Queue,
}

async fn staged(scene: Scene) -> (Toys, Pool<Toys>) {
    let toys = Toys::default();
    let pool = pool(&toys);
    match scene {
        Scene::Fresh => {}
        Scene::Dead => {
            drop(pool.get().await.unwrap());
            toys.world.script(Step::Ping, [Gate::Slow(2), Gate::Err]);
            drop(pool.get().await.unwrap());
        }
        Scene::Queue => {
            for time in [3, 1000] {
                let mut loan = pool.get().await.unwrap();
                loan.state = ResourceState::Unknown;
                tokio::spawn(async move {
                    sleep(millis(time)).await;
                    drop(loan);
                });
            }
        }
    }
    for step in [Step::Connect, Step::Hook, Step::Reset, Step::Close] {
        toys.world.script(step, [Gate::Slow(3)]);
    }
    (toys, pool)
}

#[tokio::test(start_paused = true)]
async fn get_may_be_dropped_at_every_await_point() {
    for scene in [Scene::Fresh, Scene::Dead, Scene::Queue] {
        let mut polls = 0;
        let mut finished = false;
        while !finished {
            let (toys, pool) = staged(scene).await;
            {
                let mut get = pin!(pool.get_for(Access::Write));
                for _ in 0..polls {
                    if let Some(loan) = get.as_mut().now_or_never() {
                        loan.unwrap();
                        finished = true;
                        break;
                    }
                    sleep(millis(1)).await;
                }
            }
            assert_whole(&pool, &toys.world, &format!("{scene:?}, dropped after {polls} polls")).await;
            polls += 1;
        }
        assert!(polls > 4, "{scene:?} waits {polls} times");
    }
}

#[tokio::test(start_paused = true)]
async fn warm_may_be_dropped_at_every_await_point() {
    let mut polls = 0;
    let mut finished = false;
    while !finished {
        let toys = Toys::default();
        let pool = toys.pool().min_size(SIZE).max_size(SIZE).on_connect(|toy| Box::pin(toy.hook())).build();
        toys.world.script(Step::Connect, [Gate::Slow(2), Gate::Slow(4)]);
        toys.world.script(Step::Hook, [Gate::Slow(3), Gate::Slow(3)]);
        {
            let mut warm = pin!(pool.warm());
            for _ in 0..polls {
                if let Some(outcome) = warm.as_mut().now_or_never() {
                    outcome.unwrap();
                    finished = true;
                    break;
                }
                sleep(millis(1)).await;
            }
        }
        assert_whole(&pool, &toys.world, &format!("dropped after {polls} polls")).await;
        polls += 1;
    }
    assert!(polls > 4);
}

#[tokio::test(start_paused = true)]
async fn close_may_be_dropped_at_every_await_point_and_called_again() {
    let mut polls = 0;
    let mut finished = false;
    while !finished {
        let toys = Toys::default();
        let pool = pool(&toys);
        let mut loan = pool.get().await.unwrap();
        drop(pool.get().await.unwrap());
        tokio::spawn(async move {
            loan.work(millis(3)).await.ok();
            loan.state = ResourceState::Unknown;
        });
        tokio::task::yield_now().await;
        toys.world.script(Step::Reset, [Gate::Slow(2)]);
        toys.world.script(Step::Close, [Gate::Slow(2), Gate::Slow(2)]);
        {
            let mut close = pin!(pool.close(secs(1)));
            for _ in 0..polls {
                if let Some(report) = close.as_mut().now_or_never() {
                    assert_eq!((report.closed, report.abandoned), (2, 0));
                    finished = true;
                    break;
                }
                sleep(millis(1)).await;
            }
        }
        let again = pool.close(secs(1)).await;
        assert!(again.is_clean(), "after {polls} polls: {again:?}");
        assert_eq!((toys.world.live(), pool.stats().total_connections), (0, 0), "after {polls} polls");
        polls += 1;
    }
    assert!(polls > 4, "close waits {polls} times");
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_hook_was_cut_off_is_never_lent() {
    let toys = Toys::default();
    // A hook that leaves no trace in the connection's own state.
    let builder = toys.pool().min_size(0).on_connect(|toy| {
        let world = Arc::clone(&toy.world);
        Box::pin(async move { world.pass(Step::Hook).await })
    });
    let pool = builder.build();
    toys.world.script(Step::Hook, [Gate::Slow(100)]);
    timeout(millis(50), pool.get()).await.unwrap_err();
    sleep(millis(1)).await;
    assert_eq!((toys.world.closed(), toys.world.begun(Step::Reset)), (1, 0), "closed, not reset");
    assert_eq!(pool.get().await.unwrap().number, 2);
    assert_eq!(pool.stats().total_opened, 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_leaves_the_queue_to_those_behind() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(1).build();
    let loan = pool.get().await.unwrap();
    let impatient = timeout(millis(10), pool.get());
    let world = Arc::clone(&toys.world);
    let patient = async {
        let loan = pool.get().await.unwrap();
        world.note("served");
        drop(loan);
    };
    let lender = async {
        sleep(millis(20)).await;
        drop(loan);
    };
    let (gave_up, (), ()) = tokio::join!(impatient, patient, lender);
    gave_up.unwrap_err();
    assert_eq!(world.journal().last().unwrap(), "served");
}
