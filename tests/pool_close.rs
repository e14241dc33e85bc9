//! Closing: who is refused, who may finish, what is reported.

mod toy;

use std::sync::atomic::Ordering::SeqCst;

use strongroom::ErrorKind;
use strongroom::engine::{Access, Phase, ResourceState};
use tokio::time::{Instant, sleep};
use toy::{Gate, Step, Toys, millis, secs, settle};

#[tokio::test(start_paused = true)]
async fn newcomers_and_waiters_are_refused_at_once() {
    let pool = Toys::default().pool().name("ledger").max_size(1).build();
    let loan = pool.get().await.unwrap();
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get().await.map(drop).unwrap_err() }
    });
    settle().await;
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close(secs(10)).await }
    });
    settle().await;
    let begin = Instant::now();
    for error in [waiter.await.unwrap(), pool.get().await.unwrap_err()] {
        assert_eq!((error.kind(), error.phase()), (ErrorKind::Closed, Some(Phase::Acquire)));
        assert_eq!(error.to_string(), "the pool \"ledger\" is closed; open a new one to go on");
    }
    assert_eq!(begin.elapsed(), millis(0));
    assert!(!closing.is_finished(), "it waits for the loan");
    drop(loan);
    let report = closing.await.unwrap();
    assert_eq!((report.closed, report.abandoned, report.is_clean()), (1, 0, true));
    assert_eq!(pool.warm().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_is_under_way_is_given_up() {
    let toys = Toys::default();
    let pool = toys.pool().build();
    toys.world.script(Step::Connect, [Gate::Never]);
    let connecting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get().await.map(drop).unwrap_err() }
    });
    settle().await;
    let begin = Instant::now();
    assert!(pool.close(secs(10)).await.is_clean());
    assert_eq!(connecting.await.unwrap().kind(), ErrorKind::Closed);
    assert_eq!(begin.elapsed(), millis(0));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_working_tasks_finish_and_every_connection_is_closed() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(20).build();
    let tasks: Vec<_> = (0..100)
        .map(|number| {
            let pool = pool.clone();
            tokio::spawn(async move {
                loop {
                    match pool.get().await {
                        Ok(mut loan) => loan.work(millis(5 + number % 7)).await.unwrap(),
                        Err(error) => return error.kind(),
                    }
                }
            })
        })
        .collect();
    sleep(millis(50)).await;
    let report = pool.close(secs(5)).await;
    assert_eq!((report.closed, report.abandoned, report.errors.len()), (20, 0, 0));
    for task in tasks {
        assert_eq!(task.await.unwrap(), ErrorKind::Closed, "no work was cut off");
    }
    let stats = pool.stats();
    assert_eq!((stats.total_connections, stats.total_acquired), (0, stats.total_released));
    assert_eq!((toys.world.closed(), toys.world.live()), (20, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_begun_after_the_deadline_is_cancelled_too() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(1).build();
    let mut loan = pool.get().await.unwrap();
    let stubborn = tokio::spawn(async move {
        for pause in [0, 0, 100, 300] {
            sleep(millis(pause)).await;
            assert_eq!(loan.work(secs(3600)).await.unwrap_err().kind(), ErrorKind::Cancelled);
        }
    });
    settle().await;
    let report = pool.close(secs(2)).await;
    assert_eq!((report.closed, report.is_clean()), (1, true));
    stubborn.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stragglers_are_cancelled_after_the_deadline_and_counted_if_that_does_not_help() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(3).build();
    let work = |time| {
        let pool = pool.clone();
        tokio::spawn(async move { pool.get().await.unwrap().work(time).await })
    };
    let (quick, slow) = (work(secs(1)), work(secs(3600)));
    let mut stubborn = pool.get().await.unwrap();
    settle().await;
    let begin = Instant::now();
    let report = pool.close(secs(2)).await;
    assert_eq!((report.closed, report.abandoned, report.is_clean()), (2, 1, false));
    assert_eq!(begin.elapsed(), secs(2 + 1), "the deadline and the grace");
    quick.await.unwrap().unwrap();
    assert_eq!(slow.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    // The one that does not come back is asked again after 5, 10, 20 ... 320 ms: it may begin something else.
    assert_eq!(toys.world.cancelled.load(SeqCst), 2 + 7, "only what still ran");
    assert_eq!(pool.stats().active_connections, 1);

    stubborn.state = ResourceState::Unknown;
    drop(stubborn);
    settle().await;
    assert_eq!((toys.world.closed(), toys.world.live()), (3, 0), "closed when it came back, not shelved");
    assert_eq!(pool.stats().total_connections, 0);
}

#[tokio::test(start_paused = true)]
async fn readers_are_closed_first_and_the_writer_last() {
    let toys = Toys::default();
    let pool = toys.pool().min_size(4).max_size(4).writer_lane(true).build();
    pool.warm().await.unwrap();
    let reader = pool.get_for(Access::Read).await.unwrap();
    drop(pool.get_for(Access::Write).await.unwrap());
    tokio::spawn(async move {
        sleep(millis(10)).await;
        drop(reader);
    });
    toys.world.script(Step::Close, [Gate::Slow(5), Gate::Slow(1), Gate::Slow(9)]);
    assert_eq!(pool.close(secs(1)).await.closed, 4);
    let journal = toys.world.journal();
    assert_eq!(journal[0], "open Write", "the writer is opened first");
    assert_eq!(journal[4..], ["close Read", "close Read", "close Read", "close Write"]);
}

#[tokio::test(start_paused = true)]
async fn closing_from_many_tasks_and_again_does_it_once() {
    let toys = Toys::default();
    let pool = toys.pool().min_size(3).build();
    pool.warm().await.unwrap();
    toys.world.script(Step::Close, [Gate::Slow(10), Gate::Err, Gate::Panic]);
    let calls = [(); 5].map(|()| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let report = pool.close(secs(1)).await;
            assert_eq!(pool.stats().total_connections, 0, "every call returns when all is done");
            report
        })
    });
    let (mut closed, mut errors) = (0, Vec::new());
    for call in calls {
        let report = call.await.unwrap();
        closed += report.closed;
        errors.extend(report.errors);
    }
    assert_eq!((closed, errors.len(), toys.world.begun(Step::Close)), (3, 2, 3));
    assert!(errors.iter().all(|error| error.phase() == Some(Phase::Close)), "{errors:?}");
    assert!(pool.close(secs(1)).await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_that_hangs_is_not_waited_for_without_end() {
    let toys = Toys::default();
    let pool = toys.pool().build();
    drop(pool.get().await.unwrap());
    toys.world.script(Step::Close, [Gate::Never]);
    let begin = Instant::now();
    let report = pool.close(secs(1)).await;
    assert_eq!((report.closed, report.errors[0].kind()), (1, ErrorKind::Timeout));
    assert_eq!((begin.elapsed(), toys.world.live()), (secs(10), 0));
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_was_never_used_closes() {
    let pool = Toys::default().pool().build();
    let report = pool.close(std::time::Duration::MAX).await;
    assert!(report.is_clean() && report.closed == 0);
    assert!(pool.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_on_its_way_to_a_waiter_is_not_waited_for() {
    let pool = Toys::default().pool().max_size(1).build();
    let loan = pool.get().await.unwrap();
    let mut waiter = Box::pin(pool.get());
    assert!(futures_util::poll!(waiter.as_mut()).is_pending());
    drop(loan);
    let begin = Instant::now();
    let (report, waited) = tokio::join!(pool.close(secs(10)), waiter);
    assert!(report.is_clean());
    assert_eq!(waited.map(drop).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(begin.elapsed(), millis(0));
}

/// Asks a pool with a reader whose goodbye takes longer than it keeps its capacity.
async fn closes_the_writer_last(toys: &Toys, pool: &strongroom::Pool<Toys>) {
    assert_eq!((toys.world.begun(Step::Close), toys.world.closed()), (1, 0), "the reader says goodbye");
    let report = pool.close(secs(5)).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(toys.world.journal()[2..], ["close Read", "close Write"]);
    assert_eq!(pool.stats().total_connections, 0);
}

#[tokio::test(start_paused = true)]
async fn the_writer_waits_for_a_reader_that_is_being_tidied_up() {
    let toys = Toys::default();
    let pool = toys.pool().min_size(0).max_size(2).writer_lane(true).build();
    drop(pool.get().await.unwrap());
    let mut reader = pool.get_for(Access::Read).await.unwrap();
    reader.state = ResourceState::Broken;
    toys.world.script(Step::Close, [Gate::Slow(1500)]);
    drop(reader);
    settle().await;
    closes_the_writer_last(&toys, &pool).await;
}

#[tokio::test(start_paused = true)]
async fn the_writer_waits_for_a_reader_that_the_reaper_closes() {
    let toys = Toys::default();
    let pool = toys.pool().min_size(1).max_size(2).writer_lane(true).idle_timeout(Some(millis(100))).build();
    drop(pool.get().await.unwrap());
    toys.world.script(Step::Close, [Gate::Slow(1500)]);
    drop(pool.get_for(Access::Read).await.unwrap());
    sleep(millis(300)).await;
    closes_the_writer_last(&toys, &pool).await;
}

#[tokio::test(start_paused = true)]
async fn a_loan_that_comes_back_while_others_say_goodbye_is_closed_at_once() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(2).build();
    let (mut broken, late) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    broken.state = ResourceState::Broken;
    toys.world.script(Step::Close, [Gate::Slow(5000)]);
    drop(broken);
    settle().await;
    let begin = Instant::now();
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close(millis(0)).await }
    });
    sleep(secs(2)).await;
    drop(late);
    settle().await;
    assert_eq!(toys.world.closed(), 1, "it does not wait for the other");
    let report = closing.await.unwrap();
    assert_eq!((report.closed, report.abandoned, report.errors.len()), (2, 0, 0));
    assert_eq!(begin.elapsed(), secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_nobody_has_any_more_closes_what_is_idle() {
    let toys = Toys::default();
    let pool = toys.pool().build();
    drop(pool.get().await.unwrap());
    assert_eq!((toys.world.closed(), toys.world.live()), (0, 1));
    drop(pool);
    settle().await;
    assert_eq!((toys.world.closed(), toys.world.live()), (1, 0));
}
