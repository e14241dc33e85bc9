//! Faults of the disk, and a record of what reached it.
//!
//! This program has its own `fsync`, `pwrite`, `ftruncate`, `pread` and `open`, which SQLite and Rust's library find before the system's.
//! They do what the system's do, but for chosen files they fail on request, or write down what was done. A record is
//! played back as a disk that may lose what was not synced, and for good what was written before a sync that failed.
#![allow(unsafe_code, reason = "functions of the C library are replaced and called")]
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Sync,
    Write,
    Read,
    Open,
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

#[derive(Clone, Debug)]
pub enum Event {
    Write(PathBuf, usize, Vec<u8>),
    Truncate(PathBuf, usize),
    Sync(PathBuf, bool),
}

#[derive(Default)]
struct Plan {
    rules: Vec<Rule>,
    recorded: Option<(PathBuf, Vec<Event>)>,
}

static PLAN: Mutex<Plan> = Mutex::new(Plan { rules: Vec::new(), recorded: None });
static ARMED: AtomicBool = AtomicBool::new(false);

fn plan() -> MutexGuard<'static, Plan> {
    PLAN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has calls on `file`, or with a `*` at the end on all whose paths begin so, fail with `errno`, after `skip` of them, so many times.
pub fn fail(file: &Path, call: Call, skip: usize, fails: usize, errno: c_int) {
    plan().rules.push(Rule { file: file.into(), call, skip, fails, errno, met: 0 });
    ARMED.store(true, SeqCst);
}

/// Ends the faults of a file and says how many calls failed.
pub fn heal(file: &Path) -> usize {
    let mut plan = plan();
    let failed = |rule: &Rule| rule.met.saturating_sub(rule.skip).min(rule.fails);
    let count = plan.rules.iter().filter(|rule| rule.file == file).map(failed).sum();
    plan.rules.retain(|rule| rule.file != file);
    count
}

/// Records what is done to files in a directory from now on.
pub fn record(directory: &Path) {
    plan().recorded = Some((directory.into(), Vec::new()));
    ARMED.store(true, SeqCst);
}

pub fn recorded() -> Vec<Event> {
    plan().recorded.as_ref().map(|(_, events)| events.clone()).unwrap_or_default()
}

/// How many events have been recorded.
pub fn position() -> usize {
    plan().recorded.as_ref().map_or(0, |(_, events)| events.len())
}

/// Writes the files as a power failure after these events might leave them.
pub fn crash(events: &[Event], into: &Path, random: &mut fastrand::Rng) {
    let mut disk: BTreeMap<PathBuf, (Vec<u8>, Vec<&Event>)> = BTreeMap::new();
    for event in events {
        match event {
            Event::Write(file, ..) | Event::Truncate(file, _) => {
                disk.entry(file.clone()).or_default().1.push(event);
            }
            Event::Sync(file, fine) => {
                let (image, pending) = disk.entry(file.clone()).or_default();
                settle(image, pending, |_| *fine || random.bool());
            }
        }
    }
    for (file, (mut image, mut pending)) in disk {
        settle(&mut image, &mut pending, |_| random.bool());
        // What was deleted is not recorded; the index of the log does not survive.
        if file.exists() && !file.to_string_lossy().ends_with("-shm") {
            std::fs::write(into.join(file.file_name().unwrap()), image).unwrap();
        }
    }
}

fn settle(image: &mut Vec<u8>, pending: &mut Vec<&Event>, mut keep: impl FnMut(&Event) -> bool) {
    for event in pending.drain(..) {
        match event {
            // The size of a file is not lost here: databases of SQLite do not shrink without a sync.
            Event::Truncate(_, size) => image.resize(*size, 0),
            Event::Write(_, at, bytes) => {
                if image.len() < at + bytes.len() {
                    image.resize(at + bytes.len(), 0);
                }
                if keep(event) {
                    image[*at..at + bytes.len()].copy_from_slice(bytes);
                }
            }
            Event::Sync(..) => {}
        }
    }
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

fn note(file: &Path, event: impl FnOnce(PathBuf) -> Event) {
    let mut plan = plan();
    if let Some((_, events)) = plan.recorded.as_mut().filter(|(directory, _)| file.starts_with(directory)) {
        events.push(event(file.into()));
    }
}

fn refuse(errno: c_int) -> c_int {
    // SAFETY: the address of this thread's number of the last error.
    unsafe { *libc::__errno_location() = errno };
    -1
}

fn sync(fd: c_int, number: c_long) -> c_int {
    // SAFETY: the caller's own argument.
    let call = || c_int::try_from(unsafe { libc::syscall(number, fd) }).unwrap();
    let Some(file) = ARMED.load(SeqCst).then(|| file_of(fd)).flatten() else { return call() };
    let fault = fault(&file, Call::Sync);
    note(&file, |file| Event::Sync(file, fault.is_none()));
    fault.map_or_else(call, refuse)
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
        note(&file, |file| Event::Write(file, at, bytes.to_vec()));
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
    // SAFETY: the caller's own arguments.
    let done = c_int::try_from(unsafe { libc::syscall(libc::SYS_ftruncate, fd, size) }).unwrap();
    if ARMED.load(SeqCst)
        && let Some(file) = file_of(fd)
    {
        note(&file, |file| Event::Truncate(file, usize::try_from(size).unwrap()));
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

#[unsafe(no_mangle)]
extern "C" fn open64(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    if ARMED.load(SeqCst) {
        // SAFETY: the caller's own string.
        let file = unsafe { CStr::from_ptr(path) };
        if let Some(errno) = fault(Path::new(&*file.to_string_lossy()), Call::Open) {
            return refuse(errno);
        }
    }
    // SAFETY: the caller's own arguments.
    c_int::try_from(unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags | libc::O_LARGEFILE, mode) })
        .unwrap()
}
