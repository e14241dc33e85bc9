//! Whether connections that come back may lie idle.

use super::sync::{AtomicUsize, SeqCst};

/// How many calls wait for a lane, and whether it is closed; in cache lines of its own, because every return reads it.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Demand(AtomicUsize);

const CLOSED: usize = 1 << (usize::BITS - 1);

impl Demand {
    /// Nobody waits, and the lane is open.
    pub(super) fn is_none(&self) -> bool {
        self.0.load(SeqCst) == 0
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.0.load(SeqCst) & !CLOSED != 0
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.load(SeqCst) & CLOSED != 0
    }

    pub(super) fn rise(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    pub(super) fn fall(&self) {
        self.0.fetch_sub(1, SeqCst);
    }

    /// Nobody waits any more, and nobody will.
    pub(super) fn close(&self) {
        self.0.store(CLOSED, SeqCst);
    }
}
