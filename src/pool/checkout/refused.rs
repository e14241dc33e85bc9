//! Calls whose connect failed while the pool has other connections: a role, a server or a pooler may allow fewer than the
//! pool does.
//!
//! Such a call takes a connection that comes back. It stands before those who wait for anything, because it came before
//! them: without that, a pool under load would keep it until its timeout. It keeps its permit meanwhile: another call
//! would only be refused with it, too.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::waiting::Waiting;
use crate::connector::Connector;
use crate::error::{Error, Phase, Result};
use crate::pool::inner::{Grant, Inner, Lane, Lease};
use crate::pool::supply::Need;

impl<C: Connector> Inner<C> {
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
        let waiting = Waiting::begin(self, lane.id, deadline)?;
        tokio::select! {
            biased;
            outcome = waiting.until(self.other(lane)) => outcome.unwrap_or_else(|late| {
                let error = late.in_vain().context(refusal.message());
                let hint = refusal.advice().map(str::to_owned);
                let error = error.caused_by(refusal);
                Err(match hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                })
            }),
            () = self.registry.none_left(lane.id) => Err(refusal.permanent().during(Phase::Connect)),
        }
    }
}
