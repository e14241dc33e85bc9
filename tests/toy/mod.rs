//! A connector without SQL whose every step can be told what to do.
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strongroom::engine::{Access, Cancel, Canceller, Dialect, Resource, ResourceState};
use strongroom::pool::{NoRetry, PoolBuilder};
use strongroom::{Capabilities, Connector, Error, ErrorKind, Pool, Result};
use tokio::sync::Notify;

/// What one step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Ok,
    /// A permanent error.
    Err,
    /// An error that may pass.
    Transient,
    /// A lock of somebody else, which was waited for as long as is worth it.
    Locked,
    /// Works, after this many milliseconds.
    Slow(u64),
    Never,
    Panic,
}

/// A step of a connection's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Connect,
    Hook,
    Ping,
    Reset,
    Close,
}

/// What tests see of the connections, and tell them.
#[derive(Default)]
pub struct World {
    scripts: Mutex<[VecDeque<Gate>; 5]>,
    pub begun: [AtomicUsize; 5],
    /// Refuses a further connection while so many are open; 0: never.
    pub limit: AtomicUsize,
    pub opened: AtomicUsize,
    pub dropped: AtomicUsize,
    pub closed: AtomicUsize,
    pub cancelled: AtomicUsize,
    /// The most connections that were open at once.
    pub peak: AtomicUsize,
    pub journal: Mutex<Vec<String>>,
    pub cancel: Notify,
}

impl World {
    /// The next calls of `step` do this; later ones work.
    pub fn script(&self, step: Step, gates: impl IntoIterator<Item = Gate>) {
        self.scripts.lock().unwrap()[step as usize] = gates.into_iter().collect();
    }

    pub fn live(&self) -> usize {
        self.opened.load(SeqCst) - self.dropped.load(SeqCst)
    }

    pub fn begun(&self, step: Step) -> usize {
        self.begun[step as usize].load(SeqCst)
    }

    pub fn opened(&self) -> usize {
        self.opened.load(SeqCst)
    }

    pub fn closed(&self) -> usize {
        self.closed.load(SeqCst)
    }

    pub fn note(&self, entry: impl Into<String>) {
        self.journal.lock().unwrap().push(entry.into());
    }

    pub fn journal(&self) -> Vec<String> {
        self.journal.lock().unwrap().clone()
    }

    pub async fn pass(&self, step: Step) -> Result<()> {
        self.begun[step as usize].fetch_add(1, SeqCst);
        let gate = self.scripts.lock().unwrap()[step as usize].pop_front().unwrap_or(Gate::Ok);
        match gate {
            Gate::Ok => Ok(()),
            Gate::Err => Err(Error::new(ErrorKind::Connection, format!("{step:?} refused"))),
            Gate::Transient => Err(Error::new(ErrorKind::Connection, format!("{step:?} busy")).transient()),
            Gate::Locked => Err(Error::new(ErrorKind::Busy, format!("{step:?} locked"))),
            Gate::Slow(millis) => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                Ok(())
            }
            Gate::Never => std::future::pending().await,
            Gate::Panic => panic!("{step:?} panics, as told"),
        }
    }
}

/// Opens [`Toy`]s.
#[derive(Clone, Default)]
pub struct Toys {
    pub world: Arc<World>,
    pub no_readers: bool,
    pub reads_elsewhere: bool,
}

/// A connection to nothing.
pub struct Toy {
    pub number: usize,
    pub access: Access,
    pub state: ResourceState,
    /// Panics when asked for its state.
    pub rude: bool,
    pub world: Arc<World>,
}

struct Bell(Arc<World>);

impl Toys {
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.world)
    }

    /// A pool of these, that tries once.
    pub fn pool(&self) -> PoolBuilder<Self> {
        Pool::builder(self.clone()).retry(NoRetry)
    }
}

impl Connector for Toys {
    type Connection = Toy;

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("toy", Dialect::Other);
        capabilities.concurrent_readers = !self.no_readers;
        capabilities.reads_elsewhere = self.reads_elsewhere;
        capabilities
    }

    async fn connect(&self, access: Access) -> Result<Toy> {
        self.world.pass(Step::Connect).await?;
        let limit = self.world.limit.load(SeqCst);
        if limit > 0 && self.world.live() >= limit {
            return Err(Error::new(ErrorKind::Connection, "too many connections").transient());
        }
        let number = self.world.opened.fetch_add(1, SeqCst) + 1;
        self.world.peak.fetch_max(self.world.live(), SeqCst);
        self.world.note(format!("open {access:?}"));
        Ok(Toy { number, access, state: ResourceState::Idle, rude: false, world: self.world() })
    }
}

impl Toy {
    /// Works until the clock or the canceller says so; dropped on the way, it leaves the connection unknown.
    pub async fn work(&mut self, time: Duration) -> Result<()> {
        self.state = ResourceState::Unknown;
        let outcome = tokio::select! {
            () = self.world.cancel.notified() => Err(Error::new(ErrorKind::Cancelled, "the work was cancelled")),
            () = tokio::time::sleep(time) => Ok(()),
        };
        self.state = ResourceState::Idle;
        outcome
    }

    pub async fn hook(&mut self) -> Result<()> {
        let world = Arc::clone(&self.world);
        self.honest(world.pass(Step::Hook)).await
    }

    async fn honest(&mut self, step: impl Future<Output = Result<()>>) -> Result<()> {
        self.state = ResourceState::Unknown;
        let outcome = step.await;
        self.state = if outcome.is_ok() { ResourceState::Idle } else { ResourceState::Broken };
        outcome
    }
}

impl Resource for Toy {
    fn state(&self) -> ResourceState {
        assert!(!self.rude, "as told");
        self.state
    }

    fn canceller(&self) -> Canceller {
        Canceller::new(Bell(Arc::clone(&self.world)))
    }

    async fn ping(&mut self) -> Result<()> {
        let world = Arc::clone(&self.world);
        self.honest(world.pass(Step::Ping)).await
    }

    async fn reset(&mut self) -> Result<()> {
        let world = Arc::clone(&self.world);
        self.honest(world.pass(Step::Reset)).await
    }

    async fn close(self) -> Result<()> {
        self.world.pass(Step::Close).await?;
        self.world.closed.fetch_add(1, SeqCst);
        self.world.note(format!("close {:?}", self.access));
        Ok(())
    }
}

impl Drop for Toy {
    fn drop(&mut self) {
        self.world.dropped.fetch_add(1, SeqCst);
    }
}

impl Cancel for Bell {
    fn cancel(&self) {
        self.0.cancelled.fetch_add(1, SeqCst);
        self.0.cancel.notify_waiters();
    }
}

/// Lets background tasks run until they wait for a clock.
pub async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
