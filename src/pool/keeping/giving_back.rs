//! The way back.
//!
//! A lease may be dropped at any moment and in any state: lent or not, in a runtime or not, by a panic or a cancelled
//! future. What can be lent again as it is goes back at once. The rest is put in order by a chore, which keeps connection
//! and permit until it is done, so that there are never more connections than permits.

use std::sync::Arc;
use std::time::Duration;

use scopeguard::guard;
use tokio::time::Instant;

use crate::connector::{Connector, Resource as _, ResourceState};
use crate::pool::guarded::guarded;
use crate::pool::inner::{CLOSE_LIMIT, Lease, OpenConnection, Taken, Unproven};
use crate::pool::supply::IdleCell;

/// How long a connection may take to be reset: a rollback is short, and a caller may be waiting.
const RESET_LIMIT: Duration = Duration::from_secs(5);

impl<C: Connector> Lease<C> {
    pub(in crate::pool) fn new(opened: Box<OpenConnection<C>>, cell: Arc<IdleCell<Box<OpenConnection<C>>>>) -> Self {
        Self(guard(Taken { opened, cell }, give_back))
    }
}

impl<C: Connector> Unproven<C> {
    pub(in crate::pool) fn new(opened: OpenConnection<C>) -> Self {
        Self(guard(Box::new(opened), |opened| {
            let pool = Arc::clone(opened.permit.pool());
            // Nothing that was in service is lost, so nothing is opened in its place.
            pool.background(async move { drop(opened.close(CLOSE_LIMIT).await) });
        }))
    }
}

fn give_back<C: Connector>(taken: Taken<C>) {
    if taken.opened.permit.pool().connector.usable().is_err() {
        // It is another process's, and its permit belongs to a lane whose lock that one may have had at the fork.
        std::mem::forget(taken);
    } else if !taken.opened.is_expired() && taken.opened.state() == ResourceState::Idle {
        keep(taken);
    } else {
        let pool = Arc::clone(taken.opened.permit.pool());
        pool.background(tidy(taken));
    }
}

/// Puts a connection where the next call finds it, or hands it to one that waits.
#[inline]
fn keep<C: Connector>(taken: Taken<C>) {
    let Taken { mut opened, cell } = taken;
    opened.came_back();
    if let Err(opened) = cell.keep(opened) {
        let (pool, lane) = (Arc::clone(opened.permit.pool()), opened.permit.lane().id);
        if pool.lane(lane).supply.put_back(opened, cell) {
            pool.came_back_late();
        }
    }
}

/// Makes a connection fit to be lent again, or closes it and opens another if the pool should keep that many.
async fn tidy<C: Connector>(mut taken: Taken<C>) {
    if reset(&mut taken.opened).await {
        keep(taken);
    } else {
        discard(taken.opened).await;
    }
}

/// Tries to make a connection fit to be lent again.
async fn reset<C: Connector>(opened: &mut OpenConnection<C>) -> bool {
    if opened.is_expired() {
        return false;
    }
    if opened.state() != ResourceState::Broken {
        let end = Instant::now() + RESET_LIMIT;
        let outcome = guarded("connection's reset", end, async { opened.resource.reset().await }).await;
        match (outcome, opened.state()) {
            (Ok(()), ResourceState::Idle) => return true,
            // It works as its borrower left it, which is no error, but is of no use to anybody else.
            (Ok(()), ResourceState::Altered) => return false,
            (outcome, _) => tracing::debug!(error = ?outcome.err(), "a connection could not be reset"),
        }
    }
    opened.entry.count_error();
    false
}

async fn discard<C: Connector>(opened: Box<OpenConnection<C>>) {
    let permit = opened.close(CLOSE_LIMIT).await;
    let (pool, lane) = (Arc::clone(permit.pool()), permit.lane().id);
    drop(permit);
    pool.refill(pool.lane(lane)).await;
}
