//! A connection that is closed in the right order.
//!
//! To close a connection in the middle of a transaction rolls that back. SQLite frees what the hooks own before it does, and
//! would then call the rollback hook with what was freed. Source: `sqlite3Close` in `main.c`, which lets go of the client data that
//! rusqlite keeps its hooks in, and comes to `sqlite3RollbackAll` after that.

use std::ops::{Deref, DerefMut};

use rusqlite::Connection;

/// A connection that has no rollback hook any more when it is closed or dropped, even if its user has set one.
#[derive(Debug)]
pub(crate) struct ClosedInOrder(Option<Connection>);

impl ClosedInOrder {
    pub(crate) fn new(connection: Connection) -> Self {
        Self(Some(connection))
    }

    /// # Errors
    /// When it cannot be closed; it is gone all the same.
    pub(crate) fn close(mut self) -> rusqlite::Result<()> {
        self.unhook();
        self.0.take().map_or(Ok(()), |connection| connection.close().map_err(|(_, error)| error))
    }

    fn unhook(&mut self) {
        if let Some(connection) = &mut self.0 {
            connection.rollback_hook(None::<fn()>).ok();
        }
    }
}

impl Drop for ClosedInOrder {
    fn drop(&mut self) {
        self.unhook();
    }
}

impl Deref for ClosedInOrder {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0.as_ref().expect("it is taken out only to be closed")
    }
}

impl DerefMut for ClosedInOrder {
    fn deref_mut(&mut self) -> &mut Connection {
        self.0.as_mut().expect("it is taken out only to be closed")
    }
}
