//! All that rusqlite can do.

use std::sync::Arc;

use super::connection::SqlCipherConnection;
use crate::error::{Error, Result};

impl SqlCipherConnection {
    /// Calls `work` with the rusqlite connection, on a thread that may block. **An error type of your own** comes out of
    /// [`try_interact`](Self::try_interact).
    ///
    /// Whatever rusqlite can do is possible. Handlers of this crate (authorizer, busy, progress) that `work` replaced
    /// are put back; if it altered the session (attached a file, set a pragma), the connection is closed instead of lent
    /// to somebody else. A transaction left open is rolled back then. Functions, collations and hooks that `work` registers
    /// stay on this one connection; register them in the `on_connect` hook, so that every connection has them. Each closure begins with
    /// rusqlite's own [`TransactionBehavior`](rusqlite::TransactionBehavior), `Deferred`, whatever an earlier one has set.
    ///
    /// # Errors
    /// What `work` answers, classified; a panic of `work` is an error too, and costs the connection.
    ///
    /// # Cancel safety
    /// Dropping the future interrupts the running statement; `work` sees that as an error of rusqlite and may go on.
    pub async fn interact<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let control = Arc::clone(&self.shared.control);
        let busy_timeout = self.opened.busy_timeout();
        let alone = self.alone();
        self.job(move |engine| {
            let _alone = alone.always();
            engine.interact(&control, busy_timeout, work)
        })
        .await
    }

    /// [`interact`](Self::interact) for a closure with an error type of your own, any that [`Error`] can be turned into.
    /// `?` works on rusqlite's errors where the type takes those too: `anyhow::Error` and boxed errors do, an enum does with
    /// a variant for `rusqlite::Error`. Name the type once, as the closure's result.
    ///
    /// # Errors
    /// As [`interact`](Self::interact), turned into `E`; what `work` answers as it is.
    ///
    /// # Cancel safety
    /// As [`interact`](Self::interact).
    pub async fn try_interact<T, E>(
        &mut self,
        work: impl FnOnce(&mut rusqlite::Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.interact(move |connection| Ok(work(connection))).await?
    }
}
