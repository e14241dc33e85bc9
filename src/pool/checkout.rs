//! The one way to a connection: permit, slot, connection, loan.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::guarded::{caught, guarded};
use super::inner::{Inner, goodbye_limit};
use super::lease::Lease;
use super::permit::Permit;
use super::shelf::Shelf;
use super::waiting::Waiting;
use crate::clock::{self};
use crate::connector::{Access, Connector, ResourceState};
use crate::error::{ErrorKind, Result};

/// How long a health check may take; at most half of what is left to the caller, so that there is time to connect anew.
const HEALTH_LIMIT: Duration = Duration::from_secs(5);

/// Waiting for longer than this is said in the log.
const SLOW: Duration = Duration::from_secs(2);

impl<C: Connector> Inner<C> {
    /// Cancel safe at every await: what has been taken so far is held by guards.
    pub(super) async fn checkout(
        self: &Arc<Self>,
        access: Access,
        location: &'static Location<'static>,
    ) -> Result<Lease<C>> {
        in_runtime()?;
        let now = Instant::now();
        let deadline = now + self.settings.acquire_timeout;
        let shelf = self.shelf(access);
        if let Some(lease) = self.free_lease(shelf).await? {
            return self.lend(lease, now, deadline, location, false).await;
        }
        // Boxed, like all that is rare, so that every call does not carry its state.
        let lease = Box::pin(self.queue(shelf, deadline)).await?;
        let came = Instant::now();
        let waited = came - now;
        if waited > SLOW {
            tracing::warn!(pool = %self.settings.name, %location, ?waited, "waited long for a connection");
        }
        self.lend(lease, came, deadline, location, true).await
    }

    /// The same, but without waiting for anybody: `None` if all are in use.
    pub(super) async fn checkout_if_free(
        self: &Arc<Self>,
        access: Access,
        location: &'static Location<'static>,
    ) -> Result<Option<Lease<C>>> {
        in_runtime()?;
        let Some(lease) = self.free_lease(self.shelf(access)).await? else { return Ok(None) };
        let now = Instant::now();
        self.lend(lease, now, now + self.settings.acquire_timeout, location, false).await.map(Some)
    }

    /// The same on behalf of callers who wait for its result, each with a limit of his own: waits as long as it takes,
    /// and is not counted as a caller.
    pub(super) async fn checkout_for_others(
        self: &Arc<Self>,
        access: Access,
        location: &'static Location<'static>,
    ) -> Result<Lease<C>> {
        let shelf = self.shelf(access);
        let lease = match self.free_lease(shelf).await? {
            Some(lease) => lease,
            None => self.queued_lease(shelf, None).await?,
        };
        let now = Instant::now();
        self.lend(lease, now, now + self.settings.acquire_timeout, location, true).await
    }

    /// A slot that is free, if there is one. Nobody who waits is overtaken: nothing is kept warm while somebody waits.
    async fn free_lease(self: &Arc<Self>, shelf: &Shelf<C>) -> Result<Option<Lease<C>>> {
        if let Some(lease) = Lease::warm(shelf) {
            return Ok(Some(lease));
        }
        match self.try_permit(shelf)? {
            Some(permit) => Box::pin(Lease::new(permit)).await.map(Some),
            None => Ok(None),
        }
    }

    /// Lends the connection of a slot, if it is there and healthy, or another one, or a new one.
    async fn lend(
        self: &Arc<Self>,
        mut lease: Lease<C>,
        now: Instant,
        deadline: Instant,
        location: &'static Location<'static>,
        waited: bool,
    ) -> Result<Lease<C>> {
        if self.is_ready(&lease, now) {
            lease.lend(location, now, waited);
            return Ok(lease);
        }
        Box::pin(async move {
            let mut now = now;
            loop {
                while lease.opened().is_some() {
                    if self.check(&mut lease, now, deadline).await? {
                        lease.lend(location, now, waited);
                        return Ok(lease);
                    }
                    now = Instant::now();
                }
                let is_new = self.open(&mut lease, deadline).await?;
                now = Instant::now();
                if is_new || self.is_ready(&lease, now) {
                    lease.lend(location, now, waited || !is_new);
                    return Ok(lease);
                }
            }
        })
        .await
    }

    /// Whether a slot holds a connection that needs no check.
    fn is_ready(&self, lease: &Lease<C>, now: Instant) -> bool {
        lease.opened().is_some_and(|opened| {
            let idle = now.saturating_duration_since(opened.idle_since);
            opened.state() != ResourceState::Broken && caught(|| self.settings.health.is_due(idle)) == Some(false)
        })
    }

    /// Waits for a permit until `deadline`.
    async fn queue(self: &Arc<Self>, shelf: &Shelf<C>, deadline: Instant) -> Result<Lease<C>> {
        let waiting = Waiting::begin(self, shelf.lane, deadline)?;
        shelf.arrive();
        self.queued_lease(shelf, Some(waiting)).await
    }

    /// Waits for a permit as long as `waiting` says, or as it takes.
    async fn queued_lease(self: &Arc<Self>, shelf: &Shelf<C>, waiting: Option<Waiting<'_, C>>) -> Result<Lease<C>> {
        // Dropped after the future that waits, whichever way that ends.
        let _queued = shelf.queued(&self.closed);
        // Looked for again, now that nothing more is kept there.
        if let Some(lease) = Lease::warm(shelf) {
            return Ok(lease);
        }
        let permit = shelf.permits.acquire();
        let permit = match waiting {
            Some(waiting) => waiting.until(permit).await?,
            None => permit.await,
        };
        permit.map_err(|_closed| self.closed_error())?.forget();
        Lease::new(Permit::new(self, shelf.lane)).await
    }

    /// Asks the health check about an idle connection; if it must not be lent, closes it and takes the next slot.
    async fn check(self: &Arc<Self>, lease: &mut Lease<C>, now: Instant, deadline: Instant) -> Result<bool> {
        let Some(opened) = lease.opened_mut() else { return Ok(false) };
        let idle = now.saturating_duration_since(opened.idle_since);
        if opened.state() == ResourceState::Broken {
            // It knows by itself: no question to the other side, and no window in which it is not asked.
            self.registry.count_error();
            self.pass_over(lease, deadline).await?;
            return Ok(false);
        }
        let limit = HEALTH_LIMIT.min(deadline.saturating_duration_since(now) / 2);
        let check = async { self.settings.health.check(&mut opened.resource, idle).await };
        let Err(error) = guarded("health check", now + limit, check).await else { return Ok(true) };
        tracing::debug!(pool = %self.settings.name, %error, "an idle connection failed its health check");
        self.registry.count_error();
        self.pass_over(lease, deadline).await?;
        Ok(false)
    }

    /// Closes the connection of a slot and goes on to the next one that is free, or to an empty one.
    async fn pass_over(self: &Arc<Self>, lease: &mut Lease<C>, deadline: Instant) -> Result<()> {
        lease.discard(goodbye_limit(deadline)).await;
        match Lease::warm(self.shelf_of(lease.permit().lane())) {
            Some(other) => *lease = other,
            None => lease.next_slot().await?,
        }
        Ok(())
    }

    /// Opens a connection for a caller who has until `deadline`, or finds another one for it. True: it is new.
    async fn open(self: &Arc<Self>, lease: &mut Lease<C>, deadline: Instant) -> Result<bool> {
        let outcome = self.fill(lease, deadline, true).await;
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout) && Instant::now() >= deadline {
            self.registry.count_timeout();
        }
        outcome
    }
}

/// Refuses a call from outside of any runtime, also where it would need none: whether it does depends on what others do.
fn in_runtime() -> Result<()> {
    match tokio::task::try_id() {
        Some(_task) => Ok(()),
        None => clock::present().map(drop),
    }
}
