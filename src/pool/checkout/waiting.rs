//! Waiting for what somebody else has: entered in the registry, so that deadlocks and holders are known, and bounded by
//! the acquire timeout.
//!
//! A call whose connect failed waits, too, while the pool has other connections: a role, a server or a pooler may allow fewer than
//! the pool does. It takes one that comes back, and stands before those who wait for anything, because it came before them:
//! without that, a pool under load would keep it until its timeout. It keeps its permit meanwhile: another call would only
//! be refused with it, too.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::connector::Connector;
use crate::error::{Error, Phase, Result};
use crate::observer::Event;
use crate::pool::chores::Attendant;
use crate::pool::holders::{LaneId, Waiter};
use crate::pool::inner::{Grant, Lane, Lease, PoolInner};
use crate::pool::supply::Need;

/// A call that waits, from the moment it is entered.
pub(crate) struct WaitingCall<'a, C: Connector> {
    pool: &'a Arc<PoolInner<C>>,
    /// Counted as waiting for as long as it lives.
    waiter: Waiter<'a>,
    attendant: Attendant<'a>,
    lane: LaneId,
    deadline: Instant,
    /// When the caller itself gives up.
    end: Option<Instant>,
    /// Since when, where somebody observes.
    since: Option<Instant>,
}

impl<'a, C: Connector> WaitingCall<'a, C> {
    /// Enters a call that waits for a connection of `lane`, until `end` at the latest if the caller itself gives up then.
    /// Sits out a suspension first, unless that waits for what the call has.
    ///
    /// # Errors
    /// [`WouldDeadlock`](crate::error::Reason::WouldDeadlock) when waiting could never end; outside of a runtime with
    /// timers.
    pub(in crate::pool) async fn begin(
        pool: &'a Arc<PoolInner<C>>,
        lane: LaneId,
        deadline: Instant,
        end: Option<Instant>,
    ) -> Result<Self> {
        let deadline = end.map_or(deadline, |end| end.min(deadline));
        let mut call = Self { end, ..Self::enter(pool, lane, deadline)? };
        if pool.suspended_until().is_some() && !call.waiter.presses() {
            // Boxed, like all that is rare.
            Box::pin(call.sit_out()).await;
        }
        Ok(call)
    }

    /// The same without sitting out anything.
    fn enter(pool: &'a Arc<PoolInner<C>>, lane: LaneId, deadline: Instant) -> Result<Self> {
        clock::check()?;
        let waiter = pool.registry.wait(lane).map_err(|exhaustion| exhaustion.deadlock(&pool.name))?;
        let since = pool.observers.are_there().then(Instant::now);
        Ok(Self { pool, waiter, attendant: pool.chores.attend(), lane, deadline, end: None, since })
    }

    /// Whether the caller has given up.
    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Waits for the end of a suspension. The time to wait for a connection begins then.
    async fn sit_out(&mut self) {
        while !self.pool.is_closed()
            && let Some(until) = self.pool.suspended_until()
        {
            let end = self.end.map_or(until, |end| end.min(until));
            self.attendant.wait(self.pool.awake(), Some(end)).await.ok();
            if self.is_over() {
                break;
            }
        }
        let deadline = Instant::now() + self.pool.settings.acquire_timeout;
        self.deadline = self.end.map_or(deadline, |end| end.min(deadline));
    }

    /// Waits for `news`, which comes from the holder of the connection. What a suspension takes of the time is given again, and
    /// so it says until when the call has time.
    ///
    /// # Errors
    /// The call itself when its time is up: whether it has waited [in vain](Self::in_vain) may still have to be found out.
    pub(crate) async fn until<T>(mut self, news: impl Future<Output = T>) -> Result<(T, Instant), Self> {
        let mut news = pin!(news);
        loop {
            if let Ok(news) = self.attendant.wait(news.as_mut(), Some(self.deadline)).await {
                return Ok((news, self.deadline));
            }
            if self.is_over() || self.pool.suspended_until().is_none() {
                return Err(self);
            }
            tokio::select! {
                biased;
                news = news.as_mut() => return Ok((news, Instant::now() + self.pool.settings.acquire_timeout)),
                () = self.sit_out() => {}
            }
        }
    }

    /// Counts the call among those that got nothing within the acquire timeout.
    ///
    /// The error is [`AllInUse`](crate::error::Reason::AllInUse), with the names of the holders.
    pub(crate) fn in_vain(self) -> Error {
        let Self { pool, lane, since, .. } = self;
        pool.count_timeout(pool.lane(lane), since);
        pool.exhaustion(lane).timed_out(&pool.name, pool.settings.acquire_timeout)
    }
}

impl<C: Connector> PoolInner<C> {
    /// A call that came at `since` got nothing in time.
    pub(super) fn count_timeout(&self, lane: &Lane<C>, since: Option<Instant>) {
        self.registry.count_timeout();
        if let Some(since) = since.filter(|_| self.observers.are_there()) {
            self.observers.tell(&Event::WaitedInVain { access: lane.access, waited: since.elapsed() });
        }
    }

    /// A connection that is idle or comes back, as long as it takes.
    async fn other(self: &Arc<Self>, lane: &Lane<C>) -> Result<Lease<C>> {
        loop {
            // A permit to open a further one would be of no use.
            if let Grant::Connection(lease) = self.queued(lane, Need::Connection).await? {
                return Ok(lease);
            }
        }
    }

    /// The same within a pause between two attempts to connect.
    pub(super) async fn other_within(self: &Arc<Self>, lane: &Lane<C>, pause: Duration) -> Result<Option<Lease<C>>> {
        let end = Instant::now() + pause;
        self.chores.attend().wait(self.other(lane), Some(end)).await.ok().transpose()
    }

    /// The same until `deadline`, after the last attempt to connect failed with `refusal`.
    ///
    /// # Errors
    /// `refusal` as it is, once no connection can come back; [`AllInUse`](crate::error::Reason::AllInUse) because of it
    /// when the acquire timeout has passed.
    pub(super) async fn other_until(
        self: &Arc<Self>,
        lane: &Lane<C>,
        deadline: Instant,
        refusal: Error,
    ) -> Result<Lease<C>> {
        let waiting = WaitingCall::enter(self, lane.id, deadline)?;
        tokio::select! {
            biased;
            outcome = waiting.until(self.other(lane)) => match outcome {
                Ok((other, _)) => other,
                Err(late) => {
                    let error = late.in_vain().context(refusal.message());
                    let hint = refusal.advice().map(str::to_owned);
                    let error = error.caused_by(refusal);
                    Err(match hint {
                        Some(hint) => error.hint(hint),
                        None => error,
                    })
                }
            },
            () = self.registry.none_left(lane.id) => Err(refusal.permanent().during(Phase::Connect)),
        }
    }
}
