//! The one way to a connection: permit, slot, connection, loan.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::guarded::guarded;
use super::inner::{Inner, goodbye_limit};
use super::lease::Lease;
use super::permit::Permit;
use super::shelf::Shelf;
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
        let mut now = Instant::now();
        let deadline = now + self.settings.acquire_timeout;
        let shelf = self.shelf(access);
        let (permit, waited) = match self.try_permit(shelf)? {
            Some(permit) => (permit, false),
            None => (self.queue(shelf, deadline, location).await?, true),
        };
        let mut lease = Lease::new(permit).await?;
        if waited || lease.opened().is_none() {
            now = Instant::now();
        }
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
        let name = &*self.settings.name;
        let began = Instant::now();
        let waiter = self.registry.wait(shelf.lane).map_err(|exhaustion| exhaustion.deadlock(name))?;
        match timeout_at(deadline, shelf.permits.acquire()).await {
            Ok(Ok(permit)) => {
                permit.forget();
                let permit = Permit::new(self, shelf.lane);
                drop(waiter);
                let waited = began.elapsed();
                if waited > SLOW {
                    tracing::warn!(pool = name, %location, ?waited, "waited long for a connection");
                }
                Ok(permit)
            }
            Ok(Err(_closed)) => Err(self.closed_error()),
            Err(_elapsed) => {
                self.registry.count_timeout();
                Err(self.registry.exhaustion(shelf.lane).timed_out(name, self.settings.acquire_timeout))
            }
        }
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
