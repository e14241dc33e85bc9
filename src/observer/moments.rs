//! The moments at which the last loan of this thread was asked for, began and ended.
//!
//! The pool looks at the clock when it is asked, and when a loan ends. A call that is observed mostly asks as soon as it begins, and
//! ends where its loan ends, so the two share their looks: each costs some twenty nanoseconds, the fortieth part of a short read.

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
    /// When the call that runs here began, which asks for a loan first of all.
    asked: Option<Instant>,
    began: Option<Instant>,
    ended: Option<Instant>,
}

impl LoanMoments {
    const NONE: Self = Self { pool: 0, asked: None, began: None, ended: None };

    /// Nothing that happened so far counts. If a call begins here whose first act is to ask for a loan, it asks at that moment.
    pub(crate) fn forget(asked: Option<Instant>) {
        LAST.set(Self { asked, ..Self::NONE });
    }

    /// The call does not run here any more; if it has not asked for a loan so far, it does so later.
    pub(crate) fn asks_later() {
        LAST.set(Self { asked: None, ..LAST.get() });
    }

    /// When the loan that is asked for now was asked for, if that is known.
    pub(crate) fn take_asked() -> Option<Instant> {
        let last = LAST.get();
        LAST.set(Self { asked: None, ..last });
        last.asked
    }

    /// A loan began.
    pub(crate) fn begin(observers: &Observers, now: Instant) {
        LAST.set(Self { pool: observers.place(), began: Some(now), ..Self::NONE });
    }

    /// A loan ended.
    pub(crate) fn end(observers: &Observers, now: Instant) {
        LAST.set(Self { pool: observers.place(), ended: Some(now), ..Self::NONE });
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
