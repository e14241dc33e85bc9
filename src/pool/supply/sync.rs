//! What the supply is made of; the model has its own.

pub(super) use std::sync::Arc;
pub(super) use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

pub(super) use crate::lock::{Lock, foreign};

/// Numbers the threads of the process as they come. That no two get the same follows from counting in one step, whatever the
/// order; a thread reads its own number only.
pub(super) fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, SeqCst);
    }
    NUMBER.try_with(|number| *number).unwrap_or(0)
}
