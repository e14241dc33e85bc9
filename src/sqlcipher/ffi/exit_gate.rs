//! The gate at process exit.
//!
//! SQLCipher frees its globals when the process exits; a thread that is inside the library at that moment crashes.
//! Every job on a connection therefore holds a [`Pass`]. The handler that runs at exit closes the gate, asks running
//! jobs to stop, and waits until they are out; who comes later is parked.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use super::fork;

/// A thread raises its count and then looks here; the exit writes here and then looks at the counts. Neither may miss the
/// other, which is what `SeqCst` on all four is for: on ARM, too, a store-release is not overtaken by a load-acquire behind
/// it. What a thread does inside stands behind its look, and before the lowering of its count (release), which the exit reads
/// (acquire). [`is_closed`] alone decides nothing, and is `Relaxed`: a job that sees it late stops late.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// How often each thread is inside. Each has a counter of its own: one for all would travel between the cores with
/// every read.
static THREADS: Mutex<Vec<Arc<Counter>>> = Mutex::new(Vec::new());

/// Counts for threads that are ending and have given their counter up.
static ENDING: Counter = Counter(AtomicUsize::new(0));

/// How long the exit waits for jobs to stop: they look at [`is_closed`] every few microseconds, and a single system
/// call that takes longer than this is a disk that does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Alone in its cache lines.
#[derive(Default)]
#[repr(align(128))]
struct Counter(AtomicUsize);

/// A thread's own counter.
struct Mine(Arc<Counter>);

thread_local! {
    static MINE: Mine = Mine::default();
}

fn threads() -> MutexGuard<'static, Vec<Arc<Counter>>> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Mine {
    fn default() -> Self {
        let mine = Arc::default();
        // One of the parent's threads may have had the list at the fork; nobody waits for threads at the exit then.
        if !fork::has_inherited() {
            threads().push(Arc::clone(&mine));
        }
        Self(mine)
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        if !fork::has_inherited() {
            threads().retain(|other| !Arc::ptr_eq(other, &self.0));
        }
    }
}

/// Calls `look` with this thread's counter.
fn with_mine<T>(look: impl Fn(&AtomicUsize) -> T) -> T {
    MINE.try_with(|mine| look(&mine.0.0)).unwrap_or_else(|_| look(&ENDING.0))
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

/// Permission to be inside the library, for the thread that asked.
#[derive(Debug)]
pub(in super::super) struct Pass(PhantomData<*const ()>);

/// Enters. Once the process is exiting this never returns, unless the thread is inside already.
pub(in super::super) fn enter() -> Pass {
    let outer = with_mine(|mine| mine.fetch_add(1, SeqCst));
    if CLOSED.load(SeqCst) && outer == 0 {
        with_mine(|mine| mine.fetch_sub(1, SeqCst));
        loop {
            std::thread::park();
        }
    }
    Pass(PhantomData)
}

impl Drop for Pass {
    fn drop(&mut self) {
        with_mine(|mine| mine.fetch_sub(1, SeqCst));
    }
}

/// Whether the process is exiting; running jobs ask this and stop.
pub(in super::super) fn is_closed() -> bool {
    CLOSED.load(std::sync::atomic::Ordering::Relaxed)
}

/// Whether Windows has ended all other threads, as it does before the exit handlers of a library (DLL) run.
///
/// Source: "Dynamic-Link Library Best Practices", on the end of a process.
#[cfg(windows)]
fn has_lost_threads() -> bool {
    #[link(name = "ntdll")]
    unsafe extern "system" {
        safe fn RtlDllShutdownInProgress() -> u8;
    }
    RtlDllShutdownInProgress() != 0
}

#[cfg(not(windows))]
fn has_lost_threads() -> bool {
    false
}

extern "C" fn at_exit() {
    CLOSED.store(true, SeqCst);
    // The threads that were inside are the parent's, or have ended where they stood, perhaps with a lock.
    if fork::has_inherited() || has_lost_threads() {
        return;
    }
    let inside = || threads().iter().map(|thread| thread.0.load(SeqCst)).sum::<usize>() + ENDING.0.load(SeqCst);
    // `exit` may have been called inside a job, which must not wait for itself.
    let mine = MINE.try_with(|mine| mine.0.0.load(SeqCst)).unwrap_or(0);
    let patience = Instant::now() + PATIENCE;
    while inside() > mine && Instant::now() < patience {
        std::thread::sleep(Duration::from_micros(200));
    }
}
