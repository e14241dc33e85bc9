//! Short locks, under which no foreign code runs.
//!
//! To spawn a task, send an answer, wake, or drop a future, may run code that comes back to the same lock: on a runtime
//! that is ending, `spawn` drops the task on the spot. So a [`Lock`] is held for a look or a change of plain data, and
//! every place that runs foreign code says so by [`foreign`], which in debug builds panics under a lock.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

thread_local! {
    /// How many this thread holds.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// A mutex for plain data; a panic under it leaves nothing half-done.
#[derive(Default)]
pub(crate) struct Lock<T>(Mutex<T>);

pub(crate) struct Guard<'a, T> {
    data: MutexGuard<'a, T>,
    _held: Marked,
}

impl<T> Lock<T> {
    pub(crate) const fn new(data: T) -> Self {
        Self(Mutex::new(data))
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        Guard { data: self.0.lock().unwrap_or_else(PoisonError::into_inner), _held: Marked::new() }
    }
}

/// Says that foreign code runs next.
#[track_caller]
pub(crate) fn foreign() {
    debug_assert!(HELD.try_with(Cell::get).unwrap_or(0) == 0, "foreign code would run under a lock");
}

struct Marked;

impl Marked {
    fn new() -> Self {
        if cfg!(debug_assertions) {
            HELD.try_with(|held| held.set(held.get() + 1)).ok();
        }
        Self
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            HELD.try_with(|held| held.set(held.get() - 1)).ok();
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_code_may_run_before_and_after_a_lock_and_not_under_it() {
        let (one, two) = (Lock::new(1), Lock::new(2));
        foreign();
        let guards = (one.lock(), two.lock());
        assert_eq!(*guards.0 + *guards.1, 3);
        drop(guards.0);
        assert_eq!(std::panic::catch_unwind(foreign).is_err(), cfg!(debug_assertions));
        drop(guards.1);
        foreign();
    }
}
