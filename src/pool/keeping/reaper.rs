//! The end of idle connections that are too old: a chore that exists only where their age is limited. Should its runtime
//! end or stand still, the next loan on another one begins it anew.

use std::sync::{Arc, Weak};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::Looks;
use crate::clock::sleep_until;
use crate::connector::Connector;
use crate::pool::inner::{CLOSE_LIMIT, OpenConnection, PoolInner};

/// One reaper. It does not keep the pool.
struct Reaper<C: Connector> {
    pool: Weak<PoolInner<C>>,
    generation: u64,
}

impl<C: Connector> PoolInner<C> {
    /// Sees to it that somebody looks for connections that are too old.
    pub(in crate::pool) fn look_after_idle(self: &Arc<Self>, now: Instant) {
        if let Some(generation) = self.looks.as_ref().and_then(|looks| looks.begin(now)) {
            let reaper = Reaper { pool: Arc::downgrade(self), generation };
            self.background(async move { reaper.run().await });
        }
    }

    /// Has the idle connections closed that are too old now, and those replaced that are kept.
    fn reap(self: &Arc<Self>, looks: &Looks) {
        let (now, mut goodbyes) = (Instant::now(), Vec::new());
        for lane in self.lanes_in_closing_order() {
            let is_old = |opened: &mut Box<OpenConnection<C>>| {
                let unused =
                    looks.idle_timeout.is_some_and(|limit| now.saturating_duration_since(opened.since) >= limit);
                // `retire` refuses for those that are kept.
                (opened.is_expired() && opened.entry.retire(0)) || (unused && opened.entry.retire(lane.min))
            };
            for opened in lane.supply.take_if(is_old) {
                let (permit, goodbye) = opened.part(CLOSE_LIMIT);
                // A goodbye that hangs keeps nobody from opening a connection.
                drop(permit);
                goodbyes.push(goodbye);
            }
        }
        if goodbyes.is_empty() {
            return;
        }
        let pool = Arc::clone(self);
        self.background(async move {
            join_all(goodbyes).await;
            for lane in pool.lanes_in_opening_order() {
                pool.refill(lane).await;
            }
        });
    }

    /// When the next idle connection comes of age, or is looked for, because it may come back before.
    fn next_look(&self, looks: &Looks) -> Instant {
        let now = Instant::now();
        let mut next = now + looks.rate;
        for lane in self.lanes_in_closing_order() {
            lane.supply.for_each(|opened| {
                let unused = looks.idle_timeout.and_then(|limit| opened.since.checked_add(limit));
                // Those that are kept are past it.
                let ages = unused.into_iter().chain(opened.expires).filter(|at| *at > now);
                next = ages.fold(next, Instant::min);
            });
        }
        next
    }
}

impl<C: Connector> Reaper<C> {
    async fn run(self) {
        while let Some(next) = self.look() {
            sleep_until(next).await;
        }
    }

    /// Looks once. `None`: the pool is gone, or another reaper looks.
    fn look(&self) -> Option<Instant> {
        let pool = self.pool.upgrade()?;
        let looks = pool.looks.as_ref().filter(|_| !pool.is_closed())?;
        pool.reap(looks);
        let next = pool.next_look(looks);
        looks.expect(self.generation, next).then_some(next)
    }
}

impl<C: Connector> Drop for Reaper<C> {
    fn drop(&mut self) {
        if let Some(looks) = self.pool.upgrade().as_ref().and_then(|pool| pool.looks.as_ref()) {
            looks.end(self.generation);
        }
    }
}
