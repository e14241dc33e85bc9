//! What is lent for longer than one call: transactions and connections.

use std::future::Future;
use std::panic::Location;
use std::sync::Arc;

use super::call::Call;
use super::call::{Deadline, within};
use super::handle::AsyncDatabase;
use super::held::Held;
use super::observed::{self, observe, over};
use super::raw::RawConnection;
use super::route;
use super::stream::HeldStream;
use super::transaction::Transaction;
use crate::connector::{Access, Connection, Connector, Statement, StatementKind, TransactionMode};
use crate::error::{Error, Result};
use crate::observer::CallKind;
use crate::turn;

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// Runs `work` in a transaction: commits when it answers `Ok`, rolls back when it answers an error, panics, or is
    /// dropped.
    ///
    /// **An error type of your own** (`anyhow`, `thiserror`, `Box<dyn Error>`) comes out of
    /// [`try_transaction`](Self::try_transaction). This call is fixed to [`Error`], so that
    /// `?` in the closure needs no annotation; an error of your own that is to come out of it travels as
    /// [the cause](Error::caused_by) of one of ours:
    ///
    /// ```
    /// use std::error::Error as _;
    ///
    /// use strongroom::{AsyncDatabase, Error, ErrorKind};
    ///
    /// # #[derive(Debug)] struct TooLittle;
    /// # impl std::fmt::Display for TooLittle {
    /// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("too little") }
    /// # }
    /// # impl std::error::Error for TooLittle {}
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # #[cfg(feature = "sqlite")] {
    /// let db = AsyncDatabase::builder(":memory:").open().await?;
    /// let refused = db.transaction(async |tx| {
    ///     tx.execute("CREATE TABLE t (a)", ()).await?;
    ///     Err::<(), _>(Error::new(ErrorKind::Query, "nothing was paid").caused_by(TooLittle))
    /// });
    /// let error = refused.await.unwrap_err();
    /// assert!(error.source().is_some_and(|cause| cause.is::<TooLittle>()));
    /// # }
    /// # Ok(()) }
    /// ```
    ///
    /// Write it as `async |tx| ...`; captures may be borrowed. A statement that fails dooms the transaction, as it does
    /// in most engines: contain it in a nested [`Transaction::begin`] to go on after it. Asking this database (instead
    /// of `tx`) to write inside the closure could never end and fails at once with
    /// [`WouldDeadlock`](crate::Reason::WouldDeadlock).
    ///
    /// # Errors
    /// What `work` answered; [`ErrorKind::Transaction`](crate::ErrorKind::Transaction) when it swallowed the error of a
    /// statement; [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) when the answer to the commit was
    /// lost.
    ///
    /// # Cancel safety
    /// Dropping the future rolls back, unless the commit was already on its way: then the outcome is not known.
    #[track_caller]
    pub fn transaction<T, F>(&self, work: F) -> impl Future<Output = Result<T>>
    where
        F: AsyncFnOnce(&mut Transaction<C>) -> Result<T>,
    {
        self.try_transaction(work)
    }

    /// [`transaction`](Self::transaction) for a closure with an error type of your own: any that [`Error`] can be turned
    /// into, such as `anyhow::Error`, `Box<dyn std::error::Error + Send + Sync>`, or an enum with a variant `#[from]
    /// strongroom::Error`. `?` works on both in the closure. Name the type once, as the closure's result or in its `Ok`.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// #[derive(Debug)]
    /// enum TransferError {
    ///     TooLittle { cents: i64 },
    ///     Database(strongroom::Error),
    /// }
    ///
    /// impl From<strongroom::Error> for TransferError {
    ///     fn from(error: strongroom::Error) -> Self {
    ///         Self::Database(error)
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), TransferError> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// # db.execute_script("CREATE TABLE accounts (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL)").await?;
    /// # db.execute("INSERT INTO accounts VALUES (1, 20)", ()).await?;
    /// let outcome = db
    ///     .try_transaction(async |tx| -> Result<(), TransferError> {
    ///         tx.execute("UPDATE accounts SET cents = cents - 30 WHERE id = $1", (1,)).await?;
    ///         let cents: i64 = tx.fetch_value("SELECT cents FROM accounts WHERE id = $1", (1,)).await?.unwrap_or(0);
    ///         if cents < 0 {
    ///             return Err(TransferError::TooLittle { cents }); // rolls back
    ///         }
    ///         Ok(())
    ///     })
    ///     .await;
    /// assert!(matches!(outcome, Err(TransferError::TooLittle { cents: -10 })));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction); errors of this crate are turned into `E`.
    ///
    /// # Cancel safety
    /// As [`transaction`](Self::transaction).
    #[track_caller]
    pub fn try_transaction<T, E, F>(&self, work: F) -> impl Future<Output = Result<T, E>>
    where
        E: From<Error>,
        F: AsyncFnOnce(&mut Transaction<C>) -> Result<T, E>,
    {
        let beginning = self.begin();
        async move {
            let mut transaction = beginning.await?;
            let limit = transaction.closure_limit();
            let work = async { Ok(transaction.token().hold(work(&mut transaction)).await) };
            let outcome = within(limit, work).await.unwrap_or_else(|error| Err(error.into()));
            transaction.end(outcome).await
        }
    }

    /// Begins a transaction that writes, as a guard: [`commit`](Transaction::commit) it, or drop it to roll back.
    /// Prefer [`transaction`](Self::transaction) where a closure will do.
    ///
    /// # Errors
    /// When no connection can be had, or the transaction cannot begin.
    ///
    /// # Cancel safety
    /// Dropping the future leaves no transaction open.
    #[track_caller]
    pub fn begin(&self) -> impl Future<Output = Result<Transaction<C>>> + Send + use<'_, C> {
        self.begin_with(TransactionMode::WRITE)
    }

    /// Begins a transaction of another mode: [`TransactionMode::READ`] gives one unchanging view, in SQLite that of its
    /// first read, and refuses to write. It holds up no writer, except in a database in memory or a pool of one.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    ///
    /// # Cancel safety
    /// As [`begin`](Self::begin).
    #[track_caller]
    pub fn begin_with(
        &self,
        mode: TransactionMode,
    ) -> impl Future<Output = Result<Transaction<C>>> + Send + use<'_, C> {
        let access = route::transaction_access(self.capabilities(), mode);
        let location = Location::caller();
        async move {
            turn::take_beginning().await;
            self.begin_for(self.call(location), access, mode).await
        }
    }

    /// Lends a connection that may write and alter its session, for as long as the guard lives. For engines with a
    /// single writer that is the writer: everyone else who writes waits.
    ///
    /// # Errors
    /// When none becomes free within `pool_timeout`; the error names who holds it.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing but the place in the queue. Dropping the guard gives the connection back, also in
    /// the middle of one of its calls: that call is stopped, and an open transaction rolled back, before it is lent again.
    #[track_caller]
    pub fn connection(&self) -> impl Future<Output = Result<RawConnection<C>>> + Send + use<'_, C> {
        self.raw(Access::Write)
    }

    /// Lends a connection that reads; where reads go to standbys, one to a standby.
    ///
    /// # Errors
    /// As [`connection`](Self::connection).
    ///
    /// # Cancel safety
    /// As [`connection`](Self::connection).
    #[track_caller]
    pub fn read_connection(&self) -> impl Future<Output = Result<RawConnection<C>>> + Send + use<'_, C> {
        self.raw(route::read_access(self.capabilities()))
    }

    /// Begins a transaction on a connection for it.
    pub(super) fn begin_for(
        &self,
        call: Call<'_>,
        access: Access,
        mode: TransactionMode,
    ) -> impl Future<Output = Result<Transaction<C>>> + Send {
        let observing = observe(self.pool().observers(), CallKind::Begin, None, call.location);
        over(observing, async move {
            let held = self.borrow(access, call).await?;
            Transaction::begin_on(held, mode, self.capabilities().savepoints).await
        })
    }

    /// A connection that is held for as long as the borrower likes, or until its deadline.
    pub(super) async fn borrow(&self, access: Access, call: Call<'_>) -> Result<Held<C>> {
        let lent = call.lend(self.pool(), access).await?;
        observed::lent();
        if let Some(label) = call.label {
            lent.label(Arc::clone(label));
        }
        lent.watch();
        let deadline = Deadline::earlier(call.deadline, self.inner.max_age.and_then(Deadline::of_age));
        Ok(Held::new(lent, deadline, call.location))
    }

    /// A connection for a stream of what this statement gives.
    pub(super) async fn open_stream(
        &self,
        statement: &Statement,
        location: &'static Location<'static>,
    ) -> Result<HeldStream<C>> {
        let (call, access) = (self.call(location), route::read_access(self.capabilities()));
        let mut held = self.borrow(access, call).await?;
        let scope = route::scope(access);
        let kind = held.classify(&statement.sql)?;
        if !scope.admits(kind) {
            if kind == StatementKind::Control {
                return Err(kind.refused());
            }
            drop(held);
            observed::waits_again();
            held = self.borrow(Access::Write, call).await?;
        }
        Ok(HeldStream { held, reads: kind == StatementKind::Read })
    }

    #[track_caller]
    fn raw(&self, access: Access) -> impl Future<Output = Result<RawConnection<C>>> + Send + use<'_, C> {
        let location = Location::caller();
        async move {
            let observing = observe(self.pool().observers(), CallKind::Borrow, None, location);
            over(observing, async { Ok(RawConnection::new(self.borrow(access, self.call(location)).await?)) }).await
        }
    }
}
