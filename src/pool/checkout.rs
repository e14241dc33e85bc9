//! The one way to a connection: permit, slot, connection, loan.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::guarded::guarded;
use super::inner::{Inner, goodbye_limit};
use super::lease::Lease;
use super::permit::Permit;
use super::shelf::Shelf;
use super::waiting::Waiting;
use crate::{Access, Connector, ErrorKind, ResourceState, Result};

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
        let now = Instant::now();
        let deadline = now + self.settings.acquire_timeout;
        let shelf = self.shelf(access);
        let (permit, now, waited) = match self.try_permit(shelf)? {
            Some(permit) => (permit, now, false),
            None => (self.queue(shelf, deadline, location).await?, Instant::now(), true),
        };
        self.lend(permit, now, deadline, location, waited).await
    }

    /// The same, but without waiting for anybody: `None` if all are in use.
    pub(super) async fn checkout_if_free(
        self: &Arc<Self>,
        access: Access,
        location: &'static Location<'static>,
    ) -> Result<Option<Lease<C>>> {
        let Some(permit) = self.try_permit(self.shelf(access))? else { return Ok(None) };
        let now = Instant::now();
        self.lend(permit, now, now + self.settings.acquire_timeout, location, false).await.map(Some)
    }

    /// The same on behalf of callers who wait for its result, each with a limit of his own: waits as long as it takes,
    /// and is not counted as a caller.
    pub(super) async fn checkout_for_others(
        self: &Arc<Self>,
        access: Access,
        location: &'static Location<'static>,
    ) -> Result<Lease<C>> {
        let shelf = self.shelf(access);
        let permit = if let Some(permit) = self.try_permit(shelf)? {
            permit
        } else {
            let _queued = shelf.queued(&self.closed);
            let permit = shelf.permits.acquire().await.map_err(|_closed| self.closed_error())?;
            permit.forget();
            Permit::new(self, shelf.lane)
        };
        let now = Instant::now();
        self.lend(permit, now, now + self.settings.acquire_timeout, location, true).await
    }

    /// Takes a connection for a permit: an idle one that is healthy, or a new one.
    async fn lend(
        self: &Arc<Self>,
        permit: Permit<C>,
        mut now: Instant,
        deadline: Instant,
        location: &'static Location<'static>,
        waited: bool,
    ) -> Result<Lease<C>> {
        let mut lease = Lease::new(permit).await?;
        while lease.opened().is_some() {
            if self.check(&mut lease, now, deadline).await? {
                lease.lend(location, now, waited);
                return Ok(lease);
            }
            now = Instant::now();
        }
        self.open(&mut lease, deadline).await?;
        lease.lend(location, Instant::now(), waited);
        Ok(lease)
    }

    /// Waits for a permit.
    async fn queue(
        self: &Arc<Self>,
        shelf: &Shelf<C>,
        deadline: Instant,
        location: &'static Location<'static>,
    ) -> Result<Permit<C>> {
        let began = Instant::now();
        let waiting = Waiting::begin(self, shelf.lane, deadline)?;
        shelf.arrive();
        // Dropped after the future that waits, whichever way that ends.
        let _queued = shelf.queued(&self.closed);
        let permit = waiting.until(shelf.permits.acquire()).await?.map_err(|_closed| self.closed_error())?;
        permit.forget();
        let permit = Permit::new(self, shelf.lane);
        let waited = began.elapsed();
        if waited > SLOW {
            tracing::warn!(pool = %self.settings.name, %location, ?waited, "waited long for a connection");
        }
        Ok(permit)
    }

    /// Asks the health check about an idle connection; if it must not be lent, closes it and takes the next slot.
    async fn check(self: &Arc<Self>, lease: &mut Lease<C>, now: Instant, deadline: Instant) -> Result<bool> {
        let Some(opened) = lease.opened_mut() else { return Ok(false) };
        let idle = now.saturating_duration_since(opened.idle_since);
        if opened.state() == ResourceState::Broken {
            // It knows by itself: no question to the other side, and no window in which it is not asked.
            self.registry.count_error();
            lease.discard(goodbye_limit(deadline)).await;
            lease.next_slot().await?;
            return Ok(false);
        }
        let limit = HEALTH_LIMIT.min(deadline.saturating_duration_since(now) / 2);
        let check = async { self.settings.health.check(&mut opened.resource, idle).await };
        let Err(error) = guarded("health check", now + limit, check).await else { return Ok(true) };
        tracing::debug!(pool = %self.settings.name, %error, "an idle connection failed its health check");
        self.registry.count_error();
        lease.discard(goodbye_limit(deadline)).await;
        lease.next_slot().await?;
        Ok(false)
    }

    /// Opens a connection for a caller who has until `deadline`.
    async fn open(self: &Arc<Self>, lease: &mut Lease<C>, deadline: Instant) -> Result<()> {
        let outcome = self.fill(lease, deadline).await;
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout) && Instant::now() >= deadline {
            self.registry.count_timeout();
        }
        outcome
    }
}
