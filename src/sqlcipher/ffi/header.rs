//! Reading the first bytes of a database through SQLite.
//!
//! Opening the file a second time with `std::fs` would, when closed, drop the POSIX locks that SQLite holds on it: all
//! locks of a process on a file go with the first descriptor that is closed.

use std::ffi::c_void;
use std::ptr;

use rusqlite::{Connection, ffi};

/// The first 16 bytes of the main database file: SQLite's magic, or SQLCipher's salt. `None` when the file is shorter.
/// Works before keying, and takes no lock.
pub(in super::super) fn read(connection: &Connection) -> rusqlite::Result<Option<[u8; 16]>> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the handle is valid while `connection` is borrowed; FCNTL_FILE_POINTER writes one pointer into `file`.
    let code = unsafe {
        let out = ptr::from_mut(&mut file).cast::<c_void>();
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), ffi::SQLITE_FCNTL_FILE_POINTER, out)
    };
    if code != ffi::SQLITE_OK {
        return Err(failure(code));
    }
    let mut bytes = [0_u8; 16];
    // SAFETY: SQLite owns the file object and keeps it while the connection lives; `pMethods` is null only for a file
    // that is not open. `xRead` fills at most the 16 bytes it is told of.
    let code = unsafe {
        let Some(methods) = file.as_ref().and_then(|file| file.pMethods.as_ref()) else { return Ok(None) };
        let Some(read) = methods.xRead else { return Ok(None) };
        read(file, bytes.as_mut_ptr().cast(), 16, 0)
    };
    match code {
        ffi::SQLITE_OK => Ok(Some(bytes)),
        ffi::SQLITE_IOERR_SHORT_READ => Ok(None),
        other => Err(failure(other)),
    }
}

fn failure(code: i32) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
}
