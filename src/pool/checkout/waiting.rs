//! Waiting for what somebody else has: entered in the registry, so that deadlocks and holders are known, and bounded by
//! the acquire timeout.

use std::future::Future;
use std::sync::Arc;

use tokio::time::Instant;

use crate::clock;
use crate::connector::Connector;
use crate::error::{Error, Result};
use crate::pool::chores::Attendant;
use crate::pool::holders::{LaneId, Waiter};
use crate::pool::inner::Inner;

/// A call that waits, from the moment it is entered.
pub(crate) struct Waiting<'a, C: Connector> {
    pool: &'a Arc<Inner<C>>,
    /// Counted as waiting for as long as it lives.
    _waiter: Waiter<'a>,
    attendant: Attendant<'a>,
    lane: LaneId,
    deadline: Instant,
}

impl<'a, C: Connector> Waiting<'a, C> {
    /// Enters a call that waits for a connection of `lane`.
    ///
    /// # Errors
    /// [`WouldDeadlock`](crate::error::Reason::WouldDeadlock) when waiting could never end; outside of a runtime with
    /// timers.
    pub(in crate::pool) fn begin(pool: &'a Arc<Inner<C>>, lane: LaneId, deadline: Instant) -> Result<Self> {
        clock::check()?;
        let waiter = pool.registry.wait(lane).map_err(|exhaustion| exhaustion.deadlock(&pool.settings.name))?;
        Ok(Self { pool, _waiter: waiter, attendant: pool.chores.attend(), lane, deadline })
    }

    /// Waits for `news`, which comes from whoever has the connection.
    ///
    /// # Errors
    /// The call itself when its time is up: whether it has waited [in vain](Self::in_vain) may still have to be found out.
    pub(crate) async fn until<T>(self, news: impl Future<Output = T>) -> Result<T, Self> {
        self.attendant.wait(news, Some(self.deadline)).await.map_err(|_elapsed| self)
    }

    /// Counts the call among those that got nothing within the acquire timeout.
    ///
    /// The error is [`AllInUse`](crate::error::Reason::AllInUse), with the names of the holders.
    pub(crate) fn in_vain(self) -> Error {
        let Self { pool, lane, .. } = self;
        pool.registry.count_timeout();
        pool.registry.exhaustion(lane).timed_out(&pool.settings.name, pool.settings.acquire_timeout)
    }
}
