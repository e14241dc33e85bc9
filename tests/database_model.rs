//! Random schedules of callers, faults and dropped futures, checked against a model: what was acknowledged happened
//! once, what failed did not happen, pairs are whole, nobody waits for ever, and in the end every connection can be had.
//!
//! Time is paused, so a schedule of virtual minutes takes a fraction of a millisecond. `STRONGROOM_MODEL_SCHEDULES`
//! (2000 by default) is the number of schedules, `STRONGROOM_MODEL_SEED` the first seed: a failure names its own, and
//! replays with `STRONGROOM_MODEL_SCHEDULES=1`.
#![cfg(feature = "testing")]

#[path = "common/store.rs"]
mod store;

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use store::{Store, World};
use strongroom::engine::TransactionMode;
use strongroom::pool::{AlwaysHealthy, FixedDelay, NoRetry, Ping};
use strongroom::testing::{Fault, Faults, FaultyConnector};
use strongroom::{AsyncDatabase, Capabilities, Connection as _, Error, ErrorKind, PoolStats, Reason, Result};

type Database = AsyncDatabase<FaultyConnector<Store>>;

/// What a caller does. Each that writes adds a number of its own and its negative, together or not at all.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Put,
    Get,
    Many,
    Stream,
    HalfStream,
    Exists,
    Transaction,
    FailingTransaction,
    NestedFailure,
    PanickingTransaction,
    Guard,
    DroppedGuard,
    RawLeftOpen,
    RawPut,
    SecondInside,
    Control,
    Nonsense,
    ReadTransaction,
    Connect,
}

const OPS: [Op; 19] = [
    Op::Put,
    Op::Get,
    Op::Many,
    Op::Stream,
    Op::HalfStream,
    Op::Exists,
    Op::Transaction,
    Op::FailingTransaction,
    Op::NestedFailure,
    Op::PanickingTransaction,
    Op::Guard,
    Op::DroppedGuard,
    Op::RawLeftOpen,
    Op::RawPut,
    Op::SecondInside,
    Op::Control,
    Op::Nonsense,
    Op::ReadTransaction,
    Op::Connect,
];

/// What must be there afterwards.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// Both numbers, once.
    There,
    /// Neither.
    Absent,
    /// Both, or neither.
    Whole,
    /// The number, at most once; the operation has no pair.
    AtMostOnce,
}

fn put(n: i64) -> String {
    format!("put {n}")
}

impl Op {
    /// Whether success means that both numbers are there.
    fn writes_pair(self) -> bool {
        matches!(self, Self::Many | Self::Transaction | Self::Guard | Self::NestedFailure | Self::SecondInside)
    }

    fn writes_one(self) -> bool {
        matches!(self, Self::Put | Self::RawPut)
    }

    async fn perform(self, db: &Database, n: i64) -> Result<()> {
        match self {
            Self::Put => db.execute(&put(n), ()).await.map(drop),
            Self::Get => db.fetch_value::<i64>("get", ()).await.map(drop),
            Self::Many => db.execute_many("put $1", [(n,), (-n,)]).await.map(drop),
            Self::Stream => {
                db.fetch_stream("get", ()).map(|row| row.map(drop)).collect::<Vec<_>>().await.into_iter().collect()
            }
            Self::HalfStream => db.fetch_stream("get", ()).next().await.transpose().map(drop),
            Self::Exists => db.table_exists("t").await.map(drop),
            Self::Transaction => {
                db.transaction(async |tx| {
                    tx.execute(&put(n), ()).await?;
                    tx.execute(&put(-n), ()).await.map(drop)
                })
                .await
            }
            Self::FailingTransaction => {
                db.transaction(async |tx| {
                    tx.execute(&put(n), ()).await?;
                    Err(Error::new(ErrorKind::Query, "changed my mind"))
                })
                .await
            }
            Self::NestedFailure => {
                db.transaction(async |tx| {
                    tx.execute(&put(n), ()).await?;
                    let inner = tx.transaction(async |inner| {
                        inner.execute(&put(-n), ()).await?;
                        Err::<(), _>(Error::new(ErrorKind::Constraint, "undo this"))
                    });
                    let inner = inner.await.unwrap_err();
                    if inner.kind() != ErrorKind::Constraint {
                        return Err(inner);
                    }
                    tx.execute(&put(-n), ()).await.map(drop)
                })
                .await
            }
            Self::PanickingTransaction => {
                db.transaction(async |tx| {
                    tx.execute(&put(n), ()).await?;
                    panic!("the caller's own panic")
                })
                .await
            }
            Self::Guard => {
                let mut tx = db.begin().await?;
                tx.execute(&put(n), ()).await?;
                tx.execute(&put(-n), ()).await?;
                tx.commit().await
            }
            Self::DroppedGuard => {
                let mut tx = db.begin().await?;
                tx.execute(&put(n), ()).await?;
                Err(Error::new(ErrorKind::Query, "dropped"))
            }
            Self::RawLeftOpen => {
                let mut conn = db.connection().await?;
                conn.begin(TransactionMode::WRITE).await?;
                conn.execute(&put(n), ()).await?;
                Err(Error::new(ErrorKind::Query, "left open"))
            }
            Self::RawPut => db.connection().await?.execute(&put(n), ()).await.map(drop),
            Self::SecondInside => {
                db.transaction(async |tx| {
                    tx.execute(&put(n), ()).await?;
                    let second = db.execute(&put(0), ()).await;
                    assert!(second.is_err() || !db.capabilities().single_writer, "the lane let two in");
                    tx.execute(&put(-n), ()).await.map(drop)
                })
                .await
            }
            Self::Control => db.execute("begin", ()).await.map(drop),
            Self::Nonsense => db.execute("nonsense", ()).await.map(drop),
            Self::ReadTransaction => {
                let mut tx = db.begin_with(TransactionMode::READ).await?;
                tx.fetch_all("get", ()).await?;
                tx.commit().await
            }
            Self::Connect => db.connect().await,
        }
    }

    /// What an outcome promises. `None` is a call that was dropped, or panicked.
    fn fate(self, outcome: Option<&Result<()>>) -> Fate {
        let is_unknown = |error: &Error| {
            error.kind() == ErrorKind::OutcomeUnknown || (self.writes_one() && error.reason() == Reason::Broken)
        };
        match outcome {
            Some(Ok(())) if self.writes_pair() => Fate::There,
            Some(Err(error)) if !is_unknown(error) => Fate::Absent,
            _ if self.writes_one() => Fate::AtMostOnce,
            _ => Fate::Whole,
        }
    }
}

/// What is known of a number.
type Promise = (i64, Op, Fate, bool, String);

struct Schedule {
    seed: u64,
    db: Database,
    world: Arc<World>,
    faults: Faults,
    max: u32,
    may_hang: AtomicBool,
    next: AtomicI64,
    promises: Mutex<Vec<Promise>>,
    exhausted: AtomicU64,
    deadlocks: AtomicU64,
}

/// No call may take longer: it is what the acquire timeout, a reset, a goodbye and a few connects add up to.
const FOR_EVER: Duration = Duration::from_secs(100);

impl Schedule {
    fn new(seed: u64, random: &mut fastrand::Rng) -> Self {
        let able = World::capabilities(random.bool(), random.bool(), random.bool());
        let max = random.u32(1..5);
        Self::with(seed, random, able, max)
    }

    fn with(seed: u64, random: &mut fastrand::Rng, able: Capabilities, max: u32) -> Self {
        let world = World::new(random.u64(..), able);
        let connector = FaultyConnector::new(Store(Arc::clone(&world)));
        let faults = connector.faults();
        let builder = AsyncDatabase::with_connector(connector).pool_min(random.u32(0..3)).pool_max(max);
        let builder = builder.pool_timeout(Duration::from_secs(random.u64(1..20)));
        let builder = if random.bool() { builder.health(Ping) } else { builder.health(AlwaysHealthy) };
        let delay = FixedDelay::new(3, Duration::from_millis(100));
        let builder = if random.bool() { builder.retry(NoRetry) } else { builder.retry(delay) };
        let builder = if random.u8(..) < 50 { builder.max_lifetime(Duration::from_millis(200)) } else { builder };
        Self {
            seed,
            db: builder.build(),
            world,
            faults,
            max,
            may_hang: AtomicBool::new(false),
            next: AtomicI64::new(1),
            promises: Mutex::default(),
            exhausted: AtomicU64::new(0),
            deadlocks: AtomicU64::new(0),
        }
    }

    /// One caller: some operations, some of them dropped half-way, by a count of polls or by time.
    async fn caller(self: Arc<Self>, mut random: fastrand::Rng) {
        for _ in 0..random.u8(1..6) {
            let op = OPS[random.usize(..OPS.len())];
            let drops = match random.u8(0..6) {
                0 => Drops::AfterPolls(random.usize(0..12)),
                1 => Drops::After(Duration::from_millis(random.u64(0..120))),
                _ => Drops::After(FOR_EVER),
            };
            self.one(op, drops).await;
        }
    }

    /// One call; says whether it came to its end.
    async fn one(&self, op: Op, drops: Drops) -> bool {
        let n = self.next.fetch_add(1, SeqCst);
        let call = AssertUnwindSafe(op.perform(&self.db, n)).catch_unwind();
        let outcome = drops.of(call).await;
        assert_true(self.db.stats(), self.seed);
        let dropped = outcome.is_none();
        let hung = outcome.is_none() && matches!(drops, Drops::After(FOR_EVER));
        let outcome = outcome.and_then(std::result::Result::ok);
        if let Some(Err(error)) = &outcome {
            self.exhausted.fetch_add(u64::from(error.reason() == Reason::AllInUse), SeqCst);
            self.deadlocks.fetch_add(u64::from(error.reason() == Reason::WouldDeadlock), SeqCst);
        }
        let fate = match (&outcome, op.writes_one()) {
            (Some(Ok(())), true) => Fate::There,
            _ => op.fate(outcome.as_ref()),
        };
        self.promises.lock().unwrap().push((n, op, fate, hung, format!("{outcome:?}")));
        !dropped
    }

    /// Nobody works any more and nothing goes wrong any more.
    async fn look(&self) {
        let seed = self.seed;
        // A goodbye, a reset and a few connects.
        tokio::time::sleep(Duration::from_secs(40)).await;
        self.world.hurry.store(true, SeqCst);
        // Connections age: one may be replaced at this very moment, and is then open and not in service.
        for _ in 0..100 {
            if self.world.live() == u64::from(self.db.stats().total_connections) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let stats = self.db.stats();
        assert_eq!((stats.active_connections, stats.waiting), (0, 0), "seed {seed}: {stats:?}");
        assert_eq!(self.world.live(), u64::from(stats.total_connections), "seed {seed}: {stats:?}");
        assert!(stats.total_timeouts >= self.exhausted.load(SeqCst), "seed {seed}: {stats:?}");
        assert!(stats.total_deadlocks >= self.deadlocks.load(SeqCst), "seed {seed}: {stats:?}");
        assert_eq!(self.world.collisions.load(SeqCst), 0, "seed {seed}: two writers at once");
        for (n, op, fate, hung, told) in &*self.promises.lock().unwrap() {
            let there = (self.world.times(*n), self.world.times(-*n));
            let right = match fate {
                Fate::There if op.writes_one() => there.0 == 1,
                Fate::There => there == (1, 1),
                Fate::Absent => there == (0, 0),
                Fate::Whole => there == (0, 0) || (there == (1, 1) && op.writes_pair()),
                Fate::AtMostOnce => there.0 <= 1,
            };
            assert!(right, "seed {seed}: {op:?} {n} was answered {told}: {fate:?}, found {there:?}");
            // Who asks an engine that hangs waits until he gives up; all others have limits of their own.
            assert!(!hung || self.may_hang.load(SeqCst), "seed {seed}: {op:?} {n} never came back");
        }
    }

    /// All connections can be had at once, and each can work.
    async fn capacity(&self) {
        let (seed, db, max) = (self.seed, &self.db, self.max);
        let all = async {
            let readers =
                if db.capabilities().single_writer && !db.capabilities().concurrent_readers { 0 } else { max - 1 };
            let mut held = vec![db.connection().await.unwrap()];
            for _ in 0..readers {
                held.push(db.read_connection().await.unwrap());
            }
            for conn in &mut held {
                conn.fetch_all("get", ()).await.unwrap();
            }
            assert_eq!(self.world.live(), u64::from(1 + readers), "seed {seed}");
        };
        tokio::time::timeout(Duration::from_secs(60), all)
            .await
            .unwrap_or_else(|_| panic!("seed {seed}: capacity is lost"));
        db.transaction(async |tx| tx.execute("put 0", ()).await).await.unwrap();
        let report = db.close().await.unwrap();
        assert!(report.is_clean(), "seed {seed}: {report:?}");
        assert_eq!((self.world.live(), db.stats().total_connections), (0, 0), "seed {seed}");
    }
}

fn assert_true(stats: PoolStats, seed: u64) {
    let lent = stats.total_acquired - stats.total_released;
    assert_eq!(lent, u64::from(stats.active_connections), "seed {seed}: {stats:?}");
    assert_eq!(stats.active_connections + stats.idle_connections, stats.total_connections, "seed {seed}: {stats:?}");
}

/// When a future is dropped.
#[derive(Clone, Copy, Debug)]
enum Drops {
    AfterPolls(usize),
    After(Duration),
}

impl Drops {
    /// `None`: it was dropped.
    async fn of<T>(self, future: impl Future<Output = T>) -> Option<T> {
        match self {
            Self::After(time) => tokio::time::timeout(time, future).await.ok(),
            Self::AfterPolls(polls) => {
                let (mut future, mut left) = (Box::pin(future), polls);
                let walk = std::future::poll_fn(move |context| {
                    if left == 0 {
                        return std::task::Poll::Ready(None);
                    }
                    left -= 1;
                    match future.as_mut().poll(context) {
                        std::task::Poll::Pending if left > 0 => std::task::Poll::Pending,
                        std::task::Poll::Pending => std::task::Poll::Ready(None),
                        std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
                    }
                });
                // What hangs is never polled again.
                tokio::time::timeout(FOR_EVER, walk).await.ok().flatten()
            }
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

const FAULTS: [Fault; 8] = [
    Fault::Fail(ErrorKind::Busy),
    Fault::Fail(ErrorKind::Query),
    Fault::Fail(ErrorKind::Connection),
    Fault::Break,
    Fault::LoseAnswer,
    Fault::Hang,
    Fault::Panic,
    Fault::Slow(Duration::from_millis(300)),
];

/// One schedule from beginning to end.
fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let runtime = paused();
    runtime.block_on(async {
        let schedule = Arc::new(Schedule::new(seed, &mut random));
        let faults = schedule.faults.clone();
        let kinds: Vec<_> = FAULTS.into_iter().filter(|_| random.u8(0..3) > 0).collect();
        schedule.may_hang.store(kinds.contains(&Fault::Hang), SeqCst);
        if random.u8(0..5) > 0 && !kinds.is_empty() {
            faults.random(random.u64(..), random.u32(2..40), kinds);
        }
        let callers: Vec<_> =
            (0..random.u8(1..8)).map(|_| tokio::spawn(Arc::clone(&schedule).caller(random.fork()))).collect();
        let closing = random.u8(0..8) == 0;
        if closing {
            tokio::time::sleep(Duration::from_millis(random.u64(0..200))).await;
            let report = schedule.db.close_within(Duration::from_secs(2)).await.unwrap();
            assert!(report.abandoned <= schedule.max, "seed {seed}");
        }
        for caller in callers {
            caller.await.unwrap();
        }
        faults.heal();
        schedule.look().await;
        if closing {
            let stats = schedule.db.stats();
            assert_eq!((schedule.world.live(), stats.total_connections), (0, 0), "seed {seed}: {stats:?}");
            let refused = schedule.db.execute("put 0", ()).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Closed, "seed {seed}");
        } else {
            schedule.capacity().await;
        }
    });
}

#[test]
fn pool_and_database_never_disagree_with_the_model() {
    quiet();
    watch();
    let first = number("STRONGROOM_MODEL_SEED", 1);
    for seed in first..first + number("STRONGROOM_MODEL_SCHEDULES", 2000) {
        RUNNING.store(seed, SeqCst);
        run(seed);
    }
}

/// What a panic said.
fn words(info: &std::panic::PanicHookInfo<'_>) -> String {
    let (said, built) = (info.payload().downcast_ref::<&str>(), info.payload().downcast_ref::<String>());
    said.map(|text| (*text).to_owned()).or_else(|| built.cloned()).unwrap_or_default()
}

/// Panics that the test makes are not shown.
fn quiet() {
    std::panic::set_hook(Box::new(|info| {
        if !["injected panic", "own panic"].iter().any(|own| words(info).contains(own)) {
            eprintln!("{info}");
        }
    }));
}

/// Every call is dropped after every number of polls, while another caller is at work.
#[test]
fn every_call_may_be_dropped_at_every_await_point() {
    quiet();
    let mut dropped = 0;
    for (single, readers, group, max) in [
        (false, true, false, 1),
        (false, true, false, 3),
        (true, true, true, 3),
        (true, false, true, 2),
        (true, true, false, 1),
    ] {
        for (op, seed) in OPS.into_iter().flat_map(|op| (0..3).map(move |seed| (op, seed))) {
            for polls in 0.. {
                assert!(polls < 60, "{op:?} never ends");
                let done = paused().block_on(async {
                    // The same waits each time, but for what being dropped changes.
                    let mut random = fastrand::Rng::with_seed(seed);
                    let able = World::capabilities(single, readers, group);
                    let schedule = Schedule::with(seed, &mut random, able, max);
                    let other = async {
                        schedule.one(Op::Put, Drops::After(FOR_EVER)).await;
                        schedule.one(Op::Transaction, Drops::After(FOR_EVER)).await;
                    };
                    let (done, ()) = tokio::join!(schedule.one(op, Drops::AfterPolls(polls)), other);
                    schedule.look().await;
                    schedule.capacity().await;
                    done
                });
                if done {
                    break;
                }
                dropped += 1;
            }
        }
    }
    assert!(dropped > 500, "only {dropped} calls were dropped half-way");
}

static RUNNING: AtomicU64 = AtomicU64::new(0);

/// Says which schedule runs, should one of them never end.
fn watch() {
    std::thread::spawn(|| {
        let (mut last, mut since) = (0, std::time::Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = RUNNING.load(SeqCst);
            if now != last {
                (last, since) = (now, std::time::Instant::now());
            } else if since.elapsed() > Duration::from_secs(20) {
                eprintln!("seed {now} does not end");
                std::process::abort();
            }
        }
    });
}
