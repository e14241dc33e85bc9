//! What a connection's page cache was asked for.

use std::ffi::c_int;

use rusqlite::{Connection, ffi};

/// Pages that were found there, and pages that were read from the files, since this was asked last.
pub(in super::super) fn asked(connection: &Connection) -> [usize; 2] {
    [ffi::SQLITE_DBSTATUS_CACHE_HIT, ffi::SQLITE_DBSTATUS_CACHE_MISS]
        .map(|number| usize::try_from(count(connection, number, true)).unwrap_or_default())
}

/// A number that changes whenever a page is read from the files.
pub(in super::super) fn pages_read(connection: &Connection) -> c_int {
    count(connection, ffi::SQLITE_DBSTATUS_CACHE_MISS, false)
}

fn count(connection: &Connection, number: c_int, anew: bool) -> c_int {
    let (mut now, mut highest): (c_int, c_int) = (0, 0);
    // SAFETY: the handle is valid while `connection` is borrowed, and only this thread uses it at this moment; the two numbers
    // live through the call.
    unsafe { ffi::sqlite3_db_status(connection.handle(), number, &raw mut now, &raw mut highest, anew.into()) };
    now
}
