//! The right to one slot of a shelf, given back when dropped.

use std::sync::Arc;

use super::inner::Inner;
use super::registry::Lane;
use crate::connector::Connector;
use crate::lock::foreign;

pub(super) struct Permit<C: Connector> {
    inner: Arc<Inner<C>>,
    lane: Lane,
}

impl<C: Connector> Permit<C> {
    /// Makes a guard of a permit that was taken from the semaphore of `lane` and forgotten.
    pub(super) fn new(inner: &Arc<Inner<C>>, lane: Lane) -> Self {
        Self { inner: Arc::clone(inner), lane }
    }

    pub(super) fn inner(&self) -> &Arc<Inner<C>> {
        &self.inner
    }

    pub(super) fn lane(&self) -> Lane {
        self.lane
    }
}

impl<C: Connector> Drop for Permit<C> {
    fn drop(&mut self) {
        let shelf = self.inner.shelf_of(self.lane);
        let permits = &shelf.permits;
        foreign();
        permits.add_permits(1);
        // A caller looks for permits after it has entered itself; this looks for callers after it gave one back.
        shelf.refused.tell();
        // Both the line above and `close` lock the semaphore, so either the one who closes finds the slot that came
        // back before this permit, or this sees that the pool is closed.
        if permits.is_closed() {
            Inner::came_back_late(&self.inner);
        }
    }
}
