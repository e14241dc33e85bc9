//! Whether a statement that failed had come to its commit.
//!
//! SQLite's page cache counts the pages that it has handed on to be written, and those of them that it handed on before
//! a commit because it was full. In a log it counts before it writes, so whatever is left when the second is taken from
//! the first belongs to commits, failed ones too. (Without a log it counts what was written; if a commit fails before
//! that, the journal undoes it.) Source: `pagerWalFrames` and `pagerStress` in `pager.c`.

use rusqlite::{Connection, ffi};

/// A count that grows with every commit that begins to write.
pub(in super::super) fn count(connection: &Connection) -> i32 {
    status(connection, ffi::SQLITE_DBSTATUS_CACHE_WRITE)
        .wrapping_sub(status(connection, ffi::SQLITE_DBSTATUS_CACHE_SPILL))
}

fn status(connection: &Connection, which: i32) -> i32 {
    let (mut now, mut highest) = (0, 0);
    // SAFETY: the handle is valid while `connection` is borrowed; the call writes the two numbers.
    unsafe { ffi::sqlite3_db_status(connection.handle(), which, &raw mut now, &raw mut highest, 0) };
    now
}
