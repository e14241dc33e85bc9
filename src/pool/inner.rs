//! The parts of a pool: what there is, and what owns what.
//!
//! Only definitions and what they know of themselves. How connections are lent stands in `checkout/`, how they come back
//! in `keeping/`, how all that ends in `closing.rs`, and for a while in `suspending.rs` and `rekeying.rs`.

use std::borrow::Cow;
use std::future::Future;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, OnceLock, Weak};
use std::thread::available_parallelism;
use std::time::Duration;

use scopeguard::ScopeGuard;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::chores::Chores;
use super::close_report::CloseReport;
use super::guarded::{caught, guarded};
use super::holders::{LaneId, MAIN, READERS, Registered, Registry};
use super::keeping::Looks;
use super::settings::PoolSettings;
use super::supply::{Closed, IdleCell, Supply};
use crate::connector::{Access, Connector, Resource as _, ResourceState};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::lock::{Lock, foreign};
use crate::observer::{Event, LoanMoments, ObservedPool, Observers};

/// How long a connection may take to say goodbye: long enough for a checkpoint of a large log.
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// What all handles of a pool share.
pub(super) struct PoolInner<C: Connector> {
    pub(super) connector: C,
    pub(super) settings: PoolSettings<C>,
    /// In errors and logs.
    pub(super) name: Cow<'static, str>,
    pub(super) registry: Arc<Registry>,
    pub(super) observers: Observers,
    main: Lane<C>,
    readers: Option<Lane<C>>,
    /// Held while idle connections are closed, so that the writer closes only when all readers have.
    pub(super) closing: Mutex<()>,
    /// What has been closed since the pool is, and was not reported yet.
    pub(super) goodbyes: Lock<CloseReport>,
    /// Wakes when the pool is closed, and when a connection or capacity comes back after that.
    pub(super) closed: Notify,
    /// Where work that nobody waits for is done, if it is begun outside of any runtime.
    pub(super) runtime: OnceLock<Handle>,
    pub(super) chores: Arc<Chores>,
    pub(super) sleep: Sleep<C>,
    /// When idle connections are looked at for their age, where that is limited.
    pub(super) looks: Option<Looks>,
}

/// Connections that are opened for the same access, behind one fair queue.
pub(super) struct Lane<C: Connector> {
    pub(super) id: LaneId,
    /// What its connections are opened for.
    pub(super) access: Access,
    pub(super) size: u32,
    /// How many connections are kept.
    pub(super) min: u32,
    pub(super) supply: Supply<Box<OpenConnection<C>>, Grant<C>>,
    /// How many calls have had to wait so far; a call that waits now came after all of them. `Relaxed`: who comes after one of
    /// them, by whatever both know of each other, sees it counted; between others there is no order.
    pub(super) arrivals: AtomicU64,
}

/// Whether the pool has let go of everything, for a while.
pub(super) struct Sleep<C: Connector> {
    pub(super) state: Lock<SleepState<C>>,
    /// Wakes when the state has changed.
    pub(super) changed: Notify,
    /// Held by the suspension.
    pub(super) alone: Mutex<()>,
}

pub(super) struct SleepState<C: Connector> {
    pub(super) stage: SleepStage<C>,
    /// Where the suspension was asked for that keeps calls waiting.
    pub(super) by: Option<&'static Location<'static>>,
    /// How often somebody has resumed so far.
    pub(super) resumes: u64,
}

pub(super) enum SleepStage<C: Connector> {
    Awake,
    /// Loans are awaited, until then at the latest.
    Falling(Instant),
    /// Nothing is open. The next call opens again.
    Asleep,
    /// Nothing is open, and nothing can be: the permits are here, and calls queue for them.
    #[allow(dead_code, reason = "they only have to live")]
    Held(Vec<Permit<C>>),
}

impl<C: Connector> Default for Sleep<C> {
    fn default() -> Self {
        let state = SleepState { stage: SleepStage::Awake, by: None, resumes: 0 };
        Self { state: Lock::new(state), changed: Notify::new(), alone: Mutex::default() }
    }
}

/// The right to have one connection. Dropped, it is free capacity, or goes to the first call that waits.
pub(super) struct Permit<C: Connector> {
    pool: Arc<PoolInner<C>>,
    lane: LaneId,
}

/// A connection, what the pool knows about it, and its permit. Idle connections lie in a lane's supply as they are.
/// Dropped, it is gone without a goodbye.
pub(super) struct OpenConnection<C: Connector> {
    // In this order: what is registered must be open, and what is open must have a permit.
    pub(super) resource: C::Connection,
    pub(super) entry: Registered,
    pub(super) permit: Permit<C>,
    /// When it came back, or was opened.
    pub(super) since: Instant,
    /// When its lifetime ends.
    pub(super) expires: Option<Instant>,
}

/// A value with what becomes of it when it is dropped.
pub(super) type Guarded<T> = ScopeGuard<T, fn(T)>;

/// A new connection whose hook has not run yet. Dropped, it is closed in the background.
pub(super) struct Unproven<C: Connector>(pub(super) Guarded<Box<OpenConnection<C>>>);

/// A connection that was taken out of the supply, to be checked or lent. Dropped, it goes back, if it is as it should be,
/// and is put in order in the background otherwise.
pub(super) struct Lease<C: Connector>(pub(super) Guarded<Taken<C>>);

pub(super) struct Taken<C: Connector> {
    pub(super) opened: Box<OpenConnection<C>>,
    /// Where it goes back to. Beside the connection, so that to put it there touches nothing that threads share.
    pub(super) cell: Arc<IdleCell<Box<OpenConnection<C>>>>,
}

/// What a call gets that asks a lane.
pub(super) enum Grant<C: Connector> {
    Connection(Lease<C>),
    Permit(Permit<C>),
}

impl<C: Connector> Grant<C> {
    pub(super) fn lane(&self) -> LaneId {
        match self {
            Self::Connection(lease) => lease.opened().permit.lane,
            Self::Permit(permit) => permit.lane,
        }
    }
}

impl<C: Connector> PoolInner<C> {
    pub(super) fn new(connector: C, mut settings: PoolSettings<C>) -> Arc<Self> {
        let (min, max) = (settings.min_size, settings.max_size);
        let capabilities = connector.capabilities();
        let given = settings.name.take();
        let observed = std::mem::take(&mut settings.observers);
        let readers = match (settings.writer_lane, max) {
            (_, 1) => None,
            (true, _) => capabilities.concurrent_readers.then(|| (max - 1, min.saturating_sub(1))),
            (false, _) => capabilities.reads_elsewhere.then_some((max / 2, min / 2)),
        };
        let readers = readers.map(|(size, min)| Lane::new(READERS, Access::Read, size, min));
        let (size, kept) = readers.as_ref().map_or((max, min), |readers| (max - readers.size, min - readers.min));
        let main = if settings.writer_lane {
            Lane::new(MAIN, Access::Write, 1, kept.min(1))
        } else {
            Lane::new(MAIN, Access::Write, size, kept)
        };
        let registry = Arc::new(Registry::new([main.size, readers.as_ref().map_or(0, |lane| lane.size)]));
        let looks = Looks::every(settings.idle_timeout, settings.max_lifetime);
        Arc::new_cyclic(|pool: &Weak<Self>| Self {
            observers: {
                let observed_pool = ObservedPool::new(given.as_deref(), &capabilities, Arc::new(Weak::clone(pool)));
                Observers::new(observed, &observed_pool, &capabilities)
            },
            connector,
            settings,
            name: given.unwrap_or(Cow::Borrowed(capabilities.engine)),
            registry,
            main,
            readers,
            closing: Mutex::default(),
            goodbyes: Lock::default(),
            closed: Notify::new(),
            runtime: OnceLock::new(),
            chores: Arc::default(),
            sleep: Sleep::default(),
            looks,
        })
    }

    /// The lane of connections that can do this.
    pub(super) fn lane_for(&self, access: Access) -> &Lane<C> {
        match (access, &self.readers) {
            (Access::Read, Some(readers)) => readers,
            _ => &self.main,
        }
    }

    pub(super) fn lane(&self, id: LaneId) -> &Lane<C> {
        self.readers.as_ref().filter(|_| id == READERS).unwrap_or(&self.main)
    }

    pub(super) fn lanes_in_opening_order(&self) -> impl Iterator<Item = &Lane<C>> {
        [&self.main].into_iter().chain(&self.readers)
    }

    /// The readers first: the connection that closes last has the whole database to itself.
    pub(super) fn lanes_in_closing_order(&self) -> impl Iterator<Item = &Lane<C>> {
        self.readers.iter().chain([&self.main])
    }

    /// Runs `task` in the background: on the runtime of this thread, or else on the one that opened the first connection,
    /// and wherever somebody waits. If all that is gone, `task` is dropped, and what it owns gives itself back.
    pub(super) fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = Handle::try_current().ok().as_ref().or_else(|| self.runtime.get()) {
            self.chores.begin(runtime, task);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.main.supply.is_closed()
    }

    pub(super) fn closed_error(&self) -> Error {
        let message = format!("the pool \"{}\" is closed", self.name);
        Error::new(ErrorKind::Closed, message).during(Phase::Acquire).hint("open a new one to go on")
    }

    /// A permit, if there is free capacity. It overtakes nobody: while a call waits for capacity, none is free.
    pub(super) fn permit(self: &Arc<Self>, lane: &Lane<C>) -> Result<Option<Permit<C>>> {
        let is_free = lane.supply.take_capacity().map_err(|Closed| self.closed_error())?;
        Ok(is_free.then(|| Permit { pool: Arc::clone(self), lane: lane.id }))
    }

    /// The permit for capacity that was granted as such.
    pub(super) fn permit_of(self: &Arc<Self>, lane: &Lane<C>) -> Permit<C> {
        Permit { pool: Arc::clone(self), lane: lane.id }
    }
}

impl<C: Connector> Lane<C> {
    fn new(id: LaneId, access: Access, size: u32, min: u32) -> Self {
        /// More cells than this would only make looking through them longer.
        const MOST: usize = 64;

        // To ask costs the opening of several files of the system.
        static THREADS: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from));

        let supply = Supply::new(size as usize, (*THREADS).min(size as usize).clamp(1, MOST));
        Self { id, access, size, min, supply, arrivals: AtomicU64::new(0) }
    }

    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals.load(Relaxed)
    }
}

impl<C: Connector> Permit<C> {
    pub(super) fn pool(&self) -> &Arc<PoolInner<C>> {
        &self.pool
    }

    pub(super) fn lane(&self) -> &Lane<C> {
        self.pool.lane(self.lane)
    }

    /// Tells observers that its connection is no longer lent.
    #[cold]
    fn tell_returned(&self, lent: Instant, now: Instant) {
        let used = now.saturating_duration_since(lent);
        self.pool.observers.tell(&Event::ConnectionReturned { access: self.lane().access, used });
        LoanMoments::end(&self.pool.observers, now);
    }
}

impl<C: Connector> Drop for Permit<C> {
    fn drop(&mut self) {
        foreign();
        let again = || Grant::Permit(Self { pool: Arc::clone(&self.pool), lane: self.lane });
        if self.lane().supply.release(again) {
            PoolInner::came_back_late(&self.pool);
        }
    }
}

impl<C: Connector> OpenConnection<C> {
    /// The state as the connection knows it; a connection that panics over it is broken.
    pub(super) fn state(&self) -> ResourceState {
        caught(|| self.resource.state()).unwrap_or(ResourceState::Broken)
    }

    /// Notes the end of its loan, if it was lent.
    #[inline]
    pub(super) fn came_back(&mut self) {
        let Some(lent) = self.entry.give_back() else { return };
        self.since = Instant::now();
        if self.permit.pool.observers.are_there() {
            self.permit.tell_returned(lent, self.since);
        }
    }

    /// Notes that it is lent again, unless it is already.
    pub(super) fn resume(&self, location: &'static Location<'static>) {
        let now = Instant::now();
        if self.entry.resume(location, now) && self.permit.pool.observers.are_there() {
            self.tell_lent(None, now);
        }
    }

    /// Tells observers of a loan to a call that asked for it at `asked`, or just now.
    #[cold]
    pub(super) fn tell_lent(&self, asked: Option<Instant>, now: Instant) {
        let waited = asked.map_or(Duration::ZERO, |asked| now.saturating_duration_since(asked));
        let observers = &self.permit.pool.observers;
        observers.tell(&Event::ConnectionLent { access: self.permit.lane().access, waited });
        LoanMoments::begin(observers, now);
    }

    pub(super) fn is_expired(&self) -> bool {
        self.expires.is_some_and(|end| Instant::now() >= end)
    }

    /// Takes it out of service and says goodbye, for at most `limit`. Its capacity is the caller's then.
    pub(super) async fn close(self, limit: Duration) -> Permit<C> {
        let (permit, goodbye) = self.part(limit);
        goodbye.await.ok();
        permit
    }

    /// The two halves of [`close`](Self::close). The entry is kept until the goodbye has been said.
    pub(super) fn part(self, limit: Duration) -> (Permit<C>, impl Future<Output = Result<()>> + Send + 'static) {
        let Self { permit, entry, resource, .. } = self;
        let (pool, access) = (Arc::clone(&permit.pool), permit.lane().access);
        let lent = if pool.observers.are_there() { entry.lent_since() } else { None };
        entry.retire(0);
        if let Some(lent) = lent {
            permit.tell_returned(lent, Instant::now());
        }
        let goodbye = async move {
            let outcome = guarded("connection's close", Instant::now() + limit, async { resource.close().await }).await;
            // Before the entry goes, for which the one who reports it waits.
            pool.note_goodbye(&outcome);
            drop(entry);
            let error = outcome.as_ref().err();
            if let Some(error) = error {
                tracing::debug!(%error, "a connection did not close cleanly");
            }
            if pool.observers.are_there() {
                pool.observers.tell(&Event::ConnectionClosed { access, error });
            }
            outcome
        };
        (permit, goodbye)
    }
}

impl<C: Connector> Lease<C> {
    pub(super) fn opened(&self) -> &OpenConnection<C> {
        &self.0.opened
    }

    pub(super) fn opened_mut(&mut self) -> &mut OpenConnection<C> {
        &mut self.0.opened
    }

    /// The connection by itself; the caller sees to what becomes of it.
    pub(super) fn into_opened(self) -> OpenConnection<C> {
        *ScopeGuard::into_inner(self.0).opened
    }
}

impl<C: Connector> From<(Box<OpenConnection<C>>, Arc<IdleCell<Box<OpenConnection<C>>>>)> for Grant<C> {
    fn from((opened, cell): (Box<OpenConnection<C>>, Arc<IdleCell<Box<OpenConnection<C>>>>)) -> Self {
        Self::Connection(Lease::new(opened, cell))
    }
}
