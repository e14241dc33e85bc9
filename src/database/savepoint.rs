//! Nested transactions.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::deadline::within;
use super::transaction::Transaction;
use crate::DefaultConnector;
use crate::connector::{Connection, Connector};
use crate::error::{Phase, Result};

/// A transaction inside a transaction; has everything that [`Transaction`] has, through `Deref`.
///
/// Dropping it undoes what was done in it, before the outer transaction does anything else. What was kept lasts only if
/// the outer transaction commits.
pub struct Savepoint<'a, C: Connector = DefaultConnector> {
    transaction: &'a mut Transaction<C>,
    depth: u32,
    ended: bool,
}

impl<'a, C: Connector<Connection: Connection>> Savepoint<'a, C> {
    pub(super) fn new(transaction: &'a mut Transaction<C>, depth: u32) -> Self {
        Self { transaction, depth, ended: false }
    }

    /// Keeps what was done since.
    ///
    /// # Errors
    /// [`Reason::Doomed`](crate::Reason::Doomed) when a statement failed in it: it was undone instead.
    ///
    /// # Cancel safety
    /// Dropping the future undoes what was done since, before the outer transaction does anything else; where it comes
    /// too late for that, the outer transaction is doomed.
    pub async fn commit(mut self) -> Result<()> {
        if let Err(doomed) = self.transaction.ready(None).await {
            self.undo().await?;
            return Err(doomed.during(Phase::Commit));
        }
        let limit = self.transaction.limit();
        let outcome = within(limit, self.transaction.connection().release(self.depth)).await;
        self.transaction.judge(outcome)?;
        self.ended = true;
        self.transaction.kept(self.depth);
        Ok(())
    }

    /// Undoes what was done since, and waits until that is done.
    ///
    /// # Errors
    /// When the connection broke.
    ///
    /// # Cancel safety
    /// As [`commit`](Self::commit): it is undone either way.
    pub async fn rollback(mut self) -> Result<()> {
        self.undo().await
    }

    async fn undo(&mut self) -> Result<()> {
        let limit = self.transaction.limit();
        let outcome = within(limit, self.transaction.connection().rollback_to(self.depth)).await;
        self.ended = true;
        self.transaction.undone(self.depth, outcome)
    }
}

impl<C: Connector> Drop for Savepoint<'_, C> {
    fn drop(&mut self) {
        if !self.ended {
            self.transaction.undo_later(self.depth);
        }
    }
}

impl<C: Connector> Deref for Savepoint<'_, C> {
    type Target = Transaction<C>;

    fn deref(&self) -> &Transaction<C> {
        self.transaction
    }
}

impl<C: Connector> DerefMut for Savepoint<'_, C> {
    fn deref_mut(&mut self) -> &mut Transaction<C> {
        self.transaction
    }
}

impl<C: Connector> fmt::Debug for Savepoint<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Savepoint").field("depth", &self.depth).finish_non_exhaustive()
    }
}
