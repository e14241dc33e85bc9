//! The end of a pool: callers are refused, loans awaited, readers closed first and the writer last; and what comes back after
//! that.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use scopeguard::{ScopeGuard, guard};
use tokio::time::Instant;

use super::close_report::CloseReport;
use super::guarded::guarded;
use super::inner::{CLOSE_LIMIT, Lane, PoolInner};
use crate::clock;
use crate::connector::Connector;
use crate::error::{Phase, Result};

/// How long the connector may take to shut down.
const GRACE: Duration = Duration::from_secs(1);

/// How long a caller that has until `deadline` may be kept by the goodbye of a connection that is of no use to it.
pub(super) fn goodbye_limit(deadline: Instant) -> Duration {
    CLOSE_LIMIT.min(deadline.saturating_duration_since(Instant::now()) / 2)
}

impl<C: Connector> PoolInner<C> {
    pub(super) async fn close(self: &Arc<Self>, deadline: Duration) -> CloseReport {
        if let Err(error) = self.connector.usable() {
            return CloseReport { errors: vec![error.during(Phase::Close)], ..CloseReport::default() };
        }
        self.refuse_callers();
        if let Err(error) = clock::check() {
            let abandoned = self.registry.stats().active_connections;
            return CloseReport { abandoned, errors: vec![error.during(Phase::Close)], ..CloseReport::default() };
        }
        let attendant = self.chores.attend();
        // It may be locked by a chore of a runtime that nobody drives.
        let Ok(alone) = attendant.wait(self.closing.lock(), None).await else { unreachable!("nothing bounds it") };
        if attendant.wait(self.all_back(), Instant::now().checked_add(deadline)).await.is_err() {
            // Whether they made it shows in the statistics.
            self.stopping(self.all_back()).await;
        }
        drop(attendant);
        self.close_unlent().await;
        let shut_down = guarded("connector's shutdown", Instant::now() + GRACE, async {
            self.connector.shut_down().await;
            Ok(())
        })
        .await;
        drop(alone);
        // Taken at the end, so that a call that is dropped before leaves it to the next one.
        let mut report = std::mem::take(&mut *self.goodbyes.lock());
        report.errors.extend(shut_down.err());
        report.abandoned = self.registry.stats().active_connections;
        if !report.is_clean() {
            tracing::warn!(pool = %self.name, ?report, "the pool did not close cleanly");
        } else if report.closed > 0 {
            tracing::info!(pool = %self.name, connections = report.closed, "the pool is closed");
        }
        report
    }

    /// The last handle has gone: nobody will ask, and what is idle would keep the pool in memory.
    pub(super) fn abandon(self: &Arc<Self>) {
        // What is open is another process's.
        if self.connector.usable().is_err() {
            return;
        }
        self.refuse_callers();
        // With a loan, its end does this.
        if self.is_whole() {
            self.came_back_late();
        }
    }

    fn refuse_callers(&self) {
        for lane in self.lanes_in_closing_order() {
            lane.supply.close();
        }
        self.closed.notify_waiters();
        // What a suspension holds would be waited for.
        self.resume();
    }

    /// Waits until the pool is closed.
    pub(super) async fn when_closed(&self) {
        let mut closed = pin!(self.closed.notified());
        closed.as_mut().enable();
        if !self.is_closed() {
            closed.await;
        }
    }

    fn is_whole(&self) -> bool {
        self.lanes_in_closing_order().all(|lane| lane.supply.is_whole())
    }

    /// Waits until everything that was lent or taken is back.
    async fn all_back(&self) {
        loop {
            let mut news = pin!(self.closed.notified());
            news.as_mut().enable();
            if self.is_whole() {
                return;
            }
            news.await;
        }
    }

    /// Sees to what came back to a closed pool: tells those who wait for it, and closes what is idle once they are done.
    pub(super) fn came_back_late(self: &Arc<Self>) {
        self.closed.notify_waiters();
        if self.lanes_in_closing_order().any(|lane| lane.supply.has_idle()) {
            let rest = guard(Arc::clone(self), drop_idle);
            self.background(async move {
                let alone = rest.closing.lock().await;
                rest.close_unlent().await;
                drop(alone);
                // What has come back meanwhile has a chore of its own.
                ScopeGuard::into_inner(rest);
            });
        }
    }

    /// Closes all connections that are not lent, lane by lane.
    async fn close_unlent(&self) {
        for lane in self.lanes_in_closing_order() {
            self.close_lane(lane).await;
        }
    }

    /// Closes what is idle in a lane, and what comes back meanwhile, until only loans are left of it. The reaper and those
    /// who tidy up close others.
    async fn close_lane(&self, lane: &Lane<C>) {
        let (attendant, end) = (self.chores.attend(), Instant::now() + CLOSE_LIMIT);
        loop {
            let mut back = pin!(self.closed.notified());
            back.as_mut().enable();
            // How that went, they tell the pool themselves.
            join_all(lane.supply.take_if(|_| true).into_iter().map(|opened| opened.close(CLOSE_LIMIT))).await;
            let is_over = async {
                tokio::select! {
                    biased;
                    () = self.registry.only_lent_left(lane.id) => true,
                    () = back => false,
                }
            };
            if attendant.wait(is_over, Some(end)).await.unwrap_or(true) {
                return;
            }
        }
    }

    /// Notes how a connection has said goodbye, for the report.
    pub(super) fn note_goodbye(&self, outcome: &Result<()>) {
        if self.is_closed() {
            let error = outcome.as_ref().err().map(|error| error.clone().during(Phase::Close));
            let mut goodbyes = self.goodbyes.lock();
            goodbyes.closed += 1;
            goodbyes.errors.extend(error);
        }
    }
}

/// Drops what is idle in a closed pool where no runtime is left to say goodbye on, unless another call is closing it.
fn drop_idle<C: Connector>(pool: Arc<PoolInner<C>>) {
    if let Ok(_alone) = pool.closing.try_lock() {
        for lane in pool.lanes_in_closing_order() {
            drop(lane.supply.take_if(|_| true));
        }
    }
}
