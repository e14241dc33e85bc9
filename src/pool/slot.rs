//! What bb8 keeps: a place for a connection, filled by whoever checks it out.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Weak;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::guarded::{caught, guarded};
use super::inner::{CLOSE_LIMIT, Inner};
use super::registry::{Lane, Registered};
use crate::connector::{Connector, Resource as _, ResourceState};
use crate::error::Result;

/// A place for one connection.
pub(super) struct Slot<C: Connector> {
    /// Boxed: a slot is moved several times on its way through bb8.
    opened: Option<Box<Opened<C>>>,
    /// Not to be used again: an empty slot in front of the queue would hide the filled ones behind it.
    spent: bool,
}

/// A connection and what the pool knows about it.
pub(super) struct Opened<C: Connector> {
    // Before its entry: what is registered must be open.
    pub(super) resource: C::Connection,
    pub(super) entry: Registered,
    pub(super) lane: Lane,
    /// When it came back, or was opened.
    pub(super) idle_since: Instant,
    /// When its lifetime ends. bb8 forgets the age of a slot that is put back after the reaper took it.
    pub(super) expires: Option<Instant>,
    pub(super) home: Weak<Inner<C>>,
    pub(super) runtime: Handle,
}

impl<C: Connector> Opened<C> {
    /// The state as the connection knows it; a connection that panics over it is broken.
    pub(super) fn state(&self) -> ResourceState {
        caught(|| self.resource.state()).unwrap_or(ResourceState::Broken)
    }

    pub(super) fn is_expired(&self) -> bool {
        self.expires.is_some_and(|end| Instant::now() >= end)
    }

    /// Takes it out of service and says goodbye, for at most `limit`. The entry is kept until that is done.
    pub(super) async fn close(self: Box<Self>, limit: Duration) -> Result<()> {
        let Self { resource, entry, home, .. } = *self;
        entry.retire(0);
        let outcome = guarded("connection's close", Instant::now() + limit, async { resource.close().await }).await;
        if let Some(home) = home.upgrade() {
            // While the entry is there, the pool waits for this.
            home.closed_one(&outcome);
        }
        drop(entry);
        if let Err(error) = &outcome {
            tracing::debug!(%error, "a connection did not close cleanly");
        }
        outcome
    }

    /// What becomes of a connection that bb8 dropped: back on the shelf if the pool keeps that many, or goodbye.
    async fn retire(self: Box<Self>) {
        let (home, lane) = (self.home.upgrade(), self.lane);
        let refused = match &home {
            Some(home) if !home.is_closed() && !self.is_expired() && !self.entry.retire(home.shelf_of(lane).min) => {
                home.shelf_of(lane).put(self)
            }
            _ => Some(self),
        };
        if let Some(opened) = refused {
            opened.close(CLOSE_LIMIT).await.ok();
        }
        if let Some(home) = home {
            home.refill(lane).await;
        }
    }
}

impl<C: Connector> Slot<C> {
    pub(super) const fn new(opened: Option<Box<Opened<C>>>) -> Self {
        Self { opened, spent: false }
    }

    pub(super) fn opened(&self) -> Option<&Opened<C>> {
        self.opened.as_deref()
    }

    pub(super) fn opened_mut(&mut self) -> Option<&mut Opened<C>> {
        self.opened.as_deref_mut()
    }

    pub(super) fn fill(&mut self, opened: Opened<C>) {
        *self = Self::new(Some(Box::new(opened)));
    }

    /// Takes what is in it, if anything, and marks it spent.
    pub(super) fn empty(&mut self) -> Option<Box<Opened<C>>> {
        self.spent = true;
        self.opened.take()
    }
}

impl<C: Connector> Drop for Slot<C> {
    fn drop(&mut self) {
        // The reaper drops slots while it holds bb8's mutex, so nothing may be done about the connection here.
        if let Some(opened) = self.opened.take() {
            match opened.home.upgrade() {
                Some(home) => home.background(opened.retire()),
                None => drop(opened.runtime.clone().spawn(opened.retire())),
            }
        }
    }
}

/// bb8's way of making and judging slots; both are trivial, by design.
pub(super) struct Slots<C>(pub(super) PhantomData<fn() -> C>);

impl<C: Connector> bb8::ManageConnection for Slots<C> {
    type Connection = Slot<C>;
    type Error = Infallible;

    async fn connect(&self) -> Result<Slot<C>, Infallible> {
        Ok(Slot::new(None))
    }

    async fn is_valid(&self, _: &mut Slot<C>) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, slot: &mut Slot<C>) -> bool {
        slot.spent
    }
}
