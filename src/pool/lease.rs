//! A slot and the permit for it, and the way back of both.
//!
//! A lease may be dropped at any moment and in any state: with or without a connection, lent or not, in a runtime or
//! not, by a panic or a cancelled future. Whatever can go straight back does; the rest is put in order by a task that
//! keeps slot and permit until it is done, so that there are never more connections than permits.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::guarded::guarded;
use super::inner::CLOSE_LIMIT;
use super::permit::Permit;
use super::shelf::{Kept, Shelf, SlotGuard};
use super::slot::Opened;
use super::warm::Place;
use crate::connector::{Connector, Resource as _, ResourceState};
use crate::error::Result;

/// How long a connection may take to be reset: a rollback is short, and a caller may be waiting.
const RESET_LIMIT: Duration = Duration::from_secs(5);

pub(super) struct Lease<C: Connector> {
    // Before the permit: whoever gets the permit finds the slot.
    slot: Option<SlotGuard<C>>,
    permit: Option<Permit<C>>,
    /// Where both were kept warm.
    place: Option<Arc<Place<Kept<C>>>>,
    /// The connection may be neither lent nor kept: it is new and unproven, or failed its check.
    unfit: bool,
    lent: bool,
    /// A task has tried to put it in order.
    tidied: bool,
}

impl<C: Connector> Lease<C> {
    /// Checks a slot out for `permit`.
    ///
    /// # Errors
    /// When bb8 has none, which the permit rules out.
    pub(super) async fn new(permit: Permit<C>) -> Result<Self> {
        let mut lease =
            Self { slot: None, permit: Some(permit), place: None, unfit: false, lent: false, tidied: false };
        lease.next_slot().await?;
        Ok(lease)
    }

    /// A slot that was kept warm with its permit, if there is one.
    pub(super) fn warm(shelf: &Shelf<C>) -> Option<Self> {
        let (kept, place) = shelf.warm.take()?;
        let mut lease = Self::of(kept);
        lease.place = Some(place);
        Some(lease)
    }

    /// A slot that was kept, or handed over, with its permit.
    pub(super) fn of((slot, permit): Kept<C>) -> Self {
        Self { slot: Some(slot), permit: Some(permit), place: None, unfit: false, lent: false, tidied: false }
    }

    /// Exchanges the slot for the next one; what was in it must be gone.
    pub(super) async fn next_slot(&mut self) -> Result<()> {
        self.slot = None;
        let permit = self.permit();
        let slot = permit.inner().shelf_of(permit.lane()).take().await?;
        self.slot = Some(slot);
        Ok(())
    }

    pub(super) fn permit(&self) -> &Permit<C> {
        self.permit.as_ref().expect("only dropping a lease takes its permit")
    }

    pub(super) fn opened(&self) -> Option<&Opened<C>> {
        self.slot.as_ref()?.opened()
    }

    pub(super) fn opened_mut(&mut self) -> Option<&mut Opened<C>> {
        self.slot.as_mut()?.opened_mut()
    }

    /// Puts a new connection into the slot, unfit until [`approve`](Self::approve).
    pub(super) fn fill(&mut self, opened: Opened<C>) {
        self.unfit = true;
        if let Some(slot) = &mut self.slot {
            slot.fill(opened);
        }
    }

    /// Takes the connection into service.
    pub(super) fn approve(&mut self) {
        self.unfit = false;
        if let Some(opened) = self.opened() {
            opened.entry.serve();
        }
    }

    /// Notes who has the connection from `since` on.
    pub(super) fn lend(&mut self, location: &'static Location<'static>, since: Instant, waited: bool) {
        if let Some(opened) = self.opened() {
            opened.entry.lend(location, since, waited);
            self.lent = true;
        }
    }

    /// Has the loan watched for its age, where the pool does that.
    pub(super) fn watch(&self) {
        let inner = self.permit().inner();
        if let (Some(age), Some(opened)) = (inner.settings.max_loan_age, self.opened())
            && opened.entry.watch()
        {
            inner.look_after_loans(age);
        }
    }

    /// Closes the connection, if there is one, in at most `limit`.
    pub(super) async fn discard(&mut self, limit: Duration) {
        if let Some(opened) = self.slot.as_mut().and_then(|slot| slot.empty()) {
            opened.close(limit).await.ok();
        }
    }

    /// Tries to make the connection fit to be lent again.
    async fn reset(&mut self) -> bool {
        let unfit = self.unfit;
        let Some(opened) = self.opened_mut().filter(|opened| !unfit && !opened.is_expired()) else { return false };
        if opened.state() != ResourceState::Broken {
            let end = Instant::now() + RESET_LIMIT;
            let outcome = guarded("connection's reset", end, async { opened.resource.reset().await }).await;
            match (outcome, opened.state()) {
                (Ok(()), ResourceState::Idle) => return true,
                // It works as its borrower left it, which is no error, but nobody else wants it so.
                (Ok(()), ResourceState::Altered) => return false,
                (outcome, _) => tracing::debug!(error = ?outcome.err(), "a connection could not be reset"),
            }
        }
        opened.entry.count_error();
        false
    }

    /// Makes the connection fit, or closes it and opens another if the pool should keep that many.
    async fn tidy(mut self) {
        if self.reset().await {
            return;
        }
        self.discard(CLOSE_LIMIT).await;
        let permit = self.permit();
        let (inner, lane) = (Arc::clone(permit.inner()), permit.lane());
        drop(self);
        inner.refill(lane).await;
    }
}

impl<C: Connector> Drop for Lease<C> {
    fn drop(&mut self) {
        let Some(slot) = &mut self.slot else { return };
        let Some(opened) = slot.opened_mut() else {
            slot.empty();
            return;
        };
        if !self.unfit && !opened.is_expired() && opened.state() == ResourceState::Idle {
            if self.lent {
                opened.idle_since = Instant::now();
                opened.entry.give_back();
            }
            if let (Some(slot), Some(permit)) = (self.slot.take(), self.permit.take()) {
                give_back(slot, permit, self.place.take());
            }
            return;
        }
        if self.tidied {
            // Its runtime ended before the task did, and nobody waits who would go on with it.
            slot.empty();
            return;
        }
        let (slot, permit) = (self.slot.take(), self.permit.take());
        let rest = Self { slot, permit, place: None, unfit: self.unfit, lent: self.lent, tidied: true };
        let inner = Arc::clone(rest.permit().inner());
        inner.background(rest.tidy());
    }
}

/// Puts a slot back with its permit: into `place` or the one of this thread, or, if somebody waits, where he finds it.
pub(super) fn give_back<C: Connector>(slot: SlotGuard<C>, permit: Permit<C>, place: Option<Arc<Place<Kept<C>>>>) {
    let inner = Arc::clone(permit.inner());
    let shelf = inner.shelf_of(permit.lane());
    let place = place.or_else(|| shelf.place());
    let kept = match place {
        Some(place) => place.keep((slot, permit)),
        None => Err((slot, permit)),
    };
    // The permit goes last, into its queue.
    if let Err((slot, _permit)) = kept.or_else(|kept| shelf.refused.hand(kept)) {
        shelf.put_back(slot);
    }
}
