//! Everything a pool knows about its connections, in one state behind one lock.
//!
//! No await, no user code and no other lock is ever taken inside, so it may be used from anywhere, also from a `Drop`
//! that runs under bb8's own mutex.

use std::panic::Location;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::PoolStats;
use super::explain::Exhaustion;
use super::hold::{self, Held, HoldToken};
use crate::Canceller;

/// The shelf of the writer, or the only one.
pub(super) const MAIN: Lane = 0;
/// The shelf of the readers.
pub(super) const READERS: Lane = 1;
/// Which shelf: an index.
pub(super) type Lane = usize;

pub(super) struct Registry {
    /// Tells this pool's tokens from those of others.
    pool: u64,
    sizes: [u32; 2],
    state: Mutex<State>,
    /// Wakes when a connection is gone.
    gone: Notify,
}

#[derive(Default)]
struct State {
    /// Open connections.
    entries: Vec<Option<Entry>>,
    lanes: [Counts; 2],
    /// In service: `waiting` and the totals; the numbers of connections are in `lanes`.
    stats: PoolStats,
    /// A task looks after the loans that are watched.
    looked_after: bool,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    /// In service.
    open: u32,
    /// Of those, lent.
    lent: u32,
}

struct Entry {
    lane: Lane,
    canceller: Canceller,
    /// False before its hook has run, and while it is being closed.
    in_service: bool,
    holder: Option<Holder>,
}

/// Who has a connection.
#[derive(Clone)]
pub(super) struct Holder {
    pub(super) serial: u64,
    pub(super) location: &'static Location<'static>,
    pub(super) label: Option<Arc<str>>,
    pub(super) since: Instant,
    pub(super) task: Option<tokio::task::Id>,
    pub(super) in_transaction: bool,
    /// Whether to warn when it has lasted too long.
    watched: bool,
    /// How many calls wait for each lane inside a future that outlives this loan.
    waits: [u32; 2],
}

/// A connection's place in the registry, kept exactly as long as the connection.
pub(super) struct Registered {
    registry: Arc<Registry>,
    key: usize,
}

/// A call that waits.
pub(super) struct Waiter<'a> {
    registry: &'a Registry,
    lane: Lane,
    held: Option<Arc<Held>>,
}

impl Registry {
    pub(super) fn new(sizes: [u32; 2]) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { pool: NEXT.fetch_add(1, Ordering::Relaxed), sizes, state: Mutex::default(), gone: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way; were it otherwise, slightly wrong numbers are better than a dead pool.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> PoolStats {
        let state = self.lock();
        let (open, lent) = state.lanes.iter().fold((0, 0), |sum, lane| (sum.0 + lane.open, sum.1 + lane.lent));
        PoolStats { total_connections: open, active_connections: lent, idle_connections: open - lent, ..state.stats }
    }

    /// How many connections of a lane are in service.
    pub(super) fn open(&self, lane: Lane) -> u32 {
        self.lock().lanes[lane].open
    }

    /// Enters a new connection, not yet in service.
    pub(super) fn register(self: &Arc<Self>, lane: Lane, canceller: Canceller) -> Registered {
        let mut state = self.lock();
        let entry = Some(Entry { lane, canceller, in_service: false, holder: None });
        let free = state.entries.iter().position(Option::is_none);
        let key = free.unwrap_or_else(|| {
            state.entries.push(None);
            state.entries.len() - 1
        });
        state.entries[key] = entry;
        Registered { registry: Arc::clone(self), key }
    }

    pub(super) fn count_error(&self) {
        self.lock().stats.total_errors += 1;
    }

    pub(super) fn count_timeout(&self) {
        self.lock().stats.total_timeouts += 1;
    }

    /// Enters a call that has to wait, unless waiting could never end: then says why.
    pub(super) fn wait(&self, lane: Lane) -> Result<Waiter<'_>, Exhaustion> {
        let held = hold::current();
        let waiter = Waiter { registry: self, lane, held };
        let mut state = self.lock();
        state.stats.waiting += 1;
        waiter.change(&mut state, |waits| *waits += 1);
        if state.can_end(lane, self.sizes) {
            return Ok(waiter);
        }
        state.stats.total_deadlocks += 1;
        let exhaustion = state.exhaustion(lane, self.sizes);
        drop(state);
        Err(exhaustion)
    }

    /// Who holds what, at this moment.
    pub(super) fn exhaustion(&self, lane: Lane) -> Exhaustion {
        self.lock().exhaustion(lane, self.sizes)
    }

    /// Waits until there are no connections but those that are lent.
    pub(super) async fn only_lent_left(&self) {
        loop {
            let mut gone = pin!(self.gone.notified());
            gone.as_mut().enable();
            if self.lock().entries.iter().flatten().all(|entry| entry.holder.is_some()) {
                return;
            }
            gone.await;
        }
    }

    /// When the oldest of the loans that are watched is due. `None`: there are none, and nobody looks after them now.
    pub(super) fn next_due(&self, age: Duration) -> Option<Instant> {
        let mut state = self.lock();
        let due = state.watched().map(|holder| holder.since).min().and_then(|since| since.checked_add(age));
        state.looked_after = due.is_some();
        due
    }

    /// Who has held a connection for longer than `age`; each is told once.
    pub(super) fn take_overdue(&self, age: Duration) -> Vec<Holder> {
        let now = Instant::now();
        let mut state = self.lock();
        let late = state.watched().filter(|holder| now.saturating_duration_since(holder.since) >= age);
        late.map(|holder| {
            holder.watched = false;
            holder.clone()
        })
        .collect()
    }

    /// The means to stop what runs on the connections that are lent.
    pub(super) fn lent_cancellers(&self) -> Vec<Canceller> {
        let state = self.lock();
        let lent = state.entries.iter().flatten().filter(|entry| entry.holder.is_some());
        lent.map(|entry| entry.canceller.clone()).collect()
    }
}

impl State {
    fn watched(&mut self) -> impl Iterator<Item = &mut Holder> {
        let holders = self.entries.iter_mut().flatten().filter_map(|entry| entry.holder.as_mut());
        holders.filter(|holder| holder.watched)
    }

    fn holder(&mut self, token: HoldToken) -> Option<&mut Holder> {
        let holder = self.entries.get_mut(token.key)?.as_mut()?.holder.as_mut()?;
        (holder.serial == token.serial).then_some(holder)
    }

    /// Whether a connection of `lane` can ever come back: the least fixpoint of "a lane is alive if one of its
    /// connections is on its way or has a holder that waits for nothing but living lanes".
    fn can_end(&self, lane: Lane, sizes: [u32; 2]) -> bool {
        let mut alive: [bool; 2] = std::array::from_fn(|lane| self.lanes[lane].lent < sizes[lane]);
        // Each round can only revive lanes, and there are two.
        for _ in 0..2 {
            for entry in self.entries.iter().flatten() {
                if let Some(holder) = &entry.holder {
                    alive[entry.lane] |= holder.waits.iter().zip(alive).all(|(waits, alive)| *waits == 0 || alive);
                }
            }
        }
        alive[lane]
    }

    fn exhaustion(&self, lane: Lane, sizes: [u32; 2]) -> Exhaustion {
        let entries = self.entries.iter().flatten().filter(|entry| entry.lane == lane);
        let mut holders: Vec<Holder> = entries.filter_map(|entry| entry.holder.clone()).collect();
        holders.sort_by_key(|holder| holder.since);
        Exhaustion { holders, size: sizes[lane], waiting: self.stats.waiting }
    }
}

impl Registered {
    fn update<T>(&self, change: impl FnOnce(&mut Entry, &mut Counts, &mut PoolStats) -> T) -> Option<T> {
        let mut state = self.registry.lock();
        let State { entries, lanes, stats, .. } = &mut *state;
        let entry = entries.get_mut(self.key)?.as_mut()?;
        let lane = &mut lanes[entry.lane];
        Some(change(entry, lane, stats))
    }

    /// Takes the connection into service.
    pub(super) fn serve(&self) {
        self.update(|entry, lane, stats| {
            entry.in_service = true;
            lane.open += 1;
            stats.total_opened += 1;
        });
    }

    /// Notes that the connection is lent from now on.
    pub(super) fn lend(&self, location: &'static Location<'static>, since: Instant, waited: bool) {
        let task = tokio::task::try_id();
        self.update(|entry, lane, stats| {
            stats.total_acquired += 1;
            stats.total_waited += u64::from(waited);
            lane.lent += 1;
            let serial = stats.total_acquired;
            let waits = [0; 2];
            let (label, in_transaction, watched) = (None, false, false);
            entry.holder = Some(Holder { serial, location, label, since, task, in_transaction, watched, waits });
        });
    }

    /// Notes that the connection is back.
    pub(super) fn give_back(&self) {
        self.update(Entry::release);
    }

    pub(super) fn count_error(&self) {
        self.registry.count_error();
    }

    /// Takes the connection out of service, unless that would leave fewer than `keep` of its kind.
    pub(super) fn retire(&self, keep: u32) -> bool {
        let retired = self.update(|entry, lane, stats| {
            if entry.in_service && lane.open > keep {
                entry.leave(lane, stats);
            }
            !entry.in_service
        });
        retired == Some(true)
    }

    pub(super) fn describe(&self, change: impl FnOnce(&mut Holder)) {
        self.update(|entry, _, _| entry.holder.as_mut().map(change));
    }

    /// Has the loan watched for its age; true if somebody is needed who does that.
    pub(super) fn watch(&self) -> bool {
        self.describe(|holder| holder.watched = true);
        !std::mem::replace(&mut self.registry.lock().looked_after, true)
    }

    /// Names the loan.
    pub(super) fn token(&self) -> HoldToken {
        let serial = self.update(|entry, _, _| entry.holder.as_ref().map(|holder| holder.serial));
        HoldToken { pool: self.registry.pool, key: self.key, serial: serial.flatten().unwrap_or_default() }
    }
}

impl Entry {
    fn leave(&mut self, lane: &mut Counts, stats: &mut PoolStats) {
        self.release(lane, stats);
        lane.open -= u32::from(std::mem::take(&mut self.in_service));
    }

    fn release(&mut self, lane: &mut Counts, stats: &mut PoolStats) {
        if self.holder.take().is_some() {
            lane.lent -= 1;
            stats.total_released += 1;
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        let State { entries, lanes, stats, .. } = &mut *state;
        let Some(mut entry) = entries.get_mut(self.key).and_then(Option::take) else { return };
        let lane = &mut lanes[entry.lane];
        entry.leave(lane, stats);
        // The canceller is the engine's; it is dropped outside the lock.
        drop(state);
        self.registry.gone.notify_waiters();
    }
}

impl Waiter<'_> {
    fn change(&self, state: &mut State, change: impl Fn(&mut u32)) {
        for token in hold::of_pool(self.held.as_ref(), self.registry.pool) {
            if let Some(holder) = state.holder(token) {
                change(&mut holder.waits[self.lane]);
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        state.stats.waiting -= 1;
        self.change(&mut state, |waits| *waits -= 1);
    }
}
