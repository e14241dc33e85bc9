//! Slots that keep their permits, each in the place of the thread that used it last.
//!
//! Between two loans on one thread nothing is touched that other threads touch too. That holds as long as nobody waits:
//! who wants a permit says so first and then looks here, and what comes back after that is not kept.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;

use super::permit::Permit;
use super::shelf::SlotGuard;
use crate::Connector;

/// A slot and its permit.
type Kept<C> = (SlotGuard<C>, Permit<C>);

/// The places of one shelf.
pub(super) struct Warm<C: Connector> {
    places: Box<[Arc<Place<C>>]>,
    /// How many want every permit back in the queue.
    wanted: Arc<AtomicUsize>,
}

/// Alone in its cache lines.
#[repr(align(128))]
pub(super) struct Place<C: Connector> {
    slots: Mutex<Vec<Kept<C>>>,
    wanted: Arc<AtomicUsize>,
}

impl<C: Connector> Warm<C> {
    pub(super) fn new(size: u32) -> Self {
        /// More places than this would only make looking through them longer.
        const MOST: usize = 64;

        let threads = available_parallelism().map_or(1, usize::from);
        let places = threads.min(size as usize).clamp(1, MOST);
        let wanted = Arc::new(AtomicUsize::new(0));
        let place = || Arc::new(Place { slots: Mutex::default(), wanted: Arc::clone(&wanted) });
        Self { places: (0..places).map(|_| place()).collect(), wanted: Arc::clone(&wanted) }
    }

    /// Takes what this thread used last, or else what another one did; says where it was.
    pub(super) fn take(&self) -> Option<(Kept<C>, Arc<Place<C>>)> {
        let (before, after) = self.places.split_at(self.number());
        after.iter().chain(before).find_map(|place| {
            let kept = place.lock().pop()?;
            Some((kept, Arc::clone(place)))
        })
    }

    /// The place of this thread.
    pub(super) fn own(&self) -> Arc<Place<C>> {
        Arc::clone(&self.places[self.number()])
    }

    pub(super) fn want(&self) {
        self.wanted.fetch_add(1, SeqCst);
    }

    pub(super) fn want_no_more(&self) {
        self.wanted.fetch_sub(1, SeqCst);
    }

    fn number(&self) -> usize {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = THREADS.fetch_add(1, SeqCst);
        }
        NUMBER.try_with(|number| number % self.places.len()).unwrap_or(0)
    }
}

impl<C: Connector> Place<C> {
    /// Keeps a slot with its permit, unless somebody wants it.
    pub(super) fn keep(&self, slot: SlotGuard<C>, permit: Permit<C>) -> Result<(), Kept<C>> {
        let mut slots = self.lock();
        // Asked under the lock: who wants it has said so before he looked here, or will look here after this.
        if self.wanted.load(SeqCst) > 0 {
            return Err((slot, permit));
        }
        slots.push((slot, permit));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept<C>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
