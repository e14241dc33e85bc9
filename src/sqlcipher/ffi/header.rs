//! Reading bytes of a database file through SQLite.
//!
//! Opening the file a second time with `std::fs` would, when closed, drop the POSIX locks that SQLite holds on it: all
//! locks of a process on a file go with the first descriptor that is closed.

use rusqlite::{Connection, ffi};

use super::file;

/// The first 16 bytes of the main database file: SQLite's magic, or SQLCipher's salt. `None` when the file is shorter.
pub(in super::super) fn read(connection: &Connection) -> rusqlite::Result<Option<[u8; 16]>> {
    let mut bytes = [0; 16];
    Ok(read_at(connection, 0, &mut bytes)?.then_some(bytes))
}

/// Fills `bytes` with what stands at `offset` of the main database file, encrypted as it is; false when the file ends
/// before. Works before keying, and takes no lock.
pub(in super::super) fn read_at(connection: &Connection, offset: i64, bytes: &mut [u8]) -> rusqlite::Result<bool> {
    read_from(file::of(connection), offset, bytes)
}

/// The same of the log of a connection that has read.
pub(in super::super) fn read_log_at(connection: &Connection, offset: i64, bytes: &mut [u8]) -> rusqlite::Result<bool> {
    read_from(file::journal_of(connection), offset, bytes)
}

fn read_from(file: Result<*mut ffi::sqlite3_file, i32>, offset: i64, bytes: &mut [u8]) -> rusqlite::Result<bool> {
    let length = i32::try_from(bytes.len()).map_err(|_| failure(ffi::SQLITE_TOOBIG))?;
    let file = file.map_err(failure)?;
    // SAFETY: SQLite owns the file object and keeps it while the connection lives, which both callers borrow; `pMethods` is null only for a file
    // that is not open. `xRead` fills at most the `length` bytes it is told of.
    let code = unsafe {
        let Some(methods) = file.as_ref().and_then(|file| file.pMethods.as_ref()) else { return Ok(false) };
        let Some(read) = methods.xRead else { return Ok(false) };
        read(file, bytes.as_mut_ptr().cast(), length, offset)
    };
    match code {
        ffi::SQLITE_OK => Ok(true),
        ffi::SQLITE_IOERR_SHORT_READ => Ok(false),
        other => Err(failure(other)),
    }
}

fn failure(code: i32) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
}
