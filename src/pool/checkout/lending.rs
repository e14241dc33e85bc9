//! The one way to a connection: granted, ready, lent.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use super::opening::Obtained;
use super::waiting::WaitingCall;
use crate::clock;
use crate::connector::{Access, Connector, ResourceState};
use crate::error::{ErrorKind, Result};
use crate::observer::LoanMoments;
use crate::pool::closing::goodbye_limit;
use crate::pool::guarded::{caught, guarded};
use crate::pool::handle::{Pool, Pooled};
use crate::pool::inner::{Grant, Lane, Lease, Permit, PoolInner};
use crate::pool::supply::{Closed, Need};
use crate::turn;

/// How long a health check may take; at most half of what is left to the caller, so that there is time to connect anew.
const HEALTH_LIMIT: Duration = Duration::from_secs(5);

/// Waiting for longer than this is said in the log.
const SLOW: Duration = Duration::from_secs(2);

impl<C: Connector> Pool<C> {
    /// [`get_for`](Pool::get_for) on behalf of a caller further up.
    ///
    /// Cancel safe at every await: whatever has been taken so far gives itself back.
    pub(crate) async fn get_at(&self, access: Access, location: &'static Location<'static>) -> Result<Pooled<C>> {
        let inner = self.inner();
        inner.may_begin()?;
        let now = inner.asked();
        let deadline = now + inner.settings.acquire_timeout;
        let lane = inner.lane_for(access);
        if let Some(grant) = inner.free(lane)? {
            return inner.lend(grant, lane, now, deadline, location, false).await;
        }
        // Boxed, like all that is rare, so that every call does not carry its state.
        let (grant, deadline) = Box::pin(inner.wait(lane, deadline)).await?;
        let came = Instant::now();
        let waited = came - now;
        if waited > SLOW {
            tracing::warn!(pool = %inner.name, %location, ?waited, "waited long for a connection");
        }
        inner.lend(grant, lane, came, deadline, location, true).await
    }

    /// A connection for `access` if one is free; the call waits for nobody and overtakes no waiting call.
    pub(crate) async fn get_if_free(
        &self,
        access: Access,
        location: &'static Location<'static>,
    ) -> Result<Option<Pooled<C>>> {
        let inner = self.inner();
        inner.may_begin()?;
        let lane = inner.lane_for(access);
        let Some(grant) = inner.free(lane)? else { return Ok(None) };
        inner.lend_now(grant, lane, location, false).await.map(Some)
    }

    /// A connection that is idle; none is opened for this, unless it turns out to be broken.
    pub(crate) async fn get_if_idle(
        &self,
        access: Access,
        location: &'static Location<'static>,
    ) -> Result<Option<Pooled<C>>> {
        let inner = self.inner();
        inner.may_begin()?;
        let lane = inner.lane_for(access);
        let Some(idle) = lane.supply.take() else { return Ok(None) };
        inner.lend_now(Grant::from(idle), lane, location, false).await.map(Some)
    }

    /// A connection on behalf of callers that wait for its result, each with its own limit: waits as long as it takes, and is
    /// not counted as a caller.
    pub(crate) async fn get_for_others(
        &self,
        access: Access,
        location: &'static Location<'static>,
    ) -> Result<Pooled<C>> {
        let inner = self.inner();
        let lane = inner.lane_for(access);
        let grant = match inner.free(lane)? {
            Some(grant) => grant,
            None => inner.queued(lane, Need::Any).await?,
        };
        inner.lend_now(grant, lane, location, true).await
    }
}

impl<C: Connector> PoolInner<C> {
    /// Refuses a child of the process that uses the pool, and a call from outside of any runtime, also where it would need
    /// none: whether it does depends on what others do.
    fn may_begin(&self) -> Result<()> {
        self.connector.usable()?;
        match tokio::task::try_id() {
            Some(_task) => Ok(()),
            None => clock::present().map(drop),
        }
    }

    /// The moment at which a connection is asked for.
    #[inline]
    fn asked(&self) -> Instant {
        let known = if self.observers.are_there() { LoanMoments::take_asked() } else { None };
        known.unwrap_or_else(Instant::now)
    }

    /// An idle connection or free capacity, if there is either.
    #[inline]
    fn free(self: &Arc<Self>, lane: &Lane<C>) -> Result<Option<Grant<C>>> {
        match lane.supply.take() {
            Some(idle) => Ok(Some(Grant::from(idle))),
            None => Ok(self.permit(lane)?.map(Grant::Permit)),
        }
    }

    /// Waits in the queue until `deadline`, or a later one if there was a suspension; says until when the call has time.
    ///
    /// Before a short read queues, the calls of its thread that have a connection run: otherwise whoever gives one back to
    /// the queue comes next to its end, and as long as there are more busy tasks than connections, each call would wait for
    /// a wake-up. Longer calls would only leave the connection unused meanwhile.
    async fn wait(self: &Arc<Self>, lane: &Lane<C>, deadline: Instant) -> Result<(Grant<C>, Instant)> {
        if lane.access == Access::Read {
            turn::pass().await;
            if let Some(grant) = self.free(lane)? {
                return Ok((grant, deadline));
            }
        }
        let waiting = WaitingCall::begin(self, lane.id, deadline, None).await?;
        lane.arrivals.fetch_add(1, Relaxed);
        match waiting.until(self.queued(lane, Need::Any)).await {
            Ok((grant, deadline)) => Ok((grant?, deadline)),
            Err(late) => Err(late.in_vain()),
        }
    }

    /// Waits in the queue as long as it takes.
    pub(in crate::pool) async fn queued(self: &Arc<Self>, lane: &Lane<C>, need: Need) -> Result<Grant<C>> {
        let closed = |Closed| self.closed_error();
        let Some(mut ticket) = lane.supply.enter(need).map_err(closed)? else {
            return Ok(Grant::Permit(self.permit_of(lane)));
        };
        // Looked for once more: from here on, what comes back goes to the queue and not to the cells.
        match lane.supply.take() {
            Some(idle) => Ok(Grant::from(idle)),
            None => ticket.granted().await.map_err(closed),
        }
    }

    /// Lends what was granted: the connection if it is healthy, or another one, or a new one.
    async fn lend(
        self: &Arc<Self>,
        grant: Grant<C>,
        lane: &Lane<C>,
        now: Instant,
        deadline: Instant,
        location: &'static Location<'static>,
        waited: bool,
    ) -> Result<Pooled<C>> {
        let (lease, since, waited) = match grant {
            Grant::Connection(lease) if self.is_ready(&lease, now) => (lease, now, waited),
            // Boxed, like all that is rare.
            grant => Box::pin(self.make_ready(grant, lane, deadline, waited)).await?,
        };
        if self.looks.is_some() {
            self.look_after_idle(since);
        }
        lease.opened().entry.lend(location, since, waited);
        if self.observers.are_there() {
            // The deadline is the timeout after the call asked, or after a suspension ended, whose time is nobody's waiting.
            let asked = if waited || since != now { deadline.checked_sub(self.settings.acquire_timeout) } else { None };
            lease.opened().tell_lent(asked, since);
        }
        Ok(Pooled::new(lease))
    }

    /// The same for a call whose time begins now.
    async fn lend_now(
        self: &Arc<Self>,
        grant: Grant<C>,
        lane: &Lane<C>,
        location: &'static Location<'static>,
        waited: bool,
    ) -> Result<Pooled<C>> {
        let now = self.asked();
        self.lend(grant, lane, now, now + self.settings.acquire_timeout, location, waited).await
    }

    /// Turns a grant into a connection that can be lent; says since when, and whether the call has waited for it.
    async fn make_ready(
        self: &Arc<Self>,
        mut grant: Grant<C>,
        lane: &Lane<C>,
        deadline: Instant,
        mut waited: bool,
    ) -> Result<(Lease<C>, Instant, bool)> {
        loop {
            let permit = match grant {
                Grant::Permit(permit) => permit,
                Grant::Connection(lease) => match self.check(lease, deadline).await {
                    Ok(lease) => return Ok((lease, Instant::now(), waited)),
                    Err(permit) => permit,
                },
            };
            // One that is idle is sooner there than a new one.
            grant = match lane.supply.take() {
                Some(idle) => Grant::from(idle),
                None => match self.open_for(permit, lane, deadline).await? {
                    Obtained::New(lease) => return Ok((lease, Instant::now(), waited)),
                    Obtained::Other(lease) => {
                        waited = true;
                        Grant::Connection(lease)
                    }
                },
            };
        }
    }

    /// Whether a connection needs no check.
    fn is_ready(&self, lease: &Lease<C>, now: Instant) -> bool {
        let opened = lease.opened();
        let idle = now.saturating_duration_since(opened.since);
        opened.state() != ResourceState::Broken && caught(|| self.settings.health.is_due(idle)) == Some(false)
    }

    /// Asks the health check about an idle connection, if that is due. If it must not be lent, it is closed, and its
    /// permit is left.
    async fn check(self: &Arc<Self>, mut lease: Lease<C>, deadline: Instant) -> Result<Lease<C>, Permit<C>> {
        let now = Instant::now();
        if self.is_ready(&lease, now) {
            return Ok(lease);
        }
        let opened = lease.opened_mut();
        // One that knows by itself that it is broken is not asked.
        if opened.state() != ResourceState::Broken {
            let idle = now.saturating_duration_since(opened.since);
            let limit = HEALTH_LIMIT.min(deadline.saturating_duration_since(now) / 2);
            let check = async { self.settings.health.check(&mut opened.resource, idle).await };
            let outcome = guarded("health check", now + limit, check).await;
            match (outcome, opened.state()) {
                (Ok(()), ResourceState::Idle) => return Ok(lease),
                (Ok(()), state) => {
                    tracing::warn!(pool = %self.name, ?state, "a health check left a connection as it may not be lent");
                }
                (Err(error), _) => {
                    tracing::debug!(pool = %self.name, %error, "an idle connection failed its health check");
                }
            }
        }
        self.registry.count_error();
        Err(lease.into_opened().close(goodbye_limit(deadline)).await)
    }

    /// Opens a connection for a caller that has until `deadline`, or finds another one.
    async fn open_for(self: &Arc<Self>, permit: Permit<C>, lane: &Lane<C>, deadline: Instant) -> Result<Obtained<C>> {
        let outcome = self.open_or_other(permit, deadline).await;
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout) && Instant::now() >= deadline {
            self.count_timeout(lane, deadline.checked_sub(self.settings.acquire_timeout));
        }
        outcome
    }
}
