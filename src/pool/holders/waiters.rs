//! The calls that wait, and the loans that cannot end while they do.

use std::sync::Arc;

use super::explain::Exhaustion;
use super::loans::{self, HeldLoan, LaneId, Ledger};
use super::registry::{Registry, RegistryState};
use crate::lock::foreign;

/// A call that waits.
pub(in crate::pool) struct Waiter<'a> {
    registry: &'a Registry,
    lane: LaneId,
    held: Option<Arc<HeldLoan>>,
}

impl Registry {
    /// Enters a call that has to wait, unless waiting could never end: then says why.
    pub(in crate::pool) fn wait(&self, lane: LaneId) -> Result<Waiter<'_>, Exhaustion> {
        let held = loans::current().filter(|held| loans::of_pool(Some(held), self.pool).next().is_some());
        let waiter = Waiter { registry: self, lane, held };
        let mut state = self.lock();
        state.stats.waiting += 1;
        state.chained += u32::from(waiter.held.is_some());
        waiter.change(&state, |waits| *waits += 1);
        // While no holder waits for anything, nothing has to be worked out.
        if state.chained == 0 || state.can_end(lane, self.sizes) {
            drop(state);
            if waiter.held.is_some() {
                // What this call holds may not come back any more.
                foreign();
                self.gone.notify_waiters();
            }
            return Ok(waiter);
        }
        state.stats.total_deadlocks += 1;
        let exhaustion = state.exhaustion(lane, self.sizes);
        drop(state);
        Err(exhaustion)
    }

    /// Whether this very task holds a connection.
    fn holds_one(&self) -> bool {
        let task = tokio::task::try_id();
        let is_here = |entry: &Arc<Ledger>| entry.lock().holder.as_ref().is_some_and(|holder| holder.task == task);
        task.is_some() && self.lock().entries.iter().flatten().any(is_here)
    }

    /// Whether the code that runs now is inside of a loan, which ends after it.
    pub(in crate::pool) fn is_inside(&self) -> bool {
        loans::of_pool(loans::current().as_ref(), self.pool).next().is_some()
    }
}

impl Waiter<'_> {
    /// Whether the caller has a connection, so that a call that waits for this connection must not keep it waiting.
    pub(in crate::pool) fn presses(&self) -> bool {
        self.held.is_some() || self.registry.holds_one()
    }

    fn change(&self, state: &RegistryState, change: impl Fn(&mut u32)) {
        for token in loans::of_pool(self.held.as_ref(), self.registry.pool) {
            let Some(Some(entry)) = state.entries.get(token.key) else { continue };
            if let Some(holder) = entry.lock().holder.as_mut().filter(|holder| holder.serial == token.serial) {
                change(&mut holder.waits[self.lane]);
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        state.stats.waiting -= 1;
        state.chained -= u32::from(self.held.is_some());
        self.change(&state, |waits| *waits -= 1);
    }
}
