//! Running a transaction again.

use std::future::Future;
use std::panic::Location;

use tokio::time::Instant;

use super::call::Call;
use super::call::{Deadline, within};
use super::handle::AsyncDatabase;
use super::options::TransactionOptions;
use super::route;
use super::transaction::Transaction;
use crate::clock::sleep;
use crate::connector::{Connection, Connector};
use crate::error::{Error, Result};
use crate::observer::Event;
use crate::retry::Attempt;

/// A closure that can be called several times and whose future can cross threads: what
/// [`transaction_with`](AsyncDatabase::transaction_with) takes.
///
/// Implemented for every `async |tx| ...` that only borrows what it captures, and for functions. (`AsyncFnMut` alone would
/// be the obvious bound, but a future over it cannot be spawned: Rust cannot yet say that what it returns is `Send`.)
#[diagnostic::on_unimplemented(
    message = "this closure cannot be called several times with a future that is `Send`",
    note = "write `async |tx| ...`; to change what it captures, capture an atomic or a mutex",
    note = "nothing that is not `Send` (an `Rc`, a guard of a mutex) may be held across an await in it"
)]
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

/// The same for a closure that is called without changing anything: what
/// [`set_up`](super::DatabaseBuilder::set_up) takes.
#[diagnostic::on_unimplemented(
    message = "this closure cannot be called with a future that is `Send`",
    note = "write `async |connection| ...`, and hold nothing across an await in it that is not `Send`"
)]
pub trait AsyncFunc<A, R> {
    /// Calls the closure.
    fn call(&self, argument: A) -> impl Future<Output = R> + Send;
}

impl<A, R, F, Fut> AsyncFunc<A, R> for F
where
    F: Fn(A) -> Fut,
    Fut: Future<Output = R> + Send,
{
    fn call(&self, argument: A) -> impl Future<Output = R> + Send {
        self(argument)
    }
}

/// Why an attempt failed.
enum Failed<E> {
    /// It could not begin or commit, or was late.
    Ours(Error),
    /// The closure's answer, and the error of the call of ours that failed in it.
    Theirs(E, Option<Error>),
}

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// Runs `work` in a transaction as `options` say, and runs all of it again when the transaction failed for a reason
    /// that may pass: the database was busy, another transaction came in between (serialization, deadlock), the
    /// connection broke before the commit. Each attempt has a transaction of its own, and the one before it has been
    /// rolled back.
    ///
    /// **An error type of your own** comes out of [`try_transaction_with`](Self::try_transaction_with); this call is fixed
    /// to [`Error`], as [`transaction`](Self::transaction) is.
    ///
    /// `work` may run several times, so whatever else it does (send a mail, count something) happens as often. Write it
    /// as `async |tx| ...`. It may borrow what it captures; to change it, capture an atomic or a mutex.
    ///
    /// ```
    /// use strongroom::database::TransactionOptions;
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// # db.execute_script("CREATE TABLE accounts (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL)").await?;
    /// # db.execute("INSERT INTO accounts VALUES (1, 100), (2, 0)", ()).await?;
    /// let (from, to) = (1, 2);
    /// db.transaction_with(TransactionOptions::new().label("transfer"), async |tx| {
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
        work: F,
    ) -> impl Future<Output = Result<T>> + Send + use<'_, C, T, F>
    where
        T: Send,
        // The first for its words: from it, the compiler knows what `tx` is. The second for `Send`.
        F: AsyncFnMut(&mut Transaction<C>) -> Result<T>,
        F: for<'t> AsyncFuncMut<&'t mut Transaction<C>, Result<T>> + Send,
    {
        self.repeat(options, work, Location::caller(), |error| Some(error.clone()), last)
    }

    /// [`transaction_with`](Self::transaction_with) for a closure with an error type of your own; see
    /// [`try_transaction`](Self::try_transaction).
    ///
    /// Whether all is run again depends on the call of this crate that failed in `work`, whatever `work` made of its
    /// error; where none failed, it is not.
    ///
    /// # Errors
    /// As [`transaction_with`](Self::transaction_with); errors of this crate are turned into `E`. An `E` that the closure made of one
    /// is given back as it is, so that one of ours within it may still be [transient](crate::Error::is_transient).
    ///
    /// # Cancel safety
    /// As [`transaction`](Self::transaction).
    #[track_caller]
    pub fn try_transaction_with<T, E, F>(
        &self,
        options: TransactionOptions,
        work: F,
    ) -> impl Future<Output = Result<T, E>> + Send + use<'_, C, T, E, F>
    where
        T: Send,
        E: From<Error> + Send,
        F: AsyncFnMut(&mut Transaction<C>) -> Result<T, E>,
        F: for<'t> AsyncFuncMut<&'t mut Transaction<C>, Result<T, E>> + Send,
    {
        self.repeat(options, work, Location::caller(), |_| None, |error, _| error)
    }

    /// Attempt by attempt. `ours` reads the closure's error, `last` makes the final one of it.
    async fn repeat<T, E, F>(
        &self,
        options: TransactionOptions,
        mut work: F,
        location: &'static Location<'static>,
        ours: fn(&E) -> Option<Error>,
        answer: fn(E, u32) -> E,
    ) -> Result<T, E>
    where
        T: Send,
        E: From<Error> + Send,
        F: for<'t> AsyncFuncMut<&'t mut Transaction<C>, Result<T, E>> + Send,
    {
        let mut call = Call { label: options.label.as_ref(), ..self.call(location) };
        call.deadline = Deadline::earlier(call.deadline, options.deadline.and_then(Deadline::after));
        let first = Instant::now();
        let mut number = 1;
        loop {
            // Boxed: it carries the futures of the caller's closure.
            let failed = match Box::pin(self.attempt(&options, &mut work, call)).await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            let error = match &failed {
                Failed::Ours(error) => Some(error.clone()),
                Failed::Theirs(error, cause) => ours(error).or_else(|| cause.clone()),
            };
            let error = error.and_then(|error| options.retryable(&error));
            let pause = error
                .as_ref()
                .and_then(|error| options.retry.next_delay(Attempt::new(number, first.elapsed(), error)))
                .filter(|pause| call.deadline.is_none_or(|deadline| *pause < deadline.left()));
            let Some(pause) = pause else {
                return Err(match failed {
                    Failed::Ours(error) => last(error, number).into(),
                    Failed::Theirs(error, _) => answer(error, number),
                });
            };
            drop(failed);
            tracing::debug!(%location, error = error.map(tracing::field::display), number, ?pause, "running a transaction again after a pause");
            if self.pool().observers().are_there() {
                self.pool().observers().tell(&Event::TransactionRepeated { attempt: number, pause });
            }
            sleep(pause).await;
            number += 1;
        }
    }

    /// Begins, works, and commits or rolls back.
    async fn attempt<T, E, F>(&self, options: &TransactionOptions, work: &mut F, call: Call<'_>) -> Result<T, Failed<E>>
    where
        T: Send,
        E: From<Error> + Send,
        F: for<'t> AsyncFuncMut<&'t mut Transaction<C>, Result<T, E>> + Send,
    {
        let access = route::transaction_access(self.capabilities(), options.mode);
        let mut transaction = self.begin_for(call, access, options.mode).await?;
        let limit = transaction.closure_limit();
        let work = async { Ok(transaction.token().hold(work.call(&mut transaction)).await) };
        let outcome = match within(limit, work).await {
            Ok(outcome) => outcome.map_err(|error| Failed::Theirs(error, transaction.state.failure())),
            Err(late) => Err(Failed::Ours(late)),
        };
        transaction.end(outcome).await
    }
}

impl<E> From<Error> for Failed<E> {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// The error of the last attempt. A retry outside would only repeat what was tried here.
fn last(error: Error, attempts: u32) -> Error {
    let error = error.permanent();
    if attempts == 1 { error } else { error.context(format_args!("after {attempts} attempts")) }
}
