//! SQLite's object for the main file of a connection.

use std::ffi::c_void;
use std::ptr;

use rusqlite::{Connection, ffi};

/// Asks the connection for the object; the pointer is valid while the connection is open. The error is SQLite's code.
pub(super) fn of(connection: &Connection) -> Result<*mut ffi::sqlite3_file, i32> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the handle is valid while `connection` is borrowed; FCNTL_FILE_POINTER writes one pointer into `file`.
    let code = unsafe {
        let out = ptr::from_mut(&mut file).cast::<c_void>();
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), ffi::SQLITE_FCNTL_FILE_POINTER, out)
    };
    if code == ffi::SQLITE_OK { Ok(file) } else { Err(code) }
}
