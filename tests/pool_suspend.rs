//! Letting go of everything for a while: who may finish, who waits, who is told what.

mod toy;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use futures_util::FutureExt as _;
use strongroom::engine::{Access, ResourceState};
use strongroom::pool::SuspendOptions;
use strongroom::{ErrorKind, Pool, Reason, Result};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use toy::{Gate, Step, Toys, millis, secs, settle};

/// A caller that holds a connection for this long.
fn caller(pool: &Pool<Toys>, access: Access, time: u64) -> JoinHandle<Result<()>> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.get_for(access).await?.work(millis(time)).await })
}

fn suspending(pool: &Pool<Toys>, options: SuspendOptions) -> JoinHandle<Result<u32>> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.suspend(options).await.map(|report| report.closed) })
}

/// A pool of a writer and two readers, all of them open.
async fn open_pool(toys: &Toys) -> Pool<Toys> {
    let pool = toys.pool().max_size(3).min_size(3).acquire_timeout(secs(10)).writer_lane(true).build();
    pool.warm().await.unwrap();
    pool
}

async fn assert_awake(pool: &Pool<Toys>, what: &str) {
    assert!(!pool.is_suspended(), "{what}");
    let mut loans = vec![timeout(secs(1), pool.get()).await.expect(what).expect(what)];
    for _ in 0..2 {
        loans.push(timeout(secs(1), pool.get_for(Access::Read)).await.expect(what).expect(what));
    }
    drop(loans);
    settle().await;
    let stats = pool.stats();
    assert_eq!((stats.active_connections, stats.waiting), (0, 0), "{what}: {stats:?}");
}

#[tokio::test(start_paused = true)]
async fn everything_is_closed_the_writer_last_and_the_next_call_opens_again() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    let report = pool.suspend(SuspendOptions::new()).await.unwrap();
    assert_eq!((report.closed, report.is_clean()), (3, true));
    assert!(pool.is_suspended());
    assert_eq!((pool.stats().total_connections, toys.world.live()), (0, 0));
    assert_eq!(toys.world.journal()[3..], ["close Read", "close Read", "close Write"]);
    let before = pool.stats();
    drop(pool.get_for(Access::Read).await.unwrap());
    assert!(!pool.is_suspended());
    assert_eq!(toys.world.live(), 1, "only what was asked for is opened");
    assert_eq!(pool.stats().total_acquired, before.total_acquired + 1, "the statistics go on");
}

#[tokio::test(start_paused = true)]
async fn calls_under_way_finish_and_those_that_come_meanwhile_wait_and_work() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    let under_way = [caller(&pool, Access::Write, 300), caller(&pool, Access::Read, 200)];
    settle().await;
    let queued = caller(&pool, Access::Write, 100);
    settle().await;
    let begin = Instant::now();
    let asleep = suspending(&pool, SuspendOptions::new());
    settle().await;
    let late = [caller(&pool, Access::Write, 0), caller(&pool, Access::Read, 0)];
    assert_eq!(asleep.await.unwrap().unwrap(), 3);
    assert_eq!(begin.elapsed(), millis(400), "those who came before had their turn");
    for call in under_way.into_iter().chain([queued]).chain(late) {
        call.await.unwrap().unwrap();
    }
    assert_awake(&pool, "afterwards").await;
}

#[tokio::test(start_paused = true)]
async fn callers_wait_until_resumed_however_long_that_takes() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    assert_eq!(pool.suspend(SuspendOptions::new().until_resumed()).await.unwrap().closed, 3);
    let waiting = [caller(&pool, Access::Write, 0), caller(&pool, Access::Read, 0), caller(&pool, Access::Write, 0)];
    sleep(secs(3600)).await;
    assert!(waiting.iter().all(|call| !call.is_finished()), "the acquire timeout is ten seconds");
    assert!(pool.is_suspended());
    assert_eq!(toys.world.live(), 0, "and nothing was opened");
    pool.resume();
    assert!(!pool.is_suspended());
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    assert_awake(&pool, "afterwards").await;
}

#[tokio::test(start_paused = true)]
async fn the_time_to_wait_for_a_connection_begins_when_it_is_resumed() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    pool.suspend(SuspendOptions::new().until_resumed()).await.unwrap();
    let first = caller(&pool, Access::Write, 60_000);
    let second = caller(&pool, Access::Write, 0);
    sleep(secs(3600)).await;
    pool.resume();
    let begin = Instant::now();
    let error = second.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::PoolExhausted, Reason::AllInUse));
    assert_eq!(begin.elapsed(), secs(10));
    first.await.unwrap().unwrap();
}

/// Shorter than the time to wait, it is not taken off that either: the call still has all of it to open a connection.
#[tokio::test(start_paused = true)]
async fn a_suspension_is_not_taken_off_the_time_to_wait_however_short_it_is() {
    for sleeps in [secs(1), secs(8), secs(9), secs(11), secs(60)] {
        let toys = Toys::default();
        let pool = open_pool(&toys).await;
        pool.suspend(SuspendOptions::new().until_resumed()).await.unwrap();
        let waiting = caller(&pool, Access::Write, 0);
        sleep(sleeps).await;
        toys.world.script(Step::Connect, [Gate::Slow(9_900)]);
        pool.resume();
        waiting.await.unwrap().unwrap_or_else(|error| panic!("after {sleeps:?}: {error}"));
        assert_eq!(pool.stats().total_timeouts, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn who_keeps_a_connection_too_long_is_named_and_nothing_is_suspended() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    let loan = pool.get_for(Access::Read).await.unwrap();
    loan.label("nightly report");
    let begin = Instant::now();
    let asleep = suspending(&pool, SuspendOptions::new().limit(secs(3)));
    settle().await;
    let waiting = caller(&pool, Access::Write, 0);
    let error = asleep.await.unwrap().unwrap_err();
    assert_eq!(begin.elapsed(), secs(3));
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Timeout, Reason::StillLent));
    let text = error.to_string();
    assert!(text.contains("tests/pool_suspend.rs") && text.contains("\"nightly report\" (for 3.0s"), "{text}");
    waiting.await.unwrap().unwrap();
    assert_eq!(toys.world.closed(), 0, "nothing was closed for nothing");
    drop(loan);
    assert_awake(&pool, "afterwards").await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_at_the_limit_is_stopped_if_the_caller_wants() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    let long = caller(&pool, Access::Write, 3_600_000);
    settle().await;
    let asleep = pool.suspend(SuspendOptions::new().limit(secs(1)).stop_late()).await.unwrap();
    assert_eq!(asleep.closed, 3);
    assert_eq!(long.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(pool.is_suspended());
}

#[tokio::test(start_paused = true)]
async fn what_is_begun_after_the_limit_is_stopped_too() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    let stubborn = tokio::spawn({
        let pool = pool.clone();
        async move {
            let mut loan = pool.get().await.unwrap();
            let mut stopped = 0;
            for pause in [0, 0, 100, 300] {
                sleep(millis(pause)).await;
                stopped += u32::from(loan.work(secs(3600)).await.is_err());
            }
            stopped
        }
    });
    settle().await;
    let asleep = pool.suspend(SuspendOptions::new().limit(secs(1)).stop_late()).await.unwrap();
    assert_eq!(asleep.closed, 3);
    assert_eq!(stubborn.await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_has_one_connection_and_waits_for_another_is_let_by() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    for (first, second) in [(Access::Read, Access::Write), (Access::Write, Access::Read)] {
        let nested = tokio::spawn({
            let pool = pool.clone();
            async move {
                let mut outer = pool.get_for(first).await?;
                outer.work(millis(100)).await?;
                pool.get_for(second).await?.work(millis(100)).await?;
                outer.work(millis(100)).await
            }
        });
        settle().await;
        let others: Vec<_> = (0..4).map(|_| caller(&pool, second, 10)).collect();
        let begin = Instant::now();
        assert!(pool.suspend(SuspendOptions::new()).await.is_ok(), "{first:?}, then {second:?}");
        assert!(begin.elapsed() < secs(1), "{first:?}, then {second:?}: {:?}", begin.elapsed());
        nested.await.unwrap().unwrap();
        for other in others {
            other.await.unwrap().unwrap();
        }
    }
    pool.resume();
    assert_awake(&pool, "afterwards").await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_because_the_server_allows_no_more_is_let_by() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(2).min_size(1).acquire_timeout(secs(60)).build();
    pool.warm().await.unwrap();
    toys.world.limit.store(1, SeqCst);
    let first = caller(&pool, Access::Write, 500);
    settle().await;
    let refused = caller(&pool, Access::Write, 500);
    settle().await;
    pool.suspend(SuspendOptions::new()).await.unwrap();
    first.await.unwrap().unwrap();
    refused.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn inside_of_a_loan_it_could_never_end_and_says_so_at_once() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    let loan = pool.get().await.unwrap();
    let begin = Instant::now();
    let error = loan.token().hold(pool.suspend(SuspendOptions::new())).await.unwrap_err();
    assert_eq!((error.reason(), begin.elapsed()), (Reason::WouldDeadlock, millis(0)));
}

#[tokio::test(start_paused = true)]
async fn twice_is_as_good_as_once() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    let both = [(); 2].map(|()| suspending(&pool, SuspendOptions::new()));
    let mut closed = 0;
    for asleep in both {
        closed += asleep.await.unwrap().unwrap();
    }
    assert_eq!(closed, 3);
    // Asleep as it is, it only has to keep callers waiting.
    assert_eq!(pool.suspend(SuspendOptions::new().until_resumed()).await.unwrap().closed, 0);
    assert_eq!(pool.suspend(SuspendOptions::new()).await.unwrap().closed, 0);
    let waiting = caller(&pool, Access::Read, 0);
    sleep(secs(100)).await;
    assert!(!waiting.is_finished(), "the one who asked for it has not resumed");
    pool.resume();
    pool.resume();
    waiting.await.unwrap().unwrap();
    assert_awake(&pool, "afterwards").await;
}

#[tokio::test(start_paused = true)]
async fn to_resume_what_is_awake_does_nothing() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    pool.resume();
    assert_awake(&pool, "awake").await;
    assert_eq!(pool.suspend(SuspendOptions::new()).await.unwrap().closed, 3, "an earlier call ends no later one");
}

#[tokio::test(start_paused = true)]
async fn to_resume_calls_off_what_is_under_way() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    let loan = pool.get().await.unwrap();
    let asleep = suspending(&pool, SuspendOptions::new().until_resumed());
    settle().await;
    pool.resume();
    let error = asleep.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    drop(loan);
    assert_awake(&pool, "while loans are awaited").await;

    toys.world.script(Step::Close, [Gate::Slow(100), Gate::Slow(100), Gate::Slow(100)]);
    let asleep = suspending(&pool, SuspendOptions::new().until_resumed());
    sleep(millis(150)).await;
    pool.resume();
    assert_eq!(asleep.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_awake(&pool, "while connections are closed").await;
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_dropped_at_any_await_leaves_the_pool_awake_or_asleep() {
    let mut ends = [0, 0];
    for until_resumed in [false, true] {
        for time in (0..=700).step_by(20) {
            let toys = Toys::default();
            let pool = open_pool(&toys).await;
            toys.world.script(Step::Close, [Gate::Slow(50), Gate::Slow(100), Gate::Slow(50)]);
            let calls = [caller(&pool, Access::Write, 200), caller(&pool, Access::Read, 300)];
            settle().await;
            let options = SuspendOptions::new();
            let options = if until_resumed { options.until_resumed() } else { options };
            let what = format!("until resumed: {until_resumed}, dropped after {time} ms");
            let done = timeout(millis(time), pool.suspend(options)).await.is_ok();
            assert_eq!(pool.is_suspended(), done, "{what}");
            ends[usize::from(done)] += 1;
            for call in calls {
                call.await.unwrap().expect(&what);
            }
            if done && until_resumed {
                assert!(pool.get().now_or_never().is_none(), "{what}");
                pool.resume();
            }
            drop(pool.get().await.expect(&what));
            sleep(secs(20)).await;
            assert_awake(&pool, &what).await;
            assert!(toys.world.peak.load(SeqCst) <= 3, "{what}");
        }
    }
    assert!(ends.iter().all(|count| *count > 10), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_close_is_an_error_and_the_pool_goes_on() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    toys.world.script(Step::Close, [Gate::Never, Gate::Err, Gate::Panic]);
    let error = pool.suspend(SuspendOptions::new()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Timeout, Reason::Unspecified), "{error}");
    sleep(secs(30)).await;
    assert_awake(&pool, "afterwards").await;
    toys.world.script(Step::Close, [Gate::Err, Gate::Panic, Gate::Ok]);
    let report = pool.suspend(SuspendOptions::new()).await.unwrap();
    assert_eq!((report.closed, report.errors.len()), (3, 2));
    assert!(pool.is_suspended());
}

#[tokio::test(start_paused = true)]
async fn what_is_closed_while_suspended_stays_closed() {
    for until_resumed in [false, true] {
        let toys = Toys::default();
        let pool = open_pool(&toys).await;
        let options = SuspendOptions::new();
        pool.suspend(if until_resumed { options.until_resumed() } else { options }).await.unwrap();
        let waiting = until_resumed.then(|| caller(&pool, Access::Write, 0));
        settle().await;
        let begin = Instant::now();
        assert!(pool.close(secs(10)).await.is_clean());
        assert_eq!(begin.elapsed(), millis(0), "there is nothing to wait for");
        if let Some(waiting) = waiting {
            assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
        }
        pool.resume();
        assert_eq!(pool.get().await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(pool.suspend(SuspendOptions::new()).await.unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn to_close_ends_a_suspension_that_is_under_way() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    let call = caller(&pool, Access::Write, 500);
    settle().await;
    let asleep = suspending(&pool, SuspendOptions::new().until_resumed());
    settle().await;
    let report = pool.close(secs(10)).await;
    assert_eq!((report.closed, report.is_clean()), (3, true));
    assert!(matches!(asleep.await.unwrap().unwrap_err().kind(), ErrorKind::Closed | ErrorKind::Cancelled));
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_forgotten_while_suspended_is_gone() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    pool.suspend(SuspendOptions::new().until_resumed()).await.unwrap();
    let world = Arc::downgrade(&toys.world);
    drop((pool, toys));
    settle().await;
    assert!(world.upgrade().is_none(), "the permits that it holds keep it in memory");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_opened_for_its_own_sake_while_it_sleeps() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    let mut broken = pool.get().await.unwrap();
    broken.state = ResourceState::Broken;
    toys.world.script(Step::Close, [Gate::Slow(500)]);
    drop(broken);
    settle().await;
    pool.suspend(SuspendOptions::new()).await.unwrap();
    sleep(secs(60)).await;
    assert!(pool.is_suspended());
    assert_eq!(toys.world.live(), 0, "the pool keeps three, but not now");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_gives_up_while_it_sleeps_leaves_the_queue() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    pool.suspend(SuspendOptions::new().until_resumed()).await.unwrap();
    assert!(timeout(secs(1), pool.get()).await.is_err());
    pool.resume();
    assert_awake(&pool, "afterwards").await;
}

#[tokio::test(start_paused = true)]
async fn a_suspension_that_nobody_drives_keeps_nobody_waiting_for_ever() {
    let toys = Toys::default();
    let pool = open_pool(&toys).await;
    let loan = pool.get().await.unwrap();
    let mut asleep = Box::pin(pool.suspend(SuspendOptions::new().limit(secs(2)).until_resumed()));
    assert!(asleep.as_mut().now_or_never().is_none());
    assert!(asleep.as_mut().now_or_never().is_none(), "it collects what is idle");
    let error = timeout(secs(60), pool.get_for(Access::Read)).await.expect("it waits for ever").unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::PoolExhausted, Reason::AllInUse));
    drop((loan, asleep));
    assert_awake(&pool, "afterwards").await;
}

#[test]
fn who_closes_while_nobody_drives_a_suspension_is_not_kept_by_those_who_wait_for_its_end() {
    let (tell, told) = std::sync::mpsc::channel();
    // On a thread of its own: a call that never yields cannot be timed out on its runtime.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let toys = Toys::default();
            let pool = open_pool(&toys).await;
            let loan = pool.get().await.unwrap();
            let mut suspension = Box::pin(pool.suspend(SuspendOptions::new()));
            for _ in 0..5 {
                assert!(futures_util::poll!(suspension.as_mut()).is_pending());
                settle().await;
            }
            let kept = caller(&pool, Access::Read, 0);
            settle().await;
            drop(loan);
            let closing = tokio::spawn({
                let pool = pool.clone();
                async move { pool.close(secs(10)).await }
            });
            assert_eq!(kept.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
            drop(suspension);
            assert!(closing.await.unwrap().is_clean());
        });
        tell.send(()).unwrap();
    });
    told.recv_timeout(std::time::Duration::from_secs(60)).expect("it hangs, or has failed");
}
