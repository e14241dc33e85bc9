//! The thread that ends kept transactions which nobody uses.
//!
//! One for the process, asleep while nothing is kept. It is no task of a runtime, because a runtime may be blocked by
//! its user, or end, and a transaction must not stay open for that.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use super::snapshot::Snapshots;

/// A transaction that nobody used for one such interval is ended in the next.
const INTERVAL: Duration = Duration::from_millis(4);

#[derive(Default)]
struct Orders {
    new: Mutex<Vec<Weak<Snapshots>>>,
}

/// Has the readers of a database looked after, until none of them keeps a transaction.
pub(super) fn send_for(snapshots: &Arc<Snapshots>) {
    static ORDERS: OnceLock<(Arc<Orders>, Option<Thread>)> = OnceLock::new();
    let (orders, thread) = ORDERS.get_or_init(|| {
        let orders = Arc::new(Orders::default());
        let taken = Arc::clone(&orders);
        let started = thread::Builder::new().name("strongroom-sweeper".into()).spawn(move || sweep(&taken));
        if let Err(error) = &started {
            tracing::warn!(%error, "no thread to end read transactions; they end with the next read");
        }
        (orders, started.ok().map(|handle| handle.thread().clone()))
    });
    orders.new.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(snapshots));
    if let Some(thread) = thread {
        thread.unpark();
    }
}

fn sweep(orders: &Orders) {
    let mut kept: Vec<Weak<Snapshots>> = Vec::new();
    loop {
        kept.append(&mut orders.new.lock().unwrap_or_else(PoisonError::into_inner));
        if kept.is_empty() {
            thread::park();
            continue;
        }
        thread::sleep(INTERVAL);
        kept.retain(|snapshots| snapshots.upgrade().is_some_and(|snapshots| snapshots.look()));
    }
}
