//! Looking for what other processes commit, and to it that an engine which is told so by its server goes on being told.

use std::future::Future;
use std::panic::Location;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::connector::{Access, Connection, Connector};
use crate::database::handle::{AsyncDatabase, DatabaseInner};
use crate::database::route;
use crate::feed::{Change, Looking};
use crate::pool::Pooled;

/// The pause before a broken way to the server is tried again; it doubles.
const AGAIN: Duration = Duration::from_millis(100);

/// The longest of these pauses.
const AGAIN_AT_MOST: Duration = Duration::from_secs(5);

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// Waits for `news` of a listener, and sees to it meanwhile that somebody looks for what others commit: whoever did may have
    /// ended with its runtime, or stand still with that.
    pub(super) async fn listening(&self, news: impl Future<Output = ()>, location: &'static Location<'static>) {
        let mut news = pin!(news);
        loop {
            if let Some(looking) = self.feed().look() {
                // It is not waited for; it ends with the last listener, or the database.
                self.pool().background(look::<C>(Arc::downgrade(&self.inner), looking, location));
            }
            if self.pool().attend_until(news.as_mut(), self.feed().look_again()).await.is_some() {
                return;
            }
        }
    }
}

async fn look<C>(database: Weak<DatabaseInner<C>>, looking: Looking, location: &'static Location<'static>)
where
    C: Connector<Connection: Connection>,
{
    let (mut blind, mut rest) = (looking.resumes, Duration::ZERO);
    while looking.sleep(rest).await {
        let Some(inner) = database.upgrade() else { return };
        if inner.pool.is_closed() {
            return;
        }
        if looking.feed().is_interrupted() {
            rest = if follow_again(inner, location).await {
                Duration::ZERO
            } else {
                (rest * 2).clamp(AGAIN, AGAIN_AT_MOST)
            };
            continue;
        }
        // While nothing is open, the count of commits may have started over.
        blind |= inner.pool.stats().total_connections == 0;
        // To look would open it again.
        if inner.pool.is_suspended() {
            continue;
        }
        // If all are at work, it looks the next time.
        let Some(mut lent) = idle(&inner, blind, location).await else { continue };
        if matches!(lent.look_elsewhere(looking.feed()), Ok(false)) {
            looking.is_alone();
            return;
        }
        if std::mem::take(&mut blind) {
            looking.feed().add(Change { unattributed: true, ..Change::default() });
            looking.feed().wake();
        }
    }
}

/// Has the engine followed anew.
async fn follow_again<C>(inner: Arc<DatabaseInner<C>>, location: &'static Location<'static>) -> bool
where
    C: Connector<Connection: Connection>,
{
    // To look would open it again.
    if inner.pool.is_suspended() {
        return false;
    }
    let database = AsyncDatabase { inner, limit: None };
    let outcome = database.follow(location).await;
    if let Err(error) = &outcome {
        tracing::warn!(%error, "changes are not told for now; it is tried again");
    }
    outcome.is_ok()
}

/// A connection that nobody uses, a reader if there is one; opened only if none is open.
async fn idle<C>(inner: &DatabaseInner<C>, open: bool, location: &'static Location<'static>) -> Option<Pooled<C>>
where
    C: Connector<Connection: Connection>,
{
    let access = route::read_access(&inner.capabilities);
    for access in [access, Access::Write] {
        if let Some(lent) = inner.pool.get_if_idle(access, location).await.ok()? {
            return Some(lent);
        }
    }
    if open { inner.pool.get_if_free(access, location).await.ok()? } else { None }
}
