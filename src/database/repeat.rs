//! Running a transaction again.

use std::future::Future;
use std::panic::Location;
use std::sync::Arc;

use tokio::time::Instant;

use super::deadline::{Deadline, within};
use super::handle::AsyncDatabase;
use super::options::TransactionOptions;
use super::route;
use super::transaction::Transaction;
use crate::clock::sleep;
use crate::{Access, Attempt, Connection, Connector, Result};

/// A closure that can be called several times and whose future can cross threads: what
/// [`transaction_with`](AsyncDatabase::transaction_with) takes.
///
/// Implemented for every `async |tx: &mut Transaction| ...` that only borrows what it captures, and for functions. The
/// type of the argument must be written down. (`AsyncFnMut` would be the obvious bound, but a future over it cannot be
/// spawned: Rust cannot yet say that what it returns is `Send`.)
pub trait AsyncFuncMut<A, R> {
    /// Calls the closure.
    fn call(&mut self, argument: A) -> impl Future<Output = R> + Send;
}

impl<A, R, F, Fut> AsyncFuncMut<A, R> for F
where
    F: FnMut(A) -> Fut,
    Fut: Future<Output = R> + Send,
{
    fn call(&mut self, argument: A) -> impl Future<Output = R> + Send {
        self(argument)
    }
}

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// Runs `work` in a transaction as `options` say, and runs all of it again when the transaction failed for a reason
    /// that may pass: the database was busy, another transaction came in between (serialization, deadlock), the
    /// connection broke before the commit. Each attempt has a transaction of its own, and the one before it has been
    /// rolled back.
    ///
    /// `work` may run several times, so whatever else it does (send a mail, count something) happens as often. Write it
    /// as `async |tx: &mut Transaction| ...`, with the type. It may borrow what it captures; to change it, capture an
    /// atomic or a mutex.
    ///
    /// ```
    /// use strongroom::{AsyncDatabase, Transaction, TransactionOptions};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// # db.execute_script("CREATE TABLE accounts (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL)").await?;
    /// # db.execute("INSERT INTO accounts VALUES (1, 100), (2, 0)", ()).await?;
    /// let (from, to) = (1, 2);
    /// db.transaction_with(TransactionOptions::new().label("transfer"), async |tx: &mut Transaction| {
    ///     tx.execute("UPDATE accounts SET cents = cents - 30 WHERE id = $1", (from,)).await?;
    ///     tx.execute("UPDATE accounts SET cents = cents + 30 WHERE id = $1", (to,)).await?;
    ///     Ok(())
    /// })
    /// .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction), of the last attempt; it is no longer
    /// [transient](crate::Error::is_transient). An [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) is not tried
    /// again unless the options call the work [`idempotent`](TransactionOptions::idempotent).
    ///
    /// # Cancel safety
    /// As [`transaction`](Self::transaction).
    #[track_caller]
    pub fn transaction_with<T, F>(
        &self,
        options: TransactionOptions,
        mut work: F,
    ) -> impl Future<Output = Result<T>> + Send + use<'_, C, T, F>
    where
        T: Send,
        F: for<'t> AsyncFuncMut<&'t mut Transaction<C>, Result<T>> + Send,
    {
        let location = Location::caller();
        async move {
            let deadline = Deadline::earlier(self.deadline(), options.deadline.and_then(Deadline::after));
            let first = Instant::now();
            let mut number = 1;
            loop {
                // Boxed: it carries the futures of the caller's closure.
                let error = match Box::pin(self.attempt(&options, &mut work, deadline, location)).await {
                    Ok(value) => return Ok(value),
                    Err(error) => error,
                };
                let pause = options
                    .retryable(&error)
                    .and_then(|error| options.retry.next_delay(Attempt::new(number, first.elapsed(), &error)))
                    .filter(|pause| deadline.is_none_or(|deadline| *pause < deadline.left()));
                let Some(pause) = pause else {
                    // Whoever retries outside would only repeat what was tried here.
                    let error = error.permanent();
                    return Err(if number == 1 {
                        error
                    } else {
                        error.context(format_args!("after {number} attempts"))
                    });
                };
                tracing::debug!(%location, %error, number, ?pause, "running a transaction again after a pause");
                sleep(pause).await;
                number += 1;
            }
        }
    }

    /// Begins, works, and commits or rolls back.
    async fn attempt<T, F>(
        &self,
        options: &TransactionOptions,
        work: &mut F,
        deadline: Option<Deadline>,
        location: &'static Location<'static>,
    ) -> Result<T>
    where
        T: Send,
        F: for<'t> AsyncFuncMut<&'t mut Transaction<C>, Result<T>> + Send,
    {
        let access = match options.mode.access {
            Access::Write => Access::Write,
            Access::Read => route::read_access(self.capabilities()),
        };
        let (lent, deadline) = self.borrow(access, deadline, location).await?;
        if let Some(label) = &options.label {
            lent.label(Arc::clone(label));
        }
        let nests = self.capabilities().savepoints;
        let mut transaction = Transaction::begin_on(lent, options.mode, nests, deadline).await?;
        let limit = transaction.closure_limit();
        let outcome = within(limit, transaction.token().hold(work.call(&mut transaction))).await;
        transaction.end(outcome).await
    }
}
