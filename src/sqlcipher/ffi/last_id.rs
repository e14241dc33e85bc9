//! The rowid of the last insert, which a connection keeps for the next question.

use rusqlite::{Connection, ffi};

/// Stands for "nothing was inserted": a rowid that only an insert of this very number gets.
const NOTHING: i64 = i64::MIN;

/// While it lives, the connection knows of no insert before it.
pub(in super::super) struct Forgotten<'c> {
    connection: &'c Connection,
    before: i64,
}

impl<'c> Forgotten<'c> {
    pub(in super::super) fn new(connection: &'c Connection) -> Self {
        let forgotten = Self { connection, before: connection.last_insert_rowid() };
        forgotten.set(NOTHING);
        forgotten
    }

    /// The rowid of what was inserted last, since.
    pub(in super::super) fn inserted(&self) -> Option<i64> {
        Some(self.connection.last_insert_rowid()).filter(|id| *id != NOTHING)
    }

    fn set(&self, id: i64) {
        // SAFETY: the handle is valid while `connection` is borrowed, and only this thread uses it at this moment.
        unsafe { ffi::sqlite3_set_last_insert_rowid(self.connection.handle(), id) }
    }
}

impl Drop for Forgotten<'_> {
    /// Without an insert, it is again as it was.
    fn drop(&mut self) {
        if self.inserted().is_none() {
            self.set(self.before);
        }
    }
}
