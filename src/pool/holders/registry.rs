//! Everything a pool knows about its connections.
//!
//! One lock for what concerns several connections, and one for the loans of each, so that two threads that borrow and
//! give back two connections do not meet. The second may be taken inside the first, never the other way round, and
//! inside either there is no await, no foreign code and no other lock.

use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::explain::Exhaustion;
use super::loans::{HoldToken, Holder, LaneId, Ledger, PoolStats};
use crate::connector::Canceller;
use crate::lock::{Guard, Lock, foreign};

/// A chore that looks this late is not driven any more: its runtime stands still.
pub(in crate::pool) const LATE: Duration = Duration::from_secs(1);

/// The longest time between two looks, so that a runtime that stands still is noticed.
const LONGEST: Duration = Duration::from_secs(30);

pub(in crate::pool) struct Registry {
    /// Tells this pool's tokens from those of others.
    pub(super) pool: u64,
    pub(super) sizes: [u32; 2],
    state: Lock<RegistryState>,
    /// Wakes when a connection is gone, or an attempt to open one has ended.
    pub(super) gone: Notify,
}

#[derive(Default)]
pub(super) struct RegistryState {
    /// Open connections.
    pub(super) entries: Vec<Option<Arc<Ledger>>>,
    /// How many there have been.
    registered: u64,
    /// What is not counted by connection, and the counts of those that are gone.
    pub(super) stats: PoolStats,
    /// Who looks after the loans that are watched.
    watch: LoanWatch,
    /// How many connections of each lane are being opened.
    dialing: [u32; 2],
    /// How many of the calls that wait do so inside a future that holds a connection.
    pub(super) chained: u32,
}

/// The chore that looks after the loans that are watched.
#[derive(Default)]
struct LoanWatch {
    /// Numbers the chores; only the last one counts.
    generation: u64,
    /// When it looks next; `None`: there is none.
    next: Option<Instant>,
}

/// A connection's place in the registry, kept exactly as long as the connection.
pub(in crate::pool) struct Registered {
    registry: Arc<Registry>,
    entry: Arc<Ledger>,
    key: usize,
}

/// A connection that is being opened.
pub(in crate::pool) struct Dialing<'a> {
    registry: &'a Registry,
    lane: LaneId,
}

impl Registry {
    pub(in crate::pool) fn new(sizes: [u32; 2]) -> Self {
        // No two get the same number, because it is taken in one step: `Relaxed` does.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { pool: NEXT.fetch_add(1, Ordering::Relaxed), sizes, state: Lock::default(), gone: Notify::new() }
    }

    pub(super) fn lock(&self) -> Guard<'_, RegistryState> {
        self.state.lock()
    }

    pub(in crate::pool) fn stats(&self) -> PoolStats {
        let state = self.lock();
        let mut stats = state.stats;
        for entry in state.entries.iter().flatten() {
            entry.lock().count_in(&mut stats);
        }
        stats.idle_connections = stats.total_connections - stats.active_connections;
        stats
    }

    /// How many connections of a lane are in service.
    pub(in crate::pool) fn open(&self, lane: LaneId) -> u32 {
        self.lock().open(lane)
    }

    /// Enters a new connection, not yet in service.
    pub(in crate::pool) fn register(self: &Arc<Self>, lane: LaneId, canceller: Canceller) -> Registered {
        let mut state = self.lock();
        state.registered += 1;
        let serial = state.registered << 32;
        let entry = Arc::new(Ledger::new(lane, canceller, serial));
        let free = state.entries.iter().position(Option::is_none);
        let key = free.unwrap_or_else(|| {
            state.entries.push(None);
            state.entries.len() - 1
        });
        state.entries[key] = Some(Arc::clone(&entry));
        Registered { registry: Arc::clone(self), entry, key }
    }

    pub(in crate::pool) fn count_error(&self) {
        self.lock().stats.total_errors += 1;
    }

    pub(in crate::pool) fn count_timeout(&self) {
        self.lock().stats.total_timeouts += 1;
    }

    /// Notes a connection that is being opened.
    pub(in crate::pool) fn dial(&self, lane: LaneId) -> Dialing<'_> {
        self.lock().dialing[lane] += 1;
        Dialing { registry: self, lane }
    }

    /// Waits until no connection of `lane` can come back.
    pub(in crate::pool) async fn none_left(&self, lane: LaneId) {
        loop {
            let mut gone = pin!(self.gone.notified());
            gone.as_mut().enable();
            if !self.can_come_back(lane) {
                return;
            }
            gone.await;
        }
    }

    /// Whether a connection of `lane` that is open, or being opened, can ever be lent to a call that waits.
    fn can_come_back(&self, lane: LaneId) -> bool {
        let (state, mut sizes) = (self.lock(), self.sizes);
        if state.dialing[lane] > 0 {
            return true;
        }
        sizes[lane] = state.entries.iter().flatten().filter(|entry| entry.lane == lane).map(|_| 1).sum();
        state.can_end(lane, sizes)
    }

    /// Who holds what, at this moment.
    pub(in crate::pool) fn exhaustion(&self, lane: LaneId) -> Exhaustion {
        self.lock().exhaustion(lane, self.sizes)
    }

    /// For how long the oldest loan of a lane has lasted.
    pub(in crate::pool) fn oldest_loan(&self, lane: LaneId) -> Option<Duration> {
        let state = self.lock();
        let entries = state.entries.iter().flatten().filter(|entry| entry.lane == lane);
        entries.filter_map(|entry| entry.lock().holder.as_ref().map(|holder| holder.since.elapsed())).max()
    }

    /// Waits until there are no connections of `lane` but those that are lent.
    pub(in crate::pool) async fn only_lent_left(&self, lane: LaneId) {
        loop {
            let mut gone = pin!(self.gone.notified());
            gone.as_mut().enable();
            let is_left = |entry: &Arc<Ledger>| entry.lane == lane && entry.lock().holder.is_none();
            if !self.lock().entries.iter().flatten().any(is_left) {
                return;
            }
            gone.await;
        }
    }

    /// When the chore of this number looks at the loans that are watched: once the oldest is due, or a while from now.
    /// `None`: there are none, or another chore looks after them.
    pub(in crate::pool) fn next_look(&self, generation: u64, age: Duration) -> Option<Instant> {
        let mut state = self.lock();
        let mut oldest: Option<Instant> = None;
        state.watched(|holder| oldest = Some(oldest.map_or(holder.since, |oldest| oldest.min(holder.since))));
        let due = oldest.and_then(|since| since.checked_add(age));
        let next = due.map(|due| due.min(Instant::now() + LONGEST));
        (state.watch.generation == generation).then(|| state.watch.next = next).and(next)
    }

    /// The chore of this number looks after the loans no longer.
    pub(in crate::pool) fn looks_no_longer(&self, generation: u64) {
        let mut state = self.lock();
        if state.watch.generation == generation {
            state.watch.next = None;
        }
    }

    /// Who has held a connection for longer than `age`; each is told once.
    pub(in crate::pool) fn take_overdue(&self, age: Duration) -> Vec<Holder> {
        let (now, mut late) = (Instant::now(), Vec::new());
        self.lock().watched(|holder| {
            if now.saturating_duration_since(holder.since) >= age {
                holder.watched = false;
                late.push(holder.clone());
            }
        });
        late
    }

    /// The means to stop what runs on the connections that are lent.
    pub(in crate::pool) fn lent_cancellers(&self) -> Vec<Canceller> {
        let state = self.lock();
        let lent = state.entries.iter().flatten().filter(|entry| entry.lock().holder.is_some());
        lent.map(|entry| entry.canceller.clone()).collect()
    }
}

impl RegistryState {
    /// Shows the holders of the loans that are watched.
    fn watched(&self, mut look: impl FnMut(&mut Holder)) {
        for entry in self.entries.iter().flatten() {
            if let Some(holder) = entry.lock().holder.as_mut().filter(|holder| holder.watched) {
                look(holder);
            }
        }
    }

    fn open(&self, lane: LaneId) -> u32 {
        let entries = self.entries.iter().flatten().filter(|entry| entry.lane == lane);
        entries.map(|entry| u32::from(entry.lock().in_service)).sum()
    }

    /// Whether a connection of `lane` can ever come back: the least fixpoint of "a lane is alive if one of its
    /// connections is on its way or has a holder that waits for nothing but living lanes".
    pub(super) fn can_end(&self, lane: LaneId, sizes: [u32; 2]) -> bool {
        // What holders wait for changes only under this state's own lock.
        let waits = |entry: &Arc<Ledger>| entry.lock().holder.as_ref().map(|holder| (entry.lane, holder.waits));
        let lent: Vec<(LaneId, [u32; 2])> = self.entries.iter().flatten().filter_map(waits).collect();
        let count = |lane| lent.iter().filter(|(lent, _)| *lent == lane).count();
        let mut alive: [bool; 2] = std::array::from_fn(|lane| count(lane) < sizes[lane] as usize);
        // Each round can only revive lanes, and there are two.
        for _ in 0..2 {
            for (lane, waits) in &lent {
                alive[*lane] |= waits.iter().zip(alive).all(|(waits, alive)| *waits == 0 || alive);
            }
        }
        alive[lane]
    }

    pub(super) fn exhaustion(&self, lane: LaneId, sizes: [u32; 2]) -> Exhaustion {
        let entries = self.entries.iter().flatten().filter(|entry| entry.lane == lane);
        let mut holders: Vec<Holder> = entries.filter_map(|entry| entry.lock().holder.clone()).collect();
        holders.sort_by_key(|holder| holder.since);
        Exhaustion { holders, size: sizes[lane], waiting: self.stats.waiting, suspended_by: None }
    }
}

impl Registered {
    /// Takes the connection into service.
    pub(in crate::pool) fn serve(&self) {
        let mut state = self.registry.lock();
        state.stats.total_opened += 1;
        self.entry.lock().in_service = true;
    }

    /// Notes that the connection is lent from now on.
    pub(in crate::pool) fn lend(&self, location: &'static Location<'static>, since: Instant, waited: bool) {
        self.entry.lock().lend(location, since, waited);
    }

    /// Notes that it is lent from now on, if it is not; whether that is so.
    pub(in crate::pool) fn resume(&self, location: &'static Location<'static>, now: Instant) -> bool {
        let rests = self.entry.lock().holder.is_none();
        if rests {
            self.lend(location, now, false);
        }
        rests
    }

    /// Notes that the connection is back; since when it was lent, if it was.
    pub(in crate::pool) fn give_back(&self) -> Option<Instant> {
        self.entry.lock().release()
    }

    /// Since when it is lent, if it is.
    pub(in crate::pool) fn lent_since(&self) -> Option<Instant> {
        self.entry.lock().holder.as_ref().map(|holder| holder.since)
    }

    pub(in crate::pool) fn count_error(&self) {
        self.registry.count_error();
    }

    /// Takes the connection out of service, unless that would leave fewer than `keep` of its kind.
    pub(in crate::pool) fn retire(&self, keep: u32) -> bool {
        let state = self.registry.lock();
        let enough = state.open(self.entry.lane) > keep;
        let mut loans = self.entry.lock();
        if loans.in_service && enough {
            loans.leave();
        }
        !loans.in_service
    }

    pub(in crate::pool) fn describe(&self, change: impl FnOnce(&mut Holder)) {
        self.entry.lock().holder.as_mut().map(change);
    }

    /// Has the loan watched for its age. The number of the chore that is needed now, because there is none, or its
    /// runtime stands still.
    pub(in crate::pool) fn watch(&self) -> Option<u64> {
        self.describe(|holder| holder.watched = true);
        let (mut state, now) = (self.registry.lock(), Instant::now());
        if state.watch.next.is_some_and(|next| now < next + LATE) {
            return None;
        }
        state.watch = LoanWatch { generation: state.watch.generation + 1, next: Some(now) };
        Some(state.watch.generation)
    }

    /// Names the loan.
    pub(in crate::pool) fn token(&self) -> HoldToken {
        let serial = self.entry.lock().holder.as_ref().map(|holder| holder.serial);
        HoldToken { pool: self.registry.pool, key: self.key, serial: serial.unwrap_or_default() }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        let entry = state.entries.get_mut(self.key).and_then(Option::take);
        let mut loans = self.entry.lock();
        loans.leave();
        loans.count_in(&mut state.stats);
        drop(loans);
        // The canceller is the engine's; it is dropped outside the lock.
        drop(state);
        foreign();
        drop(entry);
        self.registry.gone.notify_waiters();
    }
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.registry.lock().dialing[self.lane] -= 1;
        foreign();
        self.registry.gone.notify_waiters();
    }
}
