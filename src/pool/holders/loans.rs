//! The loans of one connection, and who has it.

use std::panic::Location;
use std::sync::Arc;

use tokio::time::Instant;

use super::stats::PoolStats;
use crate::connector::Canceller;
use crate::lock::{Guard, Lock};

/// The lane of the writer, or the only one.
pub(in crate::pool) const MAIN: LaneId = 0;
/// The lane of the readers.
pub(in crate::pool) const READERS: LaneId = 1;
/// Which lane: an index.
pub(in crate::pool) type LaneId = usize;

/// What is known of one connection.
pub(super) struct Entry {
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

impl Entry {
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

    /// Notes the end of a loan; whether there was one.
    pub(super) fn release(&mut self) -> bool {
        let was_lent = self.holder.take().is_some();
        self.released += u64::from(was_lent);
        was_lent
    }

    pub(super) fn leave(&mut self) {
        self.release();
        self.in_service = false;
    }
}
