//! Waiting in vain: the error names who holds what, and a wait that could never end does not begin.

mod toy;

use std::time::Duration;

use strongroom::engine::{Access, Phase, ResourceState};
use strongroom::{ErrorKind, Pool, Reason};
use tokio::time::{Instant, sleep, timeout};
use toy::{Gate, Step, Toys, millis, secs, settle};

fn pool_of(size: u32) -> Pool<Toys> {
    Toys::default().pool().name("ledger").max_size(size).acquire_timeout(secs(2)).build()
}

#[tokio::test(start_paused = true)]
async fn the_error_names_every_holder_its_age_and_its_transaction() {
    let pool = pool_of(2);
    let busy = pool.clone();
    let other = tokio::spawn(async move {
        let (mut loan, line) = (busy.get().await.unwrap(), line!());
        loan.label("nightly import");
        loan.state = ResourceState::InTransaction;
        loan.note_state();
        sleep(secs(4)).await;
        loan.state = ResourceState::Idle;
        line
    });
    sleep(millis(1500)).await;
    let (_mine, line) = (pool.get().await.unwrap(), line!());
    let error = pool.get().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::PoolExhausted, Reason::AllInUse));
    assert_eq!(error.phase(), Some(Phase::Acquire));
    assert_eq!(pool.stats().total_timeouts, 1);
    let (first, second) = (format!("{}:{}:", file!(), other.await.unwrap()), format!("{}:{line}:", file!()));
    assert_eq!(
        error.to_string().replace(&format!("{first}38"), "FIRST").replace(&format!("{second}31"), "SECOND"),
        "no connection of the pool \"ledger\" became free within 2s: 2 of 2 in use, 1 waiting, held by \
         FIRST \"nightly import\" (for 3.5s, in a transaction) and by SECOND (for 2.0s); \
         hold connections for a shorter time, or raise pool_max or pool_timeout (max_size or acquire_timeout of a Pool::builder)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_long_list_of_holders_is_cut_after_the_oldest() {
    let pool = pool_of(20);
    let mut loans = Vec::new();
    for number in 0..20 {
        let loan = pool.get().await.unwrap();
        loan.label(format!("n{number}"));
        loans.push(loan);
        sleep(millis(10)).await;
    }
    let text = pool.get().await.unwrap_err().to_string();
    assert!(text.contains("\"n0\"") && text.contains("\"n7\"") && !text.contains("\"n8\""), "{text}");
    assert!(text.contains("and by 12 more"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_asks_twice_is_told_that_it_holds_one_itself() {
    let pool = pool_of(1);
    let text = tokio::spawn(async move {
        let _loan = pool.get().await.unwrap();
        pool.get().await.unwrap_err().to_string()
    });
    let text = text.await.unwrap();
    assert!(text.contains("by this very task)"), "{text}");
    assert!(
        text.ends_with(
            "; this very task holds one already: give it back first, or pass it on instead of asking for another"
        ),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn two_branches_of_one_task_may_take_turns_on_one_connection() {
    let pool = pool_of(1);
    let turn = || async {
        let mut loan = pool.get().await?;
        loan.work(millis(100)).await
    };
    let (first, second) = tokio::join!(turn(), turn());
    first.unwrap();
    second.unwrap();
    assert_eq!(pool.stats().total_deadlocks, 0);
}

#[tokio::test(start_paused = true)]
async fn asking_for_a_second_connection_inside_a_held_one_fails_at_once() {
    let pool = pool_of(1);
    let loan = pool.get().await.unwrap();
    let begin = Instant::now();
    let error = loan.token().hold(async { pool.get().await }).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::PoolExhausted, Reason::WouldDeadlock));
    assert_eq!(begin.elapsed(), Duration::ZERO);
    let place = format!("held by {}:{}:21 (", file!(), line!() - 5);
    assert!(error.to_string().contains(&place), "{error} lacks {place}");
    let stats = pool.stats();
    assert_eq!((stats.total_deadlocks, stats.total_timeouts, stats.waiting), (1, 0, 0));
    drop(loan);
    pool.get().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nested_holds_are_a_deadlock_only_when_they_hold_everything() {
    let pool = pool_of(3);
    let first = pool.get().await.unwrap();
    let outcome = first.token().hold(async {
        let second = pool.get().await?;
        second
            .token()
            .hold(async {
                let outsider = pool.get().await?;
                let returns = async {
                    sleep(secs(1)).await;
                    drop(outsider);
                };
                // Two are held from above, but the third comes back.
                let (third, ()) = tokio::join!(pool.get(), returns);
                let third = third?;
                third.token().hold(async { pool.get().await.map(drop) }).await
            })
            .await
    });
    assert_eq!(outcome.await.unwrap_err().reason(), Reason::WouldDeadlock);
    assert_eq!((pool.stats().total_deadlocks, pool.stats().active_connections), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_being_opened_or_reset_for_somebody_else_will_come() {
    let toys = Toys::default();
    let pool = toys.pool().max_size(2).acquire_timeout(secs(2)).build();
    let loan = pool.get().await.unwrap();
    toys.world.script(Step::Connect, [Gate::Slow(100)]);
    toys.world.script(Step::Reset, [Gate::Slow(100)]);
    let other = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get().await.unwrap().state = ResourceState::Unknown }
    });
    settle().await;
    let begin = Instant::now();
    loan.token().hold(pool.get()).await.unwrap();
    assert_eq!(begin.elapsed(), millis(200));
    other.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_two_transactions_that_wait_for_each_other_the_second_is_refused_and_the_first_goes_on() {
    let pool = pool_of(2);
    let transaction = |pause: u64| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let loan = pool.get().await.unwrap();
            let outcome = loan.token().hold(async {
                sleep(millis(pause)).await;
                pool.get().await.map(drop)
            });
            outcome.await
        })
    };
    let (first, second) = (transaction(10), transaction(20));
    assert_eq!(second.await.unwrap().unwrap_err().reason(), Reason::WouldDeadlock);
    first.await.unwrap().expect("the connection of the refused one came back");
}

#[tokio::test(start_paused = true)]
async fn waiting_across_both_lanes_is_followed_to_its_end() {
    let pool = Toys::default().pool().max_size(2).writer_lane(true).acquire_timeout(secs(2)).build();
    let reader = pool.get_for(Access::Read).await.unwrap();
    let writer = pool.get_for(Access::Write).await.unwrap();
    // The reader's future waits for the writer, whose holder is not stuck: both are only queues.
    let upgrade = reader.token().hold(async { pool.get_for(Access::Write).await.map(drop) });
    let read = async { timeout(millis(100), pool.get_for(Access::Read)).await };
    let (upgrade, read) = tokio::join!(upgrade, async {
        settle().await;
        let outcome = read.await;
        // Now the writer's future asks for a reader, and the circle is closed.
        let begin = Instant::now();
        let error = writer.token().hold(async { pool.get_for(Access::Read).await.map(drop) }).await.unwrap_err();
        assert_eq!((error.reason(), begin.elapsed()), (Reason::WouldDeadlock, Duration::ZERO));
        drop(writer);
        outcome
    });
    read.expect_err("waited as usual");
    upgrade.expect("the writer came back");
}

#[tokio::test(start_paused = true)]
async fn a_token_says_nothing_about_other_pools_and_later_loans() {
    let (pool, other) = (pool_of(1), pool_of(1));
    let token = pool.get().await.unwrap().token();
    let _lent_again = pool.get().await.unwrap();
    let error = token.hold(async { pool.get().await }).await.unwrap_err();
    assert_eq!(error.reason(), Reason::AllInUse, "the loan of the token is over");
    let loan = pool_of(1).get().await.unwrap();
    let _busy = other.get().await.unwrap();
    let error = loan.token().hold(async { other.get().await }).await.unwrap_err();
    assert_eq!(error.reason(), Reason::AllInUse);
}
