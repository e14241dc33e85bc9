//! Whether what was written to a disk that failed is still in doubt.
//!
//! Failures are counted, and to settle them says up to which one: a failure that comes while an earlier one is being made
//! good stays. A flag would lose it.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Failures, and those that were made good.
///
/// Both counts only grow, and what was settled was counted before, so that a reader of `failed` first finds it settled only
/// if it is. The order of those two reads needs `SeqCst`, or at least acquire.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    failed: AtomicU64,
    settled: AtomicU64,
}

impl Doubts {
    /// Something failed. Gives its number; true: nothing was in doubt before.
    pub(super) fn raise(&self) -> (u64, bool) {
        let before = self.failed.fetch_add(1, SeqCst);
        (before + 1, self.settled.load(SeqCst) >= before)
    }

    /// The number of the last failure, if it is not settled.
    pub(super) fn last(&self) -> Option<u64> {
        let failed = self.failed.load(SeqCst);
        (self.settled.load(SeqCst) < failed).then_some(failed)
    }

    /// What failed up to this number has been made good since.
    pub(super) fn settle(&self, number: u64) {
        self.settled.fetch_max(number, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_comes_while_an_earlier_one_is_made_good_stays() {
        let doubts = Doubts::default();
        assert_eq!(doubts.last(), None);
        assert_eq!(doubts.raise(), (1, true));
        let begun = doubts.last().unwrap();
        assert_eq!(doubts.raise(), (2, false));
        doubts.settle(begun);
        assert_eq!(doubts.last(), Some(2));
        doubts.settle(2);
        // A commit that began before is late.
        doubts.settle(begun);
        assert_eq!(doubts.last(), None);
        assert_eq!(doubts.raise(), (3, true));
    }
}
