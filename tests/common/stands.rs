//! Calls of the system that stand still in the middle of something, until somebody else has done what comes between.
//!
//! This program has its own `unlink`, `rename`, `linkat` and `flock`, which Rust's library finds before the system's. A call that stands is let go on by [`Stand::go_on`], or by whoever would have to wait for a lock: that one then waits for
//! the call.
#![allow(unsafe_code, reason = "functions of the C library are replaced and called")]
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

use std::ffi::{CStr, c_char, c_int};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandsAt {
    Unlink,
    RenameFrom,
    RenameTo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    NotYet,
    Standing,
    GoneOn,
}

/// A call that is to stand still, once.
#[derive(Debug)]
pub struct Stand {
    at: StandsAt,
    /// How its path ends.
    name: &'static str,
    stage: Mutex<Stage>,
    changed: Condvar,
}

static STAND: Mutex<Option<Arc<Stand>>> = Mutex::new(None);

/// A directory on a file system that has neither hard links nor locks.
static POOR: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Has the directory be on a file system that has neither hard links nor locks.
pub fn poor(directory: &Path) {
    *POOR.lock().unwrap_or_else(PoisonError::into_inner) = Some(directory.to_owned());
}

fn is_poor(path: &Path) -> bool {
    POOR.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|poor| path.starts_with(poor))
}

fn refuse(errno: c_int) -> c_int {
    // SAFETY: the address of this thread's number of the last error.
    unsafe { *libc::__errno_location() = errno };
    -1
}

impl Stand {
    pub fn at(at: StandsAt, name: &'static str) -> Arc<Self> {
        let stand = Arc::new(Self { at, name, stage: Mutex::new(Stage::NotYet), changed: Condvar::new() });
        *STAND.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&stand));
        stand
    }

    fn to(&self, stage: Stage) {
        *self.stage.lock().unwrap() = stage;
        self.changed.notify_all();
    }

    fn wait(&self, until: impl Fn(Stage) -> bool) -> Stage {
        *self.changed.wait_while(self.stage.lock().unwrap(), |stage| !until(*stage)).unwrap()
    }

    /// Waits until the call stands still.
    pub fn reached(&self) {
        assert!(self.reached_or_over(), "the call never came");
    }

    /// The same where it need not come: whether it stands still, and not that somebody has let it go on.
    pub fn reached_or_over(&self) -> bool {
        self.wait(|stage| stage != Stage::NotYet) == Stage::Standing
    }

    pub fn go_on(&self) {
        self.to(Stage::GoneOn);
    }
}

fn stand(at: StandsAt, path: *const c_char) {
    // SAFETY: the caller's own string.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    let mut kept = STAND.lock().unwrap_or_else(PoisonError::into_inner);
    let stand = kept.clone().filter(|stand| stand.at == at && path.ends_with(stand.name.as_bytes()));
    let Some(stand) = stand.filter(|stand| *stand.stage.lock().unwrap() == Stage::NotYet) else { return };
    stand.to(Stage::Standing);
    drop(kept);
    stand.wait(|stage| stage == Stage::GoneOn);
    kept = STAND.lock().unwrap_or_else(PoisonError::into_inner);
    drop(kept.take_if(|kept| Arc::ptr_eq(kept, &stand)));
}

#[unsafe(no_mangle)]
extern "C" fn unlink(path: *const c_char) -> c_int {
    stand(StandsAt::Unlink, path);
    // SAFETY: the caller's own argument.
    c_int::try_from(unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0) }).unwrap()
}

#[unsafe(no_mangle)]
extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    stand(StandsAt::RenameFrom, from);
    stand(StandsAt::RenameTo, to);
    let here = libc::AT_FDCWD;
    // SAFETY: the caller's own arguments.
    c_int::try_from(unsafe { libc::syscall(libc::SYS_renameat2, here, from, here, to, 0) }).unwrap()
}

#[unsafe(no_mangle)]
extern "C" fn linkat(a: c_int, from: *const c_char, b: c_int, to: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's own string.
    if is_poor(Path::new(&*unsafe { CStr::from_ptr(to) }.to_string_lossy())) {
        return refuse(libc::EPERM);
    }
    // SAFETY: the caller's own arguments.
    c_int::try_from(unsafe { libc::syscall(libc::SYS_linkat, a, from, b, to, flags) }).unwrap()
}

#[unsafe(no_mangle)]
extern "C" fn flock(fd: c_int, operation: c_int) -> c_int {
    if std::fs::read_link(format!("/proc/self/fd/{fd}")).is_ok_and(|file| is_poor(&file)) {
        return refuse(libc::ENOTSUP);
    }
    // SAFETY: the caller's own arguments.
    let call = |operation: c_int| c_int::try_from(unsafe { libc::syscall(libc::SYS_flock, fd, operation) }).unwrap();
    if operation & (libc::LOCK_NB | libc::LOCK_UN) != 0 || call(operation | libc::LOCK_NB) == 0 {
        return if operation & (libc::LOCK_NB | libc::LOCK_UN) != 0 { call(operation) } else { 0 };
    }
    if let Some(stand) = STAND.lock().unwrap_or_else(PoisonError::into_inner).clone() {
        stand.go_on();
    }
    call(operation)
}
