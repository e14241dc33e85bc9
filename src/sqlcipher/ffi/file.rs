//! SQLite's object for the main file of a connection.

use std::ffi::c_void;
use std::ptr;

use rusqlite::{Connection, ffi};

/// Asks the connection for the object; the pointer is valid while the connection is open. The error is SQLite's code.
pub(super) fn of(connection: &Connection) -> Result<*mut ffi::sqlite3_file, i32> {
    ask(connection, ffi::SQLITE_FCNTL_FILE_POINTER)
}

/// The same for its journal, which is the log where there is one.
pub(super) fn journal_of(connection: &Connection) -> Result<*mut ffi::sqlite3_file, i32> {
    ask(connection, ffi::SQLITE_FCNTL_JOURNAL_POINTER)
}

fn ask(connection: &Connection, which: i32) -> Result<*mut ffi::sqlite3_file, i32> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the handle is valid while `connection` is borrowed; both of these codes write one pointer into `file`.
    let code = unsafe {
        let out = ptr::from_mut(&mut file).cast::<c_void>();
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), which, out)
    };
    if code == ffi::SQLITE_OK { Ok(file) } else { Err(code) }
}
