//! Opening connections: attempts, pauses, the hook.
//!
//! The order of limits is fixed: the acquire deadline around the retries, around each attempt's own limit. An error
//! reaches the caller at once, unless it may pass and another connection may come back; a retry that would begin after
//! the deadline is not waited for.

use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::guarded::{caught, guarded};
use super::inner::{Inner, goodbye_limit};
use super::lease::Lease;
use super::registry::Lane;
use super::shelf::Shelf;
use super::slot::Opened;
use crate::clock::{self, sleep};
use crate::connector::{Canceller, Connector, Resource as _, ResourceState};
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::retry::Attempt;

impl<C: Connector> Inner<C> {
    /// Opens a connection into the empty slot of `lease`, but not for a pool that is being closed. Where that fails for
    /// now, and `or_another`, the slot is exchanged for one whose connection is idle or comes back. True: it is new.
    pub(super) async fn fill(
        self: &Arc<Self>,
        lease: &mut Lease<C>,
        deadline: Instant,
        or_another: bool,
    ) -> Result<bool> {
        clock::check()?;
        tokio::select! {
            biased;
            () = self.when_closed() => Err(self.closed_error()),
            // Boxed: connecting is rare, and every checkout would carry the size of the connector's future.
            outcome = Box::pin(self.attempts(lease, deadline, or_another)) => outcome,
        }
    }

    /// Connects, trying again as the policy says.
    async fn attempts(self: &Arc<Self>, lease: &mut Lease<C>, deadline: Instant, or_another: bool) -> Result<bool> {
        let first = Instant::now();
        let shelf = self.shelf_of(lease.permit().lane());
        let mut number = 1;
        loop {
            let Err(error) = self.attempt(lease, deadline).await else { return Ok(true) };
            self.registry.count_error();
            lease.discard(goodbye_limit(deadline)).await;
            let pause = self.settings.retry.next_delay(Attempt::new(number, first.elapsed(), &error));
            let left = deadline.saturating_duration_since(Instant::now());
            let asks = or_another && error.is_transient() && !left.is_zero();
            let other = match (pause.filter(|pause| *pause < left), asks) {
                (Some(pause), asks) => {
                    tracing::debug!(pool = %self.settings.name, %error, number, ?pause, "connecting again after a pause");
                    number += 1;
                    if asks {
                        let end = Instant::now() + pause;
                        self.chores.attend().wait(self.another(shelf), Some(end)).await.ok()
                    } else {
                        sleep(pause).await;
                        None
                    }
                }
                (None, true) => Some(self.another_until(shelf, deadline, error).await?),
                // Whoever retries outside would only repeat what was tried here.
                (None, false) => return Err(error.permanent().during(Phase::Connect)),
            };
            if let Some(other) = other {
                *lease = other;
                return Ok(false);
            }
        }
    }

    async fn attempt(self: &Arc<Self>, lease: &mut Lease<C>, deadline: Instant) -> Result<()> {
        let now = Instant::now();
        let end = self.settings.connect_timeout.map_or(deadline, |limit| deadline.min(now + limit));
        let lane = lease.permit().lane();
        let shelf = self.shelf_of(lane);
        let _dialing = shelf.refused.dial();
        let access = shelf.access;
        let resource = guarded("connector", end, async { self.connector.connect(access).await }).await?;
        let canceller = caught(|| resource.canceller()).unwrap_or_else(Canceller::none);
        lease.fill(Opened {
            resource,
            entry: self.registry.register(lane, canceller),
            lane,
            idle_since: Instant::now(),
            expires: self.settings.max_lifetime.and_then(|age| now.checked_add(age)),
            home: Arc::downgrade(self),
            runtime: self.runtime.get_or_init(Handle::current).clone(),
        });
        if let (Some(hook), Some(opened)) = (&self.settings.on_connect, lease.opened_mut()) {
            guarded("on_connect hook", end, async { hook(&mut opened.resource).await }).await?;
        }
        if let Some(opened) = lease.opened_mut() {
            opened.resource.baseline();
            let state = opened.state();
            if state == ResourceState::Broken {
                let error = Error::new(ErrorKind::Connection, "a new connection broke while it was set up");
                return Err(error.because(Reason::Broken).transient());
            }
            if state != ResourceState::Idle {
                let message = format!("a new connection is not idle but {state:?} after the on_connect hook");
                return Err(Error::new(ErrorKind::Config, message).hint("end in the hook what it begins"));
            }
        }
        lease.approve();
        Ok(())
    }

    /// Opens what is missing to the number of connections that a shelf keeps. Slots in use are left alone.
    async fn warm_shelf(self: &Arc<Self>, shelf: &Shelf<C>) -> Result<()> {
        let deadline = Instant::now() + self.settings.acquire_timeout;
        let missing = shelf.min.saturating_sub(self.registry.open(shelf.lane)) as usize;
        // Filled slots come first; they are put aside until enough empty ones are found.
        let (mut filled, mut empty) = (Vec::new(), Vec::new());
        while empty.len() < missing {
            let Some(permit) = self.try_permit(shelf)? else { break };
            let lease = Lease::new(permit).await?;
            if lease.opened().is_some() { filled.push(lease) } else { empty.push(lease) }
        }
        try_join_all(empty.iter_mut().map(|lease| self.fill(lease, deadline, false))).await?;
        Ok(())
    }

    /// The writer first: it makes the file that the readers expect to find.
    pub(super) async fn warm(self: &Arc<Self>) -> Result<()> {
        clock::check()?;
        for shelf in self.shelves_in_opening_order() {
            self.warm_shelf(shelf).await?;
        }
        Ok(())
    }

    /// Replaces a connection that was discarded, if too few are left. One try per loss: a database that is down is not
    /// helped by a loop.
    pub(super) async fn refill(self: &Arc<Self>, lane: Lane) {
        let shelf = self.shelf_of(lane);
        if self.is_closed() || self.registry.open(lane) >= shelf.min {
            return;
        }
        if let Err(error) = self.warm_shelf(shelf).await {
            tracing::warn!(pool = %self.settings.name, %error, "a lost connection could not be replaced");
        }
    }
}
