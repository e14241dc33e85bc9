//! The system's files as a reader may use them: nothing is created, written or deleted.
//!
//! SQLite makes an empty log when it opens a database in WAL mode that has none, also for a connection that only reads.
//! Under these names it finds no log then, and says so.
//!
//! Source: "The OS Backend (VFS) To SQLite", section 2.2 (a VFS that is put in front of another one), and `sqlite3WalOpen`
//! in `wal.c`.

use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;

use rusqlite::ffi;

type Open = unsafe extern "C" fn(
    *mut ffi::sqlite3_vfs,
    ffi::sqlite3_filename,
    *mut ffi::sqlite3_file,
    c_int,
    *mut c_int,
) -> c_int;

/// How the system's own layer opens a file; the one with locks and the one without have it in common.
static OPEN: OnceLock<Open> = OnceLock::new();

/// The names to open a connection with.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Quiet {
    /// Takes SQLite's locks.
    pub(in super::super) locking: &'static CStr,
    /// Takes none, so that a connection may think that it has the file to itself.
    pub(in super::super) lockless: &'static CStr,
}

/// Registers both, once for the process. `None`: the engine has no such layers here.
pub(in super::super) fn names() -> Option<Quiet> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    const NAMES: Quiet = Quiet { locking: c"strongroom-reader", lockless: c"strongroom-reader-none" };
    // Those of Windows that have room for long names; they do the same as the usual ones.
    let (locking, lockless) =
        if cfg!(windows) { (Some(c"win32-longpath"), c"win32-longpath-none") } else { (None, c"unix-none") };
    let both = || register(locking, NAMES.locking) && register(Some(lockless), NAMES.lockless);
    REGISTERED.get_or_init(both).then_some(NAMES)
}

fn register(original: Option<&CStr>, name: &'static CStr) -> bool {
    // SAFETY: SQLite answers a layer that stays registered as long as the process lives, or null. The copy is leaked,
    // because SQLite keeps it for as long. Its functions are those of the original, which read no more of the layer that
    // they are called with than was copied.
    unsafe {
        let found = ffi::sqlite3_vfs_find(original.map_or(std::ptr::null(), CStr::as_ptr));
        let Some(original) = found.as_ref() else { return false };
        let Some(open) = original.xOpen else { return false };
        if !std::ptr::fn_addr_eq(*OPEN.get_or_init(|| open), open) {
            return false;
        }
        let copy = ffi::sqlite3_vfs {
            pNext: std::ptr::null_mut(),
            zName: name.as_ptr(),
            xOpen: Some(open_quietly),
            xDelete: Some(keep),
            ..*original
        };
        ffi::sqlite3_vfs_register(Box::into_raw(Box::new(copy)), 0) == ffi::SQLITE_OK
    }
}

/// Opens what is there, for reading. Temporary files are SQLite's own affair.
unsafe extern "C" fn open_quietly(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    opened: *mut c_int,
) -> c_int {
    const KEPT: c_int = ffi::SQLITE_OPEN_MAIN_DB
        | ffi::SQLITE_OPEN_WAL
        | ffi::SQLITE_OPEN_MAIN_JOURNAL
        | ffi::SQLITE_OPEN_SUPER_JOURNAL;
    const WRITES: c_int = ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_CREATE | ffi::SQLITE_OPEN_DELETEONCLOSE;
    let flags = if flags & KEPT == 0 { flags } else { (flags & !WRITES) | ffi::SQLITE_OPEN_READONLY };
    match OPEN.get() {
        // SAFETY: the arguments are SQLite's, handed on to the layer that they were made for.
        Some(open) => unsafe { open(vfs, name, file, flags, opened) },
        None => ffi::SQLITE_CANTOPEN,
    }
}

unsafe extern "C" fn keep(_: *mut ffi::sqlite3_vfs, _: *const c_char, _: c_int) -> c_int {
    ffi::SQLITE_READONLY
}
