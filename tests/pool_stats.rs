//! The statistics are one true state at every moment: checked against a model, and under load from another thread.

mod toy;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use proptest::prelude::*;
use strongroom::engine::{Access, ResourceState};
use strongroom::pool::Ping;
use strongroom::{Pool, PoolStats};
use tokio::time::sleep;
use toy::{Gate, Step, Toys, millis, secs, settle};

#[derive(Clone, Debug)]
enum Op {
    Get,
    GetWhenConnectingFails,
    GetWhenTheShelfIsDead,
    /// Gives the n-th loan back, in a state.
    Return(usize, Fate),
    Wait,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Idle,
    Reset,
    ResetFails,
    Broken,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let fate = prop_oneof![Just(Fate::Idle), Just(Fate::Reset), Just(Fate::ResetFails), Just(Fate::Broken)];
    let op = prop_oneof![
        4 => Just(Op::Get),
        1 => Just(Op::GetWhenConnectingFails),
        1 => Just(Op::GetWhenTheShelfIsDead),
        4 => (0..8_usize, fate).prop_map(|(index, fate)| Op::Return(index, fate)),
        1 => Just(Op::Wait),
    ];
    prop::collection::vec(op, 1..60)
}

fn assert_consistent(stats: PoolStats) {
    assert_eq!(stats.total_acquired - stats.total_released, u64::from(stats.active_connections), "{stats:?}");
    assert_eq!(stats.active_connections + stats.idle_connections, stats.total_connections, "{stats:?}");
}

const SIZE: u32 = 4;

/// What the pool should count, worked out by hand.
#[derive(Debug, Default, PartialEq)]
struct Model {
    active: u32,
    idle: u32,
    acquired: u64,
    timeouts: u64,
    errors: u64,
}

impl Model {
    fn get(&mut self, op: &Op) -> bool {
        if self.active == SIZE {
            self.timeouts += 1;
            return false;
        }
        if matches!(op, Op::GetWhenTheShelfIsDead) {
            self.errors += u64::from(self.idle);
            self.idle = 0;
        }
        if self.idle > 0 {
            self.idle -= 1;
        } else if matches!(op, Op::GetWhenConnectingFails) {
            self.errors += 1;
            return false;
        }
        self.active += 1;
        self.acquired += 1;
        true
    }

    fn give_back(&mut self, fate: Fate) {
        self.active -= 1;
        match fate {
            Fate::Idle | Fate::Reset => self.idle += 1,
            Fate::ResetFails | Fate::Broken => self.errors += 1,
        }
    }

    fn of(stats: PoolStats) -> Self {
        Self {
            active: stats.active_connections,
            idle: stats.idle_connections,
            acquired: stats.total_acquired,
            timeouts: stats.total_timeouts,
            errors: stats.total_errors,
        }
    }
}

async fn follow(ops: Vec<Op>) {
    let toys = Toys::default();
    let pool = toys.pool().min_size(0).max_size(SIZE).acquire_timeout(secs(1)).health(Ping).build();
    let (mut model, mut loans) = (Model::default(), Vec::new());
    for op in ops {
        match &op {
            Op::Wait => sleep(secs(1)).await,
            Op::Return(index, fate) if !loans.is_empty() => {
                let mut loan: strongroom::Pooled<Toys> = loans.swap_remove(index % loans.len());
                model.give_back(*fate);
                toys.world.script(Step::Reset, matches!(fate, Fate::ResetFails).then_some(Gate::Err));
                loan.state = match fate {
                    Fate::Idle => ResourceState::Idle,
                    Fate::Reset | Fate::ResetFails => ResourceState::InTransaction,
                    Fate::Broken => ResourceState::Broken,
                };
                drop(loan);
                assert_consistent(pool.stats());
                settle().await;
            }
            Op::Return(..) => {}
            Op::Get | Op::GetWhenConnectingFails | Op::GetWhenTheShelfIsDead => {
                toys.world.script(Step::Connect, matches!(op, Op::GetWhenConnectingFails).then_some(Gate::Err));
                let dead = if matches!(op, Op::GetWhenTheShelfIsDead) { SIZE as usize } else { 0 };
                toys.world.script(Step::Ping, std::iter::repeat_n(Gate::Err, dead));
                let granted = model.get(&op);
                let loan = pool.get().await;
                assert_eq!(loan.is_ok(), granted, "{op:?}: {model:?}");
                loans.extend(loan);
            }
        }
        assert_consistent(pool.stats());
        assert_eq!(Model::of(pool.stats()), model, "after {op:?}");
        assert_eq!(toys.world.live(), (model.active + model.idle) as usize);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn whatever_happens_the_numbers_are_those_of_the_model(ops in ops()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(follow(ops));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_ever_sees_a_state_in_between() {
    let pool = Toys::default().pool().max_size(4).writer_lane(true).build();
    let stop = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let (pool, stop) = (pool.clone(), Arc::clone(&stop));
        move || {
            let mut looks = 0_u64;
            while !stop.load(SeqCst) {
                assert_consistent(pool.stats());
                looks += 1;
            }
            looks
        }
    });
    let work = |number: u32, pool: Pool<Toys>| async move {
        for turn in 0..500 {
            let access = if (turn + number).is_multiple_of(3) { Access::Write } else { Access::Read };
            let mut loan = pool.get_for(access).await.unwrap();
            match (turn + number) % 7 {
                0 => loan.state = ResourceState::Unknown,
                1 => loan.state = ResourceState::Broken,
                _ => {}
            }
        }
    };
    let tasks: Vec<_> = (0..16).map(|number| tokio::spawn(work(number, pool.clone()))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    pool.close(secs(5)).await;
    stop.store(true, SeqCst);
    assert!(watcher.join().unwrap() > 0);
    let stats = pool.stats();
    assert_eq!((stats.total_acquired, stats.total_released, stats.waiting), (8000, 8000, 0));
    assert_eq!((stats.total_timeouts, stats.total_connections), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn waiting_is_counted_while_it_lasts_and_afterwards() {
    let pool = Toys::default().pool().max_size(1).build();
    let loan = pool.get().await.unwrap();
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get().await.map(drop) }
    });
    sleep(millis(1)).await;
    assert_eq!((pool.stats().waiting, pool.stats().total_waited), (1, 0));
    drop(loan);
    waiter.await.unwrap().unwrap();
    assert_eq!((pool.stats().waiting, pool.stats().total_waited), (0, 1));
}
