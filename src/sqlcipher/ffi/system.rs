//! What the system told SQLite.
//!
//! SQLite reports a read that failed with `EIO` as damage (`SQLITE_IOERR_CORRUPTFS`), and has one code for every file
//! that cannot be opened. The number of the system's error says which it was.

use std::ffi::{CStr, c_int};
use std::io;
use std::ptr;
use std::sync::Once;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, ffi};

use super::file;

/// The last failure of the main file of a connection, or of its log. SQLite keeps it until a later failure, so it is to
/// be asked for only after an error, and the connection is to be closed then.
pub(in super::super) fn failure(connection: &Connection) -> Option<io::Error> {
    [file::of(connection), file::journal_of(connection)].into_iter().find_map(|file| {
        let mut number: c_int = 0;
        // SAFETY: SQLite owns the file object and keeps it while `connection` is borrowed; `pMethods` is null for a
        // file that is not open. This code writes one `int`.
        let code = unsafe {
            let file = file.ok()?;
            let control = file.as_ref()?.pMethods.as_ref()?.xFileControl?;
            control(file, ffi::SQLITE_FCNTL_LAST_ERRNO, ptr::from_mut(&mut number).cast())
        };
        (code == ffi::SQLITE_OK && number != 0).then(|| io::Error::from_raw_os_error(number))
    })
}

/// The result code of the last call on this connection.
pub(in super::super) fn last_code(connection: &Connection) -> c_int {
    // SAFETY: the handle is valid while `connection` is borrowed.
    unsafe { ffi::sqlite3_extended_errcode(connection.handle()) }
}

/// Why a file of this connection could not be opened.
pub(in super::super) fn open_failure(connection: &Connection) -> Option<io::Error> {
    // SAFETY: the handle is valid while `connection` is borrowed.
    reason(unsafe { connection.handle() })
}

/// Has the engine made ready once, by one thread for all. SQLite calls itself ready before it has called what SQLCipher
/// adds to that, so that a connection of another thread could meet a cipher that is not there yet.
///
/// Source: `sqlite3_initialize`, where `SQLITE_EXTRA_INIT` is called after the mutex was left.
pub(in super::super) fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        // SAFETY: any thread may call it at any time. What it fails with, every opening fails with, too.
        unsafe { ffi::sqlite3_initialize() };
    });
}

/// Opens a connection as rusqlite does, through the file layer of this name if one is given; when that fails, says why
/// the system refused. rusqlite closes the handle that knows.
pub(in super::super) fn open(
    name: &CStr,
    flags: OpenFlags,
    layer: Option<&CStr>,
) -> Result<Connection, (rusqlite::Error, Option<io::Error>)> {
    start();
    let mut handle: *mut ffi::sqlite3 = ptr::null_mut();
    // SAFETY: `name` ends with a NUL byte; SQLite writes one handle, or null when memory is short. A handle that did not
    // open is closed here, once, and after the last look at it; one that did is the connection's.
    unsafe {
        let code =
            ffi::sqlite3_open_v2(name.as_ptr(), &raw mut handle, flags.bits(), layer.map_or(ptr::null(), CStr::as_ptr));
        if code == ffi::SQLITE_OK {
            let connection = Connection::from_handle_owned(handle);
            return connection.and_then(patient).map_err(|error| (error, None));
        }
        let why = if handle.is_null() { None } else { reason(handle) };
        ffi::sqlite3_close(handle);
        Err((rusqlite::Error::SqliteFailure(ffi::Error::new(code), None), why))
    }
}

/// As patient as rusqlite has it, until our own handler is installed.
fn patient(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(Duration::from_secs(5)).map(|()| connection)
}

fn reason(handle: *mut ffi::sqlite3) -> Option<io::Error> {
    // SAFETY: both callers have an open handle.
    let number = unsafe { ffi::sqlite3_system_errno(handle) };
    (number != 0).then(|| io::Error::from_raw_os_error(number))
}
