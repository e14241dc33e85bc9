//! Whether this process was forked.
//!
//! SQLite forbids using a connection in a child: its locks belong to the parent, and closing it there could clear the
//! write-ahead log away under the parent. Nor may the child open the same file anew, because SQLite's list of files and
//! locks, which it has inherited, says that it holds what it does not hold. The C library tells us of a fork, so that
//! noticing one costs a look at a number and no system call.

#[cfg(unix)]
use std::sync::Once;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, fence};

// In a child, one thread is left, which runs `in_child` before anything else; threads that it starts see all that it has
// written. So `Relaxed` does for what only a child changes.

/// How many forks lie between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Databases that are open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Databases were open when a process above this one was forked.
static INHERITED: AtomicBool = AtomicBool::new(false);

/// The process in which a database was opened.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct ProcessMark(u32);

impl ProcessMark {
    /// Whether this is a child of it.
    pub(in super::super) fn has_forked(self) -> bool {
        self.0 != FORKS.load(Relaxed)
    }
}

/// The same for as long as the database is open.
#[derive(Debug)]
pub(in super::super) struct Process(ProcessMark);

impl Process {
    pub(in super::super) fn opening() -> Self {
        #[cfg(unix)]
        listen();
        OPEN.fetch_add(1, SeqCst);
        // A child gets the memory as it is at some moment: what SQLite notes of a file must not be there before the count is,
        // which the order of an atomic with plain stores behind it does not promise.
        fence(SeqCst);
        Self(ProcessMark(FORKS.load(Relaxed)))
    }

    pub(in super::super) fn mark(&self) -> ProcessMark {
        self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, SeqCst);
    }
}

/// Whether this process has inherited what SQLite knew of files and locks.
pub(in super::super) fn has_inherited() -> bool {
    INHERITED.load(Relaxed)
}

#[cfg(unix)]
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `in_child` is a plain function that lives as long as the process and only touches atomics.
        let code = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        if code != 0 {
            tracing::warn!("forks of this process will not be noticed; do not use its databases in a child");
        }
    });
}

#[cfg(unix)]
extern "C" fn in_child() {
    FORKS.fetch_add(1, Relaxed);
    if OPEN.load(SeqCst) > 0 {
        INHERITED.store(true, Relaxed);
    }
}
