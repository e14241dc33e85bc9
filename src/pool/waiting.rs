//! Waiting for what somebody else has: entered in the registry, so that deadlocks and holders are known, and bounded by
//! the acquire timeout.

use std::future::Future;
use std::sync::Arc;

use tokio::time::Instant;

use super::chores::Attendant;
use super::inner::Inner;
use super::registry::{Lane, Waiter};
use crate::clock::{self};
use crate::connector::Connector;
use crate::error::Result;

/// A call that waits, from the moment it is entered.
pub(crate) struct Waiting<'a, C: Connector> {
    inner: &'a Arc<Inner<C>>,
    waiter: Waiter<'a>,
    attendant: Attendant<'a>,
    lane: Lane,
    deadline: Instant,
}

impl<'a, C: Connector> Waiting<'a, C> {
    /// Enters a call that waits for a connection of `lane`.
    ///
    /// # Errors
    /// [`WouldDeadlock`](crate::Reason::WouldDeadlock) when waiting could never end; outside of a runtime with timers.
    pub(super) fn begin(inner: &'a Arc<Inner<C>>, lane: Lane, deadline: Instant) -> Result<Self> {
        clock::check()?;
        let waiter = inner.registry.wait(lane).map_err(|exhaustion| exhaustion.deadlock(&inner.settings.name))?;
        Ok(Self { inner, waiter, attendant: inner.chores.attend(), lane, deadline })
    }

    /// Waits for `news`, which comes from whoever has the connection.
    ///
    /// # Errors
    /// [`AllInUse`](crate::Reason::AllInUse), with the names of the holders, when the acquire timeout has passed.
    pub(crate) async fn until<T>(self, news: impl Future<Output = T>) -> Result<T> {
        let outcome = self.attendant.wait(news, Some(self.deadline)).await;
        let Self { inner, waiter, lane, .. } = self;
        outcome.map_err(|_elapsed| {
            inner.registry.count_timeout();
            let exhaustion = inner.registry.exhaustion(lane);
            drop(waiter);
            exhaustion.timed_out(&inner.settings.name, inner.settings.acquire_timeout)
        })
    }
}
