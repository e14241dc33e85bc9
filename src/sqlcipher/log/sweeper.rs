//! The thread that ends kept transactions which nobody uses.
//!
//! One for the process, asleep while nothing is kept. It is no task of a runtime, because a runtime may be blocked by
//! its user, or end, and a transaction must not stay open for that.

use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::lock::{Lock, foreign};

/// A transaction that nobody used for one such interval is ended in the next.
const INTERVAL: Duration = Duration::from_millis(4);

/// What keeps transactions, and is asked by the thread to end those that nobody uses.
pub(super) trait Swept: Send + Sync {
    /// Says whether it has to be asked again.
    fn look(&self) -> bool;
}

#[derive(Default)]
struct Orders {
    new: Lock<Vec<Weak<dyn Swept>>>,
    thread: OnceLock<Thread>,
}

/// Has the readers of a database looked after, until none of them keeps a transaction.
pub(super) fn send_for(snapshots: Weak<dyn Swept>) {
    static ORDERS: OnceLock<Arc<Orders>> = OnceLock::new();
    let orders = ORDERS.get_or_init(Arc::default);
    orders.new.lock().push(snapshots);
    foreign();
    if orders.thread.get().is_none() {
        let taken = Arc::clone(orders);
        match thread::Builder::new().name("strongroom-sweeper".into()).spawn(move || sweep(&taken)) {
            // Two may have begun at once; both share the work.
            Ok(started) => drop(orders.thread.set(started.thread().clone())),
            Err(error) => tracing::warn!(%error, "no thread to end read transactions; they end with the next read"),
        }
    }
    if let Some(thread) = orders.thread.get() {
        thread.unpark();
    }
}

fn sweep(orders: &Orders) {
    let mut kept: Vec<Weak<dyn Swept>> = Vec::new();
    loop {
        kept.append(&mut orders.new.lock());
        if kept.is_empty() {
            thread::park();
            continue;
        }
        thread::sleep(INTERVAL);
        kept.retain(|snapshots| snapshots.upgrade().is_some_and(|snapshots| snapshots.look()));
    }
}
