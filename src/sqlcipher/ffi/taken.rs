//! Taking a file from all others without its key.
//!
//! SQL cannot: its first look at an encrypted file without the key is an error. A connection in WAL mode holds the shared
//! lock of the file from its first read to its end, so the exclusive one can be had only when there is none.

use rusqlite::{Connection, ffi};

use super::file;

/// Takes the file of a connection on which nothing was run, until the connection is closed. False: somebody has it open.
pub(in super::super) fn take(connection: &Connection) -> bool {
    let Ok(file) = file::of(connection) else { return false };
    // SAFETY: SQLite owns the file object and keeps it while the connection lives, which the caller has borrowed. The
    // levels are taken in the order that SQLite's layers demand; closing the file gives them up.
    unsafe {
        let Some(lock) = file.as_ref().and_then(|file| file.pMethods.as_ref()).and_then(|methods| methods.xLock) else {
            return false;
        };
        [ffi::SQLITE_LOCK_SHARED, ffi::SQLITE_LOCK_RESERVED, ffi::SQLITE_LOCK_EXCLUSIVE]
            .into_iter()
            .all(|level| lock(file, level) == ffi::SQLITE_OK)
    }
}
