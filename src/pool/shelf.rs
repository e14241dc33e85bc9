//! A shelf: a fair, closable queue in front of bb8's slots.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::permit::Permit;
use super::refused::Refused;
use super::registry::Lane;
use super::settings::Settings;
use super::slot::{Opened, Slot, Slots};
use super::warm::{Place, Warm};
use crate::clock::{self};
use crate::connector::{Access, Connector};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::lock::{Guard, Lock};

/// A slot that is checked out; dropped, it is on the shelf again, unless it is spent.
pub(super) type SlotGuard<C> = bb8::PooledConnection<'static, Slots<C>>;

/// A slot with its permit.
pub(super) type Kept<C> = (SlotGuard<C>, Permit<C>);

pub(super) struct Shelf<C: Connector> {
    pub(super) lane: Lane,
    /// What its connections are opened for.
    pub(super) access: Access,
    pub(super) size: u32,
    /// How many connections are kept.
    pub(super) min: u32,
    pub(super) permits: Semaphore,
    /// How many calls have had to wait for a permit so far.
    arrivals: AtomicU64,
    /// Slots that came back last, with their permits.
    pub(super) warm: Warm<Kept<C>>,
    /// Calls that could not connect, and take what comes back.
    pub(super) refused: Refused<C>,
    /// Slots that came back while somebody waited for a permit; see [`put_back`](Shelf::put_back).
    parked: Lock<Vec<SlotGuard<C>>>,
    /// Made on first use, because bb8's reaper needs a runtime.
    slots: OnceLock<bb8::Pool<Slots<C>>>,
    ages: [Option<Duration>; 2],
}

impl<C: Connector> Shelf<C> {
    pub(super) fn new(settings: &Settings<C>, lane: Lane, access: Access, size: u32, min: u32) -> Self {
        /// More places than this would only make looking through them longer.
        const MOST: usize = 64;

        let threads = available_parallelism().map_or(1, usize::from);
        let permits = Semaphore::new(size as usize);
        let ages = [settings.idle_timeout, settings.max_lifetime];
        Self {
            lane,
            access,
            size,
            min,
            permits,
            arrivals: AtomicU64::new(0),
            warm: Warm::new(threads.min(size as usize).clamp(1, MOST)),
            refused: Refused::new(),
            parked: Lock::default(),
            slots: OnceLock::new(),
            ages,
        }
    }

    /// Notes a call that will wait for a permit.
    pub(super) fn arrive(&self) {
        self.arrivals.fetch_add(1, Relaxed);
    }

    /// How many calls have had to wait so far; who waits now came after all of them.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals.load(Relaxed)
    }

    /// Held while waiting for a permit, by whoever drops it after the future that waits. `closed` is told when that ends
    /// in a closed pool.
    pub(super) fn queued<'a>(&'a self, closed: &'a Notify) -> Queued<'a, C> {
        self.warm.want();
        Queued { shelf: self, closed }
    }

    fn slots(&self) -> &bb8::Pool<Slots<C>> {
        /// bb8 looks for expired connections this often, at most and at least.
        const RATES: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(30)];

        self.slots.get_or_init(|| {
            let [idle, lifetime] = self.ages;
            let shortest = self.ages.into_iter().flatten().min().unwrap_or(RATES[1]);
            bb8::Pool::builder()
                .max_size(self.size)
                .min_idle(None)
                .idle_timeout(idle)
                .max_lifetime(lifetime)
                .reaper_rate((shortest / 2).clamp(RATES[0], RATES[1]))
                .retry_connection(false)
                .test_on_check_out(false)
                .queue_strategy(bb8::QueueStrategy::Lifo)
                .build_unchecked(Slots(PhantomData))
        })
    }

    /// Checks a slot out; the caller has a permit, so there is one.
    ///
    /// Cancel safe: bb8 keeps the slot until this returns.
    pub(super) async fn take(&self) -> Result<SlotGuard<C>> {
        let parked = self.parked().pop();
        match parked {
            Some(slot) => Ok(slot),
            // Boxed: this is rare, and every checkout would carry the size of bb8's future.
            None => Box::pin(self.take_from_bb8()).await,
        }
    }

    async fn take_from_bb8(&self) -> Result<SlotGuard<C>> {
        clock::check()?;
        let slots = self.slots();
        if slots.state().idle_connections == 0 {
            // bb8 would make the slot in a background task, whose end with its runtime it does not survive.
            drop(slots.add(Slot::new(None)));
        }
        let lost = |_| Error::new(ErrorKind::PoolExhausted, "the pool has lost a slot").during(Phase::Acquire);
        slots.get_owned().await.map_err(lost)
    }

    /// Whether [`take`](Self::take) would find a slot.
    pub(super) fn has_idle(&self) -> bool {
        !self.parked().is_empty() || self.slots.get().is_some_and(|slots| slots.state().idle_connections > 0)
    }

    fn parked(&self) -> Guard<'_, Vec<SlotGuard<C>>> {
        self.parked.lock()
    }

    /// Where a slot goes whose connection can be lent again as it is. Where connections do not age, bb8 has nothing to do
    /// with it: the slot stays checked out of bb8, which costs a tenth of going through its queue.
    pub(super) fn place(&self) -> Option<Arc<Place<Kept<C>>>> {
        (self.ages == [None; 2]).then(|| self.warm.own())
    }

    /// Puts a slot back that nobody keeps warm; its permit comes after it.
    pub(super) fn put_back(&self, slot: SlotGuard<C>) {
        if self.ages == [None; 2] {
            self.parked().push(slot);
        }
    }

    /// Gives all permits back to the queue, from now on as they come.
    pub(super) fn cool(&self) {
        self.warm.want();
        while let Some(((slot, _permit), _)) = self.warm.take() {
            self.parked().push(slot);
        }
    }

    /// Checks out a slot that waits to be lent, if there is one.
    pub(super) async fn take_idle(&self) -> Option<SlotGuard<C>> {
        if let Some(slot) = self.parked().pop() {
            return Some(slot);
        }
        let slots = self.slots.get().filter(|slots| slots.state().idle_connections > 0)?;
        slots.get_owned().await.ok()
    }

    /// Puts a connection on the shelf; gives it back if the shelf is full.
    pub(super) fn put(&self, opened: Box<Opened<C>>) -> Option<Box<Opened<C>>> {
        match self.slots().add(Slot::new(Some(opened))) {
            Ok(()) => None,
            Err(bb8::AddError::Broken(mut slot) | bb8::AddError::NoCapacity(mut slot)) => slot.empty(),
        }
    }
}

/// A call that waits for a permit.
pub(super) struct Queued<'a, C: Connector> {
    shelf: &'a Shelf<C>,
    closed: &'a Notify,
}

impl<C: Connector> Drop for Queued<'_, C> {
    fn drop(&mut self) {
        self.shelf.warm.want_no_more();
        // A permit may have been on its way to this call when the semaphore was closed. tokio then puts it back without
        // a word, and whoever closes the pool waits for it.
        if self.shelf.permits.is_closed() {
            self.closed.notify_waiters();
        }
    }
}
