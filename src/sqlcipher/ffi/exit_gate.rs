//! The gate at process exit.
//!
//! SQLCipher frees its globals when the process exits; a thread that is inside the library at that moment crashes.
//! Every job on a connection therefore holds a [`Pass`]. The handler that runs at exit closes the gate, asks running
//! jobs to stop, and waits until they are out; who comes later is parked.

use std::cell::Cell;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

static CLOSED: AtomicBool = AtomicBool::new(false);
static INSIDE: AtomicUsize = AtomicUsize::new(0);

/// How long the exit waits for jobs to stop: they look at [`is_closed`] every few microseconds, and a single system
/// call that takes longer than this is a disk that does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

thread_local! {
    /// Passes held by this thread, so that `exit` called inside a job does not wait for itself.
    static MINE: Cell<usize> = const { Cell::new(0) };
}

/// Registers the handler. Call after the first use of SQLCipher: handlers run in reverse order.
pub(in super::super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `at_exit` is a plain function without unwinding paths that lives as long as the process.
        let code = unsafe { libc::atexit(at_exit) };
        if code != 0 {
            tracing::warn!("the process takes no exit handler; close databases before it ends");
        }
    });
}

/// Permission to be inside the library.
#[derive(Debug)]
pub(in super::super) struct Pass(());

/// Enters. Once the process is exiting this never returns.
pub(in super::super) fn enter() -> Pass {
    INSIDE.fetch_add(1, SeqCst);
    if CLOSED.load(SeqCst) && MINE.get() == 0 {
        INSIDE.fetch_sub(1, SeqCst);
        loop {
            std::thread::park();
        }
    }
    MINE.set(MINE.get() + 1);
    Pass(())
}

impl Drop for Pass {
    fn drop(&mut self) {
        MINE.set(MINE.get() - 1);
        INSIDE.fetch_sub(1, SeqCst);
    }
}

/// Whether the process is exiting; running jobs ask this and stop.
pub(in super::super) fn is_closed() -> bool {
    CLOSED.load(std::sync::atomic::Ordering::Relaxed)
}

extern "C" fn at_exit() {
    CLOSED.store(true, SeqCst);
    let mine = MINE.try_with(Cell::get).unwrap_or(0);
    let patience = Instant::now() + PATIENCE;
    while INSIDE.load(SeqCst) > mine && Instant::now() < patience {
        std::thread::sleep(Duration::from_micros(200));
    }
}
