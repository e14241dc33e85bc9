//! The end of a pool.

use std::pin::pin;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::guarded::{caught, guarded};
use super::inner::{CLOSE_LIMIT, Inner};
use super::shelf::Shelf;
use crate::clock::{self, timeout};
use crate::connector::Connector;
use crate::error::{Error, Phase, Result};

/// How long loans may still take to end once their calls were cancelled: a rollback is short.
const GRACE: Duration = Duration::from_secs(1);

/// What [`Pool::close`](super::Pool::close) did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CloseReport {
    /// Connections that were closed, cleanly or not, since the pool refuses callers; those that an earlier call has
    /// reported are left out.
    pub closed: u32,
    /// Connections that were still lent when the deadline and the grace had passed. Each is closed when it comes back.
    pub abandoned: u32,
    /// What went wrong while closing connections.
    pub errors: Vec<Error>,
}

impl CloseReport {
    /// Whether every connection came back and closed without an error.
    pub fn is_clean(&self) -> bool {
        self.abandoned == 0 && self.errors.is_empty()
    }
}

impl<C: Connector> Inner<C> {
    pub(super) async fn close(self: &Arc<Self>, deadline: Duration) -> CloseReport {
        for shelf in self.shelves_in_closing_order() {
            shelf.permits.close();
        }
        self.cool();
        self.closed.notify_waiters();
        if let Err(error) = clock::check() {
            let abandoned = self.registry.stats().active_connections;
            return CloseReport { abandoned, errors: vec![error.during(Phase::Close)], ..CloseReport::default() };
        }
        let turn = self.closing.lock().await;
        let attendant = self.chores.attend();
        if attendant.wait(self.all_back(), Instant::now().checked_add(deadline)).await.is_err() {
            for canceller in self.registry.lent_cancellers() {
                caught(|| canceller.cancel());
            }
            // Whether they made it shows in the statistics.
            attendant.wait(self.all_back(), Instant::now().checked_add(GRACE)).await.ok();
        }
        drop(attendant);
        for shelf in self.shelves_in_closing_order() {
            empty(shelf).await;
        }
        // The reaper may have taken some before, and what could not be lent again is closed by whoever tidied it up.
        timeout(CLOSE_LIMIT, self.registry.only_lent_left()).await.ok();
        let shut_down = guarded("connector's shutdown", Instant::now() + GRACE, async {
            self.connector.shut_down().await;
            Ok(())
        })
        .await;
        drop(turn);
        // Taken at the end, so that a call that is dropped before leaves it to the next one.
        let mut report = std::mem::take(&mut *self.goodbyes());
        report.errors.extend(shut_down.err());
        report.abandoned = self.registry.stats().active_connections;
        if !report.is_clean() {
            tracing::warn!(pool = %self.settings.name, ?report, "the pool did not close cleanly");
        }
        report
    }

    /// Waits until the pool is closed.
    pub(super) async fn when_closed(&self) {
        let mut closed = pin!(self.closed.notified());
        closed.as_mut().enable();
        if !self.is_closed() {
            closed.await;
        }
    }

    /// Waits until every permit is back.
    async fn all_back(&self) {
        loop {
            let mut news = pin!(self.closed.notified());
            news.as_mut().enable();
            if self.shelves_in_closing_order().all(|shelf| shelf.permits.available_permits() == shelf.size as usize) {
                return;
            }
            news.await;
        }
    }

    /// Sees to a permit that came back to a closed pool: tells those who wait for it, and closes what came with it once
    /// they are done.
    pub(super) fn came_back_late(self: &Arc<Self>) {
        self.closed.notify_waiters();
        let inner = Arc::clone(self);
        self.background(async move {
            let _turn = inner.closing.lock().await;
            for shelf in inner.shelves_in_closing_order() {
                empty(shelf).await;
            }
        });
    }

    /// Notes how a connection has said goodbye, for the report.
    pub(super) fn closed_one(&self, outcome: &Result<()>) {
        if self.is_closed() {
            let mut goodbyes = self.goodbyes();
            goodbyes.closed += 1;
            goodbyes.errors.extend(outcome.as_ref().err().map(|error| error.clone().during(Phase::Close)));
        }
    }

    fn goodbyes(&self) -> MutexGuard<'_, CloseReport> {
        self.goodbyes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes all idle connections of a shelf, side by side.
async fn empty<C: Connector>(shelf: &Shelf<C>) {
    let mut opened = Vec::new();
    while let Some(mut slot) = shelf.take_idle().await {
        opened.extend(slot.empty());
    }
    // How that went, they tell the pool themselves.
    join_all(opened.into_iter().map(|opened| opened.close(CLOSE_LIMIT))).await;
}
