//! The gate at process exit.
//!
//! libcrypto and SQLCipher free their globals when the process exits; a thread that is inside one of them at that moment
//! crashes. Every job there therefore holds a [`Pass`]. The handler that runs at exit closes the gate, asks running jobs to
//! stop, and waits until they are out; who comes later is parked.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

/// A thread raises a count and then looks here; the exit writes here and then looks at the counts. Neither may miss the
/// other, which is what `SeqCst` on all four is for: on ARM, too, a store-release is not overtaken by a load-acquire behind
/// it. What a thread does inside stands behind its look, and before the lowering of its count (release), which the exit reads
/// (acquire). [`is_closed`] alone decides nothing, and is `Relaxed`: a job that sees it late stops late.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// How many threads are inside. A thread counts at one place for good: a single count would travel between the cores with
/// every read. Where there are more threads than places, some share one.
static PLACES: [PlaceCount; 128] = [const { PlaceCount(AtomicUsize::new(0)) }; 128];

/// How long the exit waits for jobs to stop: they look at [`is_closed`] every few microseconds, and a single system
/// call that takes longer than this is a disk that does not answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Alone in its cache lines.
#[repr(align(128))]
struct PlaceCount(AtomicUsize);

/// What a thread knows of itself.
struct Mine {
    place: Cell<Option<&'static AtomicUsize>>,
    /// How many passes it has.
    passes: Cell<usize>,
}

thread_local! {
    static MINE: Mine = const { Mine { place: Cell::new(None), passes: Cell::new(0) } };
}

impl Mine {
    fn count(&self) -> &'static AtomicUsize {
        self.place.get().unwrap_or_else(|| {
            let place = new_place();
            self.place.set(Some(place));
            place
        })
    }
}

/// Calls `look` with what this thread knows of itself. One that is ending may have lost that on some systems; it counts at the
/// first place, each of its passes.
fn with_mine<T>(look: impl Fn(&Mine) -> T) -> T {
    let ending = || Mine { place: Cell::new(Some(&PLACES[0].0)), passes: Cell::new(0) };
    MINE.try_with(&look).unwrap_or_else(|_| look(&ending()))
}

#[cold]
fn new_place() -> &'static AtomicUsize {
    // Which place a thread has does not matter, so neither does the order.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    #[cfg(unix)]
    listen();
    &PLACES[NEXT.fetch_add(1, Relaxed) % PLACES.len()].0
}

/// A child of a fork has one thread, and the counts of all.
#[cfg(unix)]
fn listen() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: `in_child` is a plain function that lives as long as the process and only touches atomics, and what its
        // thread knows of itself.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}

#[cfg(unix)]
extern "C" fn in_child() {
    for place in &PLACES {
        place.0.store(0, SeqCst);
    }
    with_mine(|mine| {
        if mine.passes.get() > 0 {
            mine.count().store(1, SeqCst);
        }
    });
}

/// Registers the handler. Call after the first use of each library: handlers run in reverse order. Any of them closes the
/// gate.
pub(crate) fn install() {
    #[cfg(windows)]
    stay();
    // SAFETY: `at_exit` is a plain function without unwinding paths that lives as long as the process.
    let code = unsafe { libc::atexit(at_exit) };
    if code != 0 {
        tracing::warn!("the process takes no exit handler; close databases before it ends");
    }
}

/// Keeps the library (DLL) that this code is in, if it is in one, in memory: threads of this crate sleep there for good, and
/// jobs may run. OpenSSL asks for the same where it is compiled in; SQLite and the system's libraries do not.
#[cfg(windows)]
fn stay() {
    use windows_sys::Win32::System::LibraryLoader::{
        GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_PIN, GetModuleHandleExW,
    };

    let flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN;
    let mut module = std::ptr::null_mut();
    // SAFETY: with this flag the name is an address of the module, and `module` is there to be written to.
    if unsafe { GetModuleHandleExW(flags, (at_exit as extern "C" fn()) as *const u16, &mut module) } == 0 {
        tracing::warn!("the library can be unloaded while its threads run; close databases before that");
    }
}

/// Permission to be inside a library, for the thread that asked.
#[derive(Debug)]
pub(crate) struct Pass(PhantomData<*const ()>);

/// Enters. Once the process is exiting this never returns, unless the thread is inside already.
pub(crate) fn enter() -> Pass {
    with_mine(|mine| {
        let passes = mine.passes.get();
        mine.passes.set(passes + 1);
        if passes > 0 {
            return;
        }
        mine.count().fetch_add(1, SeqCst);
        if CLOSED.load(SeqCst) {
            mine.count().fetch_sub(1, SeqCst);
            loop {
                std::thread::park();
            }
        }
    });
    Pass(PhantomData)
}

impl Drop for Pass {
    fn drop(&mut self) {
        with_mine(|mine| {
            let passes = mine.passes.get().saturating_sub(1);
            mine.passes.set(passes);
            if passes == 0 {
                mine.count().fetch_sub(1, SeqCst);
            }
        });
    }
}

/// Whether the process is exiting; running jobs ask this and stop.
pub(crate) fn is_closed() -> bool {
    CLOSED.load(Relaxed)
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
    // The threads that were inside have ended where they stood, perhaps with a lock.
    if has_lost_threads() {
        return;
    }
    // `exit` may have been called inside a job, which must not wait for itself.
    let own = with_mine(|mine| usize::from(mine.passes.get() > 0));
    let inside = || PLACES.iter().map(|place| place.0.load(SeqCst)).sum::<usize>();
    let patience = Instant::now() + PATIENCE;
    while inside() > own && Instant::now() < patience {
        std::thread::sleep(Duration::from_micros(200));
    }
}
