//! The thread that ends kept transactions which nobody uses.
//!
//! One for the process, asleep while nothing is kept. It is no task of a runtime, because a runtime may be blocked by
//! its user, or end, and a transaction must not stay open for that.

use std::process;
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

/// The process that has asked for the thread first, and what it asks of it.
static ORDERS: OnceLock<(u32, Arc<Orders>)> = OnceLock::new();

#[derive(Default)]
struct Orders {
    new: Lock<Vec<Weak<dyn Swept>>>,
    thread: OnceLock<Thread>,
}

/// Whether there is a thread, or can be one. In the child of a fork it is the parent's, and may have had the orders at the fork.
pub(crate) fn is_here() -> bool {
    ORDERS.get().is_none_or(|(process, _)| *process == process::id())
}

/// Has the readers of a database looked after, until none of them keeps a transaction. False: there is no thread.
pub(super) fn send_for(snapshots: &Weak<dyn Swept>) -> bool {
    let (_, orders) = ORDERS.get_or_init(|| (process::id(), Arc::default()));
    orders.new.lock().push(Weak::clone(snapshots));
    foreign();
    if orders.thread.get().is_none() {
        let taken = Arc::clone(orders);
        match thread::Builder::new().name("strongroom-sweeper".into()).spawn(move || sweep(&taken)) {
            // Two may have begun at once; both share the work.
            Ok(started) => drop(orders.thread.set(started.thread().clone())),
            Err(error) => tracing::warn!(%error, "no thread to end read transactions; they end with the next read"),
        }
    }
    match orders.thread.get() {
        Some(thread) => thread.unpark(),
        None => orders.new.lock().retain(|new| !Weak::ptr_eq(new, snapshots)),
    }
    orders.thread.get().is_some()
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
