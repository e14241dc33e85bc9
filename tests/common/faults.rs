//! Faults of the disk, and a record of what reached it.
//!
//! This program has its own `fsync`, `pwrite`, `ftruncate`, `pread`, `open`, `unlink`, `mmap` and `fcntl`, which SQLite and
//! Rust's library find before the system's. They do what the system's do, but for chosen files they fail on request, or write down what
//! was done (`record.rs`). A record is played back as a disk after a power failure (`states.rs`).
#![allow(unsafe_code, reason = "functions of the C library are replaced and called")]
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

#[path = "record.rs"]
pub mod record;
#[path = "states.rs"]
pub mod states;

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Sync,
    Write,
    Read,
    Open,
    Truncate,
    Delete,
    /// Of the log's index, which SQLite and this library read in memory.
    Map,
    Lock,
}

struct Rule {
    file: PathBuf,
    call: Call,
    /// So many calls work first.
    skip: usize,
    /// So many fail then.
    fails: usize,
    errno: c_int,
    met: usize,
}

impl Rule {
    fn is_for(&self, file: &Path) -> bool {
        match self.file.to_string_lossy().strip_suffix('*') {
            Some(start) => file.to_string_lossy().starts_with(start),
            None => self.file == file,
        }
    }
}

#[derive(Default)]
struct Plan {
    rules: Vec<Rule>,
}

static PLAN: Mutex<Plan> = Mutex::new(Plan { rules: Vec::new() });
static ARMED: AtomicBool = AtomicBool::new(false);
static QUICK: AtomicBool = AtomicBool::new(false);
static SLOW: AtomicU64 = AtomicU64::new(0);

fn plan() -> MutexGuard<'static, Plan> {
    PLAN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at the calls from now on, if there is anything to do with them.
fn arm() {
    let plan = plan();
    ARMED.store(!plan.rules.is_empty() || record::is_on(), SeqCst);
}

/// No sync of this process reaches the disk from now on: they are only recorded, or fail. The disk stays dry, and a
/// thousand power failures take seconds.
pub fn quick() {
    QUICK.store(true, SeqCst);
}

/// Each sync takes so many milliseconds more from now on: the disk of this machine may be faster than what the test needs.
pub fn slow(milliseconds: u64) {
    SLOW.store(milliseconds, SeqCst);
}

/// Has calls on `file`, or with a `*` at the end on all whose paths begin so, fail with `errno`, after `skip` of them, so many times.
pub fn fail(file: &Path, call: Call, skip: usize, fails: usize, errno: c_int) {
    plan().rules.push(Rule { file: file.into(), call, skip, fails, errno, met: 0 });
    arm();
}

/// How many calls on a file failed so far.
pub fn failed(file: &Path) -> usize {
    let failed = |rule: &Rule| rule.met.saturating_sub(rule.skip).min(rule.fails);
    plan().rules.iter().filter(|rule| rule.file == file).map(failed).sum()
}

/// Ends the faults of a file and says how many calls failed.
pub fn heal(file: &Path) -> usize {
    let count = failed(file);
    plan().rules.retain(|rule| rule.file != file);
    arm();
    count
}

fn file_of(fd: c_int) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()
}

/// What a call is to fail with.
fn fault(file: &Path, call: Call) -> Option<c_int> {
    let mut plan = plan();
    let rule = plan.rules.iter_mut().find(|rule| rule.call == call && rule.is_for(file))?;
    rule.met += 1;
    (rule.met > rule.skip && rule.met <= rule.skip.saturating_add(rule.fails)).then_some(rule.errno)
}

fn refuse(errno: c_int) -> c_int {
    // SAFETY: the address of this thread's number of the last error.
    unsafe { *libc::__errno_location() = errno };
    -1
}

fn sync(fd: c_int, number: c_long) -> c_int {
    // SAFETY: the caller's own argument.
    let call = || c_int::try_from(unsafe { libc::syscall(number, fd) }).unwrap();
    let call = || if QUICK.load(SeqCst) { 0 } else { call() };
    std::thread::sleep(Duration::from_millis(SLOW.load(SeqCst)));
    let Some(file) = ARMED.load(SeqCst).then(|| file_of(fd)).flatten() else { return call() };
    let fault = fault(&file, Call::Sync);
    let begun = record::syncing(&file);
    let done = if fault.is_some() { -1 } else { call() };
    record::synced(&file, fd, begun, done == 0);
    fault.map_or(done, refuse)
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fsync)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fdatasync)
}

#[unsafe(no_mangle)]
extern "C" fn pwrite(fd: c_int, bytes: *const c_void, length: usize, at: libc::off_t) -> isize {
    // SAFETY: the caller's own arguments.
    let call = || isize::try_from(unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, length, at) }).unwrap();
    let Some(file) = ARMED.load(SeqCst).then(|| file_of(fd)).flatten() else { return call() };
    if let Some(errno) = fault(&file, Call::Write) {
        return refuse(errno) as isize;
    }
    let done = call();
    if let (Ok(done), Ok(at)) = (usize::try_from(done), usize::try_from(at)) {
        // SAFETY: the system has just read as many bytes from there.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), done) };
        record::wrote(&file, fd, at, bytes);
    }
    done
}

#[unsafe(no_mangle)]
extern "C" fn write(fd: c_int, bytes: *const c_void, length: usize) -> isize {
    if ARMED.load(SeqCst) && file_of(fd).is_some_and(|file| file.is_file()) {
        // SAFETY: no memory is concerned.
        let at = unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) };
        let written = pwrite(fd, bytes, length, at);
        // SAFETY: the same.
        unsafe { libc::lseek(fd, libc::off_t::try_from(written.max(0)).unwrap(), libc::SEEK_CUR) };
        return written;
    }
    // SAFETY: the caller's own arguments.
    isize::try_from(unsafe { libc::syscall(libc::SYS_write, fd, bytes, length) }).unwrap()
}

#[unsafe(no_mangle)]
extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, length: usize, at: libc::off_t) -> isize {
    pwrite(fd, bytes, length, at)
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate(fd: c_int, size: libc::off_t) -> c_int {
    let file = ARMED.load(SeqCst).then(|| file_of(fd)).flatten();
    if let Some(errno) = file.as_ref().and_then(|file| fault(file, Call::Truncate)) {
        return refuse(errno);
    }
    // SAFETY: the caller's own arguments.
    let done = c_int::try_from(unsafe { libc::syscall(libc::SYS_ftruncate, fd, size) }).unwrap();
    if let (0, Some(file), Ok(size)) = (done, file, usize::try_from(size)) {
        record::truncated(&file, fd, size);
    }
    done
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate64(fd: c_int, size: libc::off_t) -> c_int {
    ftruncate(fd, size)
}

#[unsafe(no_mangle)]
extern "C" fn pread64(fd: c_int, bytes: *mut c_void, length: usize, at: libc::off_t) -> isize {
    if ARMED.load(SeqCst)
        && let Some(errno) = file_of(fd).and_then(|file| fault(&file, Call::Read))
    {
        return refuse(errno) as isize;
    }
    // SAFETY: the caller's own arguments.
    let read = unsafe { libc::syscall(libc::SYS_pread64, fd, bytes, length, at) };
    isize::try_from(read).unwrap()
}

/// The path of a call, if anything is to be done with it.
fn path_of(path: *const c_char) -> Option<PathBuf> {
    // SAFETY: the caller's own string.
    ARMED.load(SeqCst).then(|| PathBuf::from(&*unsafe { CStr::from_ptr(path) }.to_string_lossy()))
}

#[unsafe(no_mangle)]
extern "C" fn open64(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    if let Some(file) = path_of(path) {
        if let Some(errno) = fault(&file, Call::Open) {
            return refuse(errno);
        }
        if flags & libc::O_CREAT != 0 {
            record::named(&file);
        }
    }
    // SAFETY: the caller's own arguments.
    c_int::try_from(unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags | libc::O_LARGEFILE, mode) })
        .unwrap()
}

#[unsafe(no_mangle)]
extern "C" fn unlink(path: *const c_char) -> c_int {
    let file = path_of(path);
    if let Some(errno) = file.as_ref().and_then(|file| fault(file, Call::Delete)) {
        return refuse(errno);
    }
    // SAFETY: the caller's own argument.
    let done = unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0) };
    if let (0, Some(file)) = (done, file) {
        record::named(&file);
    }
    c_int::try_from(done).unwrap()
}

#[unsafe(no_mangle)]
extern "C" fn mmap64(
    near: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    at: libc::off_t,
) -> *mut c_void {
    if fd >= 0
        && ARMED.load(SeqCst)
        && let Some(errno) = file_of(fd).and_then(|file| fault(&file, Call::Map))
    {
        refuse(errno);
        return libc::MAP_FAILED;
    }
    // SAFETY: the caller's own arguments.
    let mapped = unsafe { libc::syscall(libc::SYS_mmap, near, length, protection, flags, fd, at) };
    mapped as *mut c_void
}

/// SQLite's way to the system; the last argument is a number or an address, as the command has it.
#[unsafe(no_mangle)]
extern "C" fn fcntl64(fd: c_int, command: c_int, argument: c_long) -> c_int {
    if command == libc::F_SETLK && ARMED.load(SeqCst) {
        // SAFETY: this command has the address of a lock.
        let kind = unsafe { (*(argument as *const libc::flock)).l_type };
        if c_int::from(kind) != libc::F_UNLCK
            && let Some(errno) = file_of(fd).and_then(|file| fault(&file, Call::Lock))
        {
            return refuse(errno);
        }
    }
    // SAFETY: the caller's own arguments.
    c_int::try_from(unsafe { libc::syscall(libc::SYS_fcntl, fd, command, argument) }).unwrap()
}
