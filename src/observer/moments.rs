//! The moments at which the last loan of this thread began and ended.
//!
//! The pool has looked at the clock then. A call that is observed begins to run where its loan begins, and mostly ends where that
//! ends, so it need not look again: each look costs some twenty nanoseconds, the fortieth part of a short read.

use std::cell::Cell;

use tokio::time::Instant;

use super::Observers;

thread_local! {
    static LAST: Cell<LoanMoments> = const { Cell::new(LoanMoments::NONE) };
}

/// The last loan of a pool that is observed. Whoever asks has to have forgotten what was before.
#[derive(Clone, Copy)]
pub(crate) struct LoanMoments {
    /// Of which pool.
    pool: usize,
    began: Option<Instant>,
    ended: Option<Instant>,
}

impl LoanMoments {
    const NONE: Self = Self { pool: 0, began: None, ended: None };

    /// Nothing that happened so far counts.
    pub(crate) fn forget() {
        LAST.set(Self::NONE);
    }

    /// A loan began.
    pub(crate) fn begin(observers: &Observers, now: Instant) {
        LAST.set(Self { pool: observers.place(), began: Some(now), ended: None });
    }

    /// A loan ended.
    pub(crate) fn end(observers: &Observers, now: Instant) {
        LAST.set(Self { pool: observers.place(), began: None, ended: Some(now) });
    }

    /// When the last one began, if nobody has asked yet and it goes on.
    pub(crate) fn take_begin() -> Option<Instant> {
        LAST.replace(Self::NONE).began
    }

    /// When the last one ended, if it was of this pool, nobody has asked yet, and none has begun since.
    pub(crate) fn take_end(observers: &Observers) -> Option<Instant> {
        let last = LAST.replace(Self::NONE);
        last.ended.filter(|_| last.pool == observers.place())
    }
}
