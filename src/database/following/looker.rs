//! Looking for what other processes commit, and to it that an engine which is told so by its server goes on being told.

use std::panic::Location;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock;
use crate::connector::{Access, Connection, Connector};
use crate::database::handle::{AsyncDatabase, DatabaseInner};
use crate::database::route;
use crate::feed::{Change, Looking};
use crate::lock::foreign;
use crate::pool::Pooled;

/// The pause before a broken way to the server is tried again; it doubles.
const AGAIN: Duration = Duration::from_millis(100);

/// The longest of these pauses.
const AGAIN_AT_MOST: Duration = Duration::from_secs(5);

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// Sends a task to look, unless there is one. Called by streams when they are polled, so that a task that ended with
    /// its runtime is replaced.
    pub(super) fn send_looker(&self, location: &'static Location<'static>) {
        let Some(looking) = self.feed().look() else { return };
        foreign();
        if let Ok(runtime) = Handle::try_current() {
            // It is not waited for; it ends with the last listener, or the database.
            drop(runtime.spawn(look::<C>(Arc::downgrade(&self.inner), looking, location)));
        }
    }
}

async fn look<C>(database: Weak<DatabaseInner<C>>, looking: Looking, location: &'static Location<'static>)
where
    C: Connector<Connection: Connection>,
{
    let (mut blind, mut rest) = (false, Duration::ZERO);
    while let Some(pause) = looking.pause() {
        let broken = looking.feed().is_interrupted();
        clock::sleep(if broken { rest } else { pause }).await;
        let Some(inner) = database.upgrade() else { return };
        if inner.pool.is_closed() {
            return;
        }
        if broken {
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
