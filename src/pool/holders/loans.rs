//! The loans of one connection: who has it, for how long at least, and how many there were.
//!
//! A loan that outlives the code that runs now is what tells a deadlock from a queue. Being in the same task proves nothing:
//! two branches of a `join!` may each hold a connection and neither waits for the other. A transaction closure does prove it,
//! because its connection comes back only after the closure has ended.

use std::future::Future;
use std::panic::Location;
use std::sync::Arc;

use tokio::time::Instant;

use crate::connector::Canceller;
use crate::lock::{Guard, Lock};

/// The lane of the writer, or the only one.
pub(in crate::pool) const MAIN: LaneId = 0;
/// The lane of the readers.
pub(in crate::pool) const READERS: LaneId = 1;
/// Which lane: an index.
pub(in crate::pool) type LaneId = usize;

/// What is known of one connection.
pub(super) struct Ledger {
    pub(super) lane: LaneId,
    pub(super) canceller: Canceller,
    loans: Lock<Loans>,
}

/// The loans of one connection.
pub(super) struct Loans {
    /// False before its hook has run, and while it is being closed.
    pub(super) in_service: bool,
    pub(super) holder: Option<Holder>,
    /// Tells its loans, and those of all other connections, apart.
    serial: u64,
    acquired: u64,
    waited: u64,
    released: u64,
}

/// Who has a connection.
#[derive(Clone)]
pub(in crate::pool) struct Holder {
    pub(in crate::pool) serial: u64,
    pub(in crate::pool) location: &'static Location<'static>,
    pub(in crate::pool) label: Option<Arc<str>>,
    pub(in crate::pool) since: Instant,
    pub(in crate::pool) task: Option<tokio::task::Id>,
    pub(in crate::pool) in_transaction: bool,
    /// Whether to warn when it has lasted too long.
    pub(super) watched: bool,
    /// How many calls wait for each lane inside a future that this loan outlives.
    pub(super) waits: [u32; 2],
}

impl Ledger {
    pub(super) fn new(lane: LaneId, canceller: Canceller, serial: u64) -> Self {
        let loans = Loans { in_service: false, holder: None, serial, acquired: 0, waited: 0, released: 0 };
        Self { lane, canceller, loans: Lock::new(loans) }
    }

    pub(super) fn lock(&self) -> Guard<'_, Loans> {
        self.loans.lock()
    }
}

impl Loans {
    pub(super) fn count_in(&self, stats: &mut PoolStats) {
        stats.total_connections += u32::from(self.in_service);
        stats.active_connections += u32::from(self.holder.is_some());
        stats.total_acquired += self.acquired;
        stats.total_waited += self.waited;
        stats.total_released += self.released;
    }

    /// Notes a loan from now on.
    pub(super) fn lend(&mut self, location: &'static Location<'static>, since: Instant, waited: bool) {
        self.acquired += 1;
        self.waited += u64::from(waited);
        self.serial += 1;
        let (serial, task, waits) = (self.serial, tokio::task::try_id(), [0; 2]);
        let (label, in_transaction, watched) = (None, false, false);
        self.holder = Some(Holder { serial, location, label, since, task, in_transaction, watched, waits });
    }

    /// Notes the end of a loan, if there was one; since when it lasted.
    pub(super) fn release(&mut self) -> Option<Instant> {
        let lent = self.holder.take().map(|holder| holder.since);
        self.released += u64::from(lent.is_some());
        lent
    }

    pub(super) fn leave(&mut self) {
        self.release();
        self.in_service = false;
    }
}

tokio::task_local! {
    static HELD: Arc<HeldLoan>;
}

/// Names one loan; see [`Pooled::token`](crate::pool::Pooled::token).
#[derive(Clone, Copy, Debug)]
pub struct HoldToken {
    pub(in crate::pool) pool: u64,
    pub(in crate::pool) key: usize,
    pub(in crate::pool) serial: u64,
}

/// A loan that outlives the code that runs now, and the one around it.
pub(in crate::pool) struct HeldLoan {
    pub(in crate::pool) token: HoldToken,
    outer: Option<Arc<Self>>,
}

impl HoldToken {
    /// Runs `future`, promising that the connection is not given back before it ends.
    ///
    /// If the future asks the same pool for another connection, and every connection is held by a call that waits in
    /// this way, it gets [`PoolExhausted`](crate::ErrorKind::PoolExhausted) with reason
    /// [`WouldDeadlock`](crate::Reason::WouldDeadlock) at once instead of after the acquire timeout. A wait that the
    /// future itself would give up (by `select!` or a shorter timeout) is refused as well.
    ///
    /// # Cancel safety
    /// As the future itself.
    pub async fn hold<F: Future>(self, future: F) -> F::Output {
        HELD.scope(Arc::new(HeldLoan { token: self, outer: current() }), future).await
    }
}

/// The innermost loan that outlives the code that runs now.
pub(in crate::pool) fn current() -> Option<Arc<HeldLoan>> {
    HELD.try_with(Arc::clone).ok()
}

/// The loans of one pool that outlive the code that runs now, from the inside out.
pub(in crate::pool) fn of_pool(innermost: Option<&Arc<HeldLoan>>, pool: u64) -> impl Iterator<Item = HoldToken> {
    std::iter::successors(innermost, |held| held.outer.as_ref())
        .map(|held| held.token)
        .filter(move |token| token.pool == pool)
}

/// One state of a pool; all numbers belong to the same moment.
///
/// Always true: `total_acquired - total_released == active_connections` and
/// `active_connections + idle_connections == total_connections`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Connections that are open and in service.
    pub total_connections: u32,
    /// Connections that are lent, or are being put in order after having been lent.
    pub active_connections: u32,
    /// Connections that wait to be lent.
    pub idle_connections: u32,
    /// Calls that wait for a connection.
    pub waiting: u32,
    /// Loans so far.
    pub total_acquired: u64,
    /// Loans that are over.
    pub total_released: u64,
    /// Calls that got no connection within the acquire timeout.
    pub total_timeouts: u64,
    /// Failed attempts to connect, failed health checks, and connections that came back broken.
    pub total_errors: u64,
    /// Calls refused because waiting could never have ended.
    pub total_deadlocks: u64,
    /// Loans that had to wait for a free connection first.
    pub total_waited: u64,
    /// Connections opened so far.
    pub total_opened: u64,
}
