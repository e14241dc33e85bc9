//! Opening connections: attempts, pauses, the hook.
//!
//! The order of limits is fixed: the acquire deadline around all attempts, around each attempt's own limit. An error
//! reaches the caller at once, unless it may pass and another connection may come back; a retry that would begin after
//! the deadline is not waited for.

use std::sync::Arc;

use futures_util::future::join_all;
use scopeguard::ScopeGuard;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::clock::{self, sleep};
use crate::connector::{Canceller, Connector, Resource as _, ResourceState};
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::observer::Event;
use crate::pool::closing::goodbye_limit;
use crate::pool::guarded::{caught, guarded};
use crate::pool::inner::{Lane, Lease, OpenConnection, Permit, PoolInner, Unproven};
use crate::retry::Attempt;

/// Where a connection came from for which there was a permit.
pub(super) enum Obtained<C: Connector> {
    New(Lease<C>),
    /// Opening one failed for now; this one came back.
    Other(Lease<C>),
}

impl<C: Connector> PoolInner<C> {
    /// Opens a connection, but not for a pool that is being closed. Where that fails for now, one that is idle or comes
    /// back will do.
    pub(super) async fn open_or_other(self: &Arc<Self>, permit: Permit<C>, deadline: Instant) -> Result<Obtained<C>> {
        self.unless_closed(permit, deadline, true).await
    }

    async fn unless_closed(
        self: &Arc<Self>,
        permit: Permit<C>,
        deadline: Instant,
        or_other: bool,
    ) -> Result<Obtained<C>> {
        clock::check()?;
        self.wake();
        tokio::select! {
            biased;
            () = self.when_closed() => Err(self.closed_error()),
            // Boxed: connecting is rare, and every checkout would carry the size of the connector's future.
            outcome = Box::pin(self.attempts(permit, deadline, or_other)) => outcome,
        }
    }

    /// Connects, trying again as the policy says.
    async fn attempts(
        self: &Arc<Self>,
        mut permit: Permit<C>,
        deadline: Instant,
        or_other: bool,
    ) -> Result<Obtained<C>> {
        let first = Instant::now();
        let mut number = 1;
        loop {
            let error;
            (permit, error) = match self.attempt(permit, deadline).await {
                Ok(lease) => return Ok(Obtained::New(lease)),
                Err(failed) => failed,
            };
            self.registry.count_error();
            if self.observers.are_there() {
                let (access, error) = (permit.lane().access, &error);
                self.observers.tell(&Event::ConnectFailed { access, attempt: number, error });
            }
            let pause = self.settings.retry.next_delay(Attempt::new(number, first.elapsed(), &error));
            let left = deadline.saturating_duration_since(Instant::now());
            // A lock is given up some time, also one that is not worth another attempt.
            let passes = error.is_transient() || error.kind() == ErrorKind::Busy;
            let asks = or_other && passes && !left.is_zero();
            let Some(pause) = pause.filter(|pause| *pause < left) else {
                if asks {
                    return self.other_until(permit.lane(), deadline, error).await.map(Obtained::Other);
                }
                // A retry outside would only repeat what was tried here.
                return Err(error.permanent().during(Phase::Connect));
            };
            tracing::warn!(pool = %self.name, %error, number, ?pause, "connecting again after a pause");
            number += 1;
            if !asks {
                sleep(pause).await;
            } else if let Some(other) = self.other_within(permit.lane(), pause).await? {
                return Ok(Obtained::Other(other));
            }
        }
    }

    async fn attempt(self: &Arc<Self>, permit: Permit<C>, deadline: Instant) -> Result<Lease<C>, (Permit<C>, Error)> {
        let now = Instant::now();
        let end = self.settings.connect_timeout.map_or(deadline, |limit| deadline.min(now + limit));
        let (lane, access) = (permit.lane().id, permit.lane().access);
        let _dialing = self.registry.dial(lane);
        let resource = match guarded("connector", end, async { self.connector.connect(access).await }).await {
            Ok(resource) => resource,
            Err(error) => return Err((permit, error)),
        };
        self.runtime.get_or_init(Handle::current);
        let canceller = caught(|| resource.canceller()).unwrap_or_else(Canceller::none);
        let mut unproven = Unproven::new(OpenConnection {
            resource,
            entry: self.registry.register(lane, canceller),
            permit,
            since: Instant::now(),
            expires: self.settings.max_lifetime.and_then(|age| now.checked_add(age)),
        });
        match self.prove(&mut unproven.0, end).await {
            Ok(()) => {
                let lease = unproven.approve();
                if self.observers.are_there() {
                    self.observers.tell(&Event::ConnectionOpened { access, took: now.elapsed() });
                }
                Ok(lease)
            }
            Err(error) => Err((ScopeGuard::into_inner(unproven.0).close(goodbye_limit(deadline)).await, error)),
        }
    }

    /// Runs the hook, after which a connection has to be idle.
    async fn prove(&self, opened: &mut OpenConnection<C>, end: Instant) -> Result<()> {
        if let Some(hook) = &self.settings.on_connect {
            guarded("on_connect hook", end, async { hook(&mut opened.resource).await }).await?;
        }
        caught(|| opened.resource.baseline()).ok_or_else(|| Error::panicked("connection's baseline"))?;
        match opened.state() {
            ResourceState::Idle => Ok(()),
            ResourceState::Broken => {
                let error = Error::new(ErrorKind::Connection, "a new connection broke while it was set up");
                Err(error.because(Reason::Broken).transient())
            }
            state => {
                let message = format!("a new connection is not idle but {state:?} after the on_connect hook");
                Err(Error::new(ErrorKind::Config, message).hint("end in the hook what it begins"))
            }
        }
    }

    /// Opens what is missing to the number of connections that a lane keeps; says how many that was.
    async fn open_missing(self: &Arc<Self>, lane: &Lane<C>, wakes: bool) -> Result<usize> {
        let deadline = Instant::now() + self.settings.acquire_timeout;
        let missing = lane.min.saturating_sub(self.registry.open(lane.id));
        let mut openings = Vec::new();
        for _ in 0..missing {
            let Some(permit) = self.permit(lane)? else { break };
            // Asked now: with a permit out, nobody falls asleep.
            if !wakes && self.is_suspended() {
                break;
            }
            openings.push(self.unless_closed(permit, deadline, false));
        }
        // All of them are given back together, so that none is idle before the last one is there.
        let opened: Vec<_> = join_all(openings).await;
        let opened = opened.into_iter().collect::<Result<Vec<_>>>()?;
        self.look_after_idle(Instant::now());
        Ok(opened.len())
    }

    /// The writer first: it makes the file that the readers expect to find.
    pub(in crate::pool) async fn warm(self: &Arc<Self>) -> Result<()> {
        clock::check()?;
        self.awake().await;
        for lane in self.lanes_in_opening_order() {
            self.open_missing(lane, true).await?;
        }
        Ok(())
    }

    /// Replaces a connection that is gone, if too few are left. One try per loss: a database that is down is not helped by
    /// a loop.
    pub(in crate::pool) async fn refill(self: &Arc<Self>, lane: &Lane<C>) {
        if self.is_closed() || self.registry.open(lane.id) >= lane.min {
            return;
        }
        match self.open_missing(lane, false).await {
            Ok(0) => {}
            Ok(connections) => tracing::debug!(pool = %self.name, connections, "lost connections were replaced"),
            Err(error) => tracing::warn!(pool = %self.name, %error, "a lost connection could not be replaced"),
        }
    }
}

impl<C: Connector> Unproven<C> {
    /// Takes the connection into service.
    fn approve(self) -> Lease<C> {
        let opened = ScopeGuard::into_inner(self.0);
        opened.entry.serve();
        let cell = opened.permit.lane().supply.cell();
        Lease::new(opened, cell)
    }
}
