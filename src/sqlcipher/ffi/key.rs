//! Keying a connection without putting the key into a statement.

use rusqlite::{Connection, ffi};

/// Hands `key` to SQLCipher for the main database. Must come before anything else is done with the connection.
///
/// SQLCipher copies the bytes into its own locked memory and wipes them there when it first touches a page.
pub(in super::super) fn set(connection: &Connection, key: &[u8]) -> rusqlite::Result<()> {
    let length = i32::try_from(key.len()).map_err(|_| failure(ffi::SQLITE_TOOBIG))?;
    // SAFETY: the handle is valid as long as `connection` is borrowed, the schema name is NUL-terminated, and the key
    // is only read, for `length` bytes, during the call.
    let code = unsafe { ffi::sqlite3_key_v2(connection.handle(), c"main".as_ptr(), key.as_ptr().cast(), length) };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(failure(code)) }
}

/// Has SQLCipher write every page of the main database anew under `key`, in a transaction of its own.
///
/// No error is no proof: what the commit answers is ignored there, and so is a key that could not be set. After an error
/// the connection would write with the new key; it must be closed.
pub(in super::super) fn change(connection: &Connection, key: &[u8]) -> rusqlite::Result<()> {
    let length = i32::try_from(key.len()).map_err(|_| failure(ffi::SQLITE_TOOBIG))?;
    // SAFETY: as above; the key is copied during the call.
    let code = unsafe { ffi::sqlite3_rekey_v2(connection.handle(), c"main".as_ptr(), key.as_ptr().cast(), length) };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(failure(code)) }
}

/// No message: whatever the library would say while keying stays there.
fn failure(code: i32) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
}
