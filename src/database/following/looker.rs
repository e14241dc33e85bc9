//! Looking for what other processes commit.

use std::panic::Location;
use std::sync::{Arc, Weak};

use tokio::runtime::Handle;

use crate::clock;
use crate::connector::{Access, Connection, Connector};
use crate::database::handle::{AsyncDatabase, DatabaseInner};
use crate::database::route;
use crate::feed::{Change, Looking};
use crate::lock::foreign;
use crate::pool::Pooled;

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
    let mut blind = false;
    while let Some(pause) = looking.pause() {
        clock::sleep(pause).await;
        let Some(inner) = database.upgrade() else { return };
        if inner.pool.is_closed() {
            return;
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
