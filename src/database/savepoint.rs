//! Nested transactions.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::call::within;
use super::transaction::Transaction;
use crate::DefaultConnector;
use crate::connector::{Connection, Connector};
use crate::error::{Error, ErrorKind, Phase, Result};

/// A transaction inside a transaction; has everything that [`Transaction`] has, through `Deref`.
///
/// Dropping it undoes what was done in it, before the outer transaction does anything else. What was kept lasts only if
/// the outer transaction commits.
pub struct Savepoint<'a, C: Connector = DefaultConnector> {
    transaction: &'a mut Transaction<C>,
    depth: u32,
    ended: bool,
}

impl<C: Connector<Connection: Connection>> Transaction<C> {
    /// Begins a nested transaction: a savepoint. Dropping it undoes what was done in it and leaves this one usable.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the engine has no savepoints.
    ///
    /// # Cancel safety
    /// Dropping the future dooms the transaction.
    pub async fn begin(&mut self) -> Result<Savepoint<'_, C>> {
        if !self.nests {
            return Err(Error::new(ErrorKind::Unsupported, "this engine cannot nest transactions"));
        }
        let state = &mut self.state;
        state.ready(None).await?;
        let depth = state.depth() + 1;
        let outcome = within(state.limit(), state.held.savepoint(depth)).await;
        state.judge(outcome)?;
        state.nested(depth);
        Ok(Savepoint::new(self, depth))
    }

    /// Runs `work` in a nested transaction: keeps what it did when it answers `Ok`, undoes it otherwise. An error type of
    /// your own comes out of [`try_transaction`](Self::try_transaction).
    ///
    /// # Errors
    /// What `work` answered.
    ///
    /// # Cancel safety
    /// Dropping the future undoes what `work` did, before this transaction does anything else; a write that was stopped
    /// half-way, or a keeping that was under way, dooms this transaction too.
    pub async fn transaction<T, F>(&mut self, work: F) -> Result<T>
    where
        F: AsyncFnOnce(&mut Self) -> Result<T>,
    {
        self.try_transaction(work).await
    }

    /// [`transaction`](Self::transaction) for a closure with an error type of your own; see
    /// [`AsyncDatabase::try_transaction`](super::AsyncDatabase::try_transaction).
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction); errors of this crate are turned into `E`.
    ///
    /// # Cancel safety
    /// As [`transaction`](Self::transaction).
    pub async fn try_transaction<T, E, F>(&mut self, work: F) -> Result<T, E>
    where
        E: From<Error>,
        F: AsyncFnOnce(&mut Self) -> Result<T, E>,
    {
        let mut nested = self.begin().await?;
        match work(&mut nested).await {
            Ok(value) => Ok(nested.commit().await.map(|()| value)?),
            Err(error) => {
                nested.rollback().await?;
                Err(error)
            }
        }
    }
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
        if let Err(doomed) = self.transaction.state.ready(None).await {
            self.undo().await?;
            return Err(doomed.during(Phase::Commit));
        }
        let state = &mut self.transaction.state;
        let outcome = within(state.limit(), state.held.release(self.depth)).await;
        state.judge(outcome)?;
        self.ended = true;
        state.kept(self.depth);
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
        let state = &mut self.transaction.state;
        let outcome = state.undo_to(self.depth).await;
        self.ended = true;
        state.undone(self.depth, outcome)
    }
}

impl<C: Connector> Drop for Savepoint<'_, C> {
    fn drop(&mut self) {
        if !self.ended {
            self.transaction.state.undo_later(self.depth);
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
