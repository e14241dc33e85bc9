//! What came back last, kept with its permit in the place of the thread that used it.
//!
//! Between two loans on one thread nothing is touched that other threads touch too. That holds as long as nobody waits:
//! who wants a permit says so first and then looks here, and what comes back after that is not kept.

use super::sync::{Arc, AtomicUsize, Mutex, MutexGuard, PoisonError, SeqCst, thread_number};

/// The places of one shelf.
pub(super) struct Warm<T> {
    places: Box<[Arc<Place<T>>]>,
    /// How many want every permit back in the queue.
    wanted: Arc<AtomicUsize>,
}

/// Alone in its cache lines.
#[repr(align(128))]
pub(super) struct Place<T> {
    kept: Mutex<Vec<T>>,
    wanted: Arc<AtomicUsize>,
}

impl<T> Warm<T> {
    pub(super) fn new(places: usize) -> Self {
        let wanted = Arc::new(AtomicUsize::new(0));
        let place = || Arc::new(Place { kept: Mutex::new(Vec::new()), wanted: Arc::clone(&wanted) });
        Self { places: (0..places).map(|_| place()).collect(), wanted: Arc::clone(&wanted) }
    }

    /// Takes what this thread used last, or else what another one did; says where it was.
    pub(super) fn take(&self) -> Option<(T, Arc<Place<T>>)> {
        let (before, after) = self.places.split_at(self.number());
        after.iter().chain(before).find_map(|place| {
            let kept = place.lock().pop()?;
            Some((kept, Arc::clone(place)))
        })
    }

    /// The place of this thread.
    pub(super) fn own(&self) -> Arc<Place<T>> {
        Arc::clone(&self.places[self.number()])
    }

    /// Nothing is kept from now on, until as many calls of [`want_no_more`](Self::want_no_more).
    pub(super) fn want(&self) {
        self.wanted.fetch_add(1, SeqCst);
    }

    pub(super) fn want_no_more(&self) {
        self.wanted.fetch_sub(1, SeqCst);
    }

    fn number(&self) -> usize {
        thread_number() % self.places.len()
    }
}

impl<T> Place<T> {
    /// Keeps it, unless somebody wants it.
    pub(super) fn keep(&self, it: T) -> Result<(), T> {
        let mut kept = self.lock();
        // Asked under the lock: who wants it has said so before he looked here, or will look here after this.
        if self.wanted.load(SeqCst) > 0 {
            return Err(it);
        }
        kept.push(it);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
