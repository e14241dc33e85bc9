//! Transactions as guards.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};

use futures_util::FutureExt as _;

use super::bulk;
use super::deadline::{Deadline, Stage, within};
use super::route;
use super::savepoint::Savepoint;
use super::stream::RowStream;
use crate::DefaultConnector;
use crate::connector::{Connection, Connector, Resource, ResourceState, Scope, Statement, TransactionMode};
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::params::IntoParams;
use crate::pool::HoldToken;
use crate::pool::Pooled;
use crate::row::{Changes, Rows};

/// An open transaction, with the one-liners of the database.
///
/// [`commit`](Transaction::commit) it; dropping it rolls back, and its connection is not lent again before that is done.
///
/// A statement that fails, or whose future is dropped half-way, dooms the transaction: nothing more runs in it, and
/// `commit` rolls back and says so. To go on after a failure, contain it in a nested transaction.
///
/// ```
/// # use strongroom::AsyncDatabase;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// # let db = AsyncDatabase::builder(":memory:").open().await?;
/// # db.execute_script("CREATE TABLE accounts (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL)").await?;
/// let mut tx = db.begin().await?;
/// tx.execute("INSERT INTO accounts VALUES ($1, $2)", (1, 100)).await?;
///
/// let mut nested = tx.begin().await?;
/// let twice = nested.execute("INSERT INTO accounts VALUES ($1, $2)", (1, 100)).await;
/// assert!(twice.is_err());
/// nested.rollback().await?;
///
/// tx.commit().await?;
/// # Ok(()) }
/// ```
pub struct Transaction<C: Connector = DefaultConnector> {
    lent: Pooled<C>,
    nests: bool,
    /// Open savepoints.
    depth: u32,
    /// A savepoint whose guard was dropped; undone before anything else.
    undo: Option<u32>,
    doom: Option<Doom>,
    /// When all of it has to be over.
    deadline: Option<Deadline>,
}

/// Why a transaction can only be rolled back, and from which depth on.
struct Doom {
    depth: u32,
    why: String,
    /// The error of the call that failed.
    error: Option<Error>,
}

impl<C: Connector<Connection: Connection>> Transaction<C> {
    pub(super) async fn begin_on(
        mut lent: Pooled<C>,
        mode: TransactionMode,
        nests: bool,
        deadline: Option<Deadline>,
    ) -> Result<Self> {
        let limit = deadline.map(|deadline| (deadline, Stage::Begin));
        within(limit, lent.begin(mode)).await.map_err(|error| error.during(Phase::Begin))?;
        lent.note_state();
        Ok(Self { lent, nests, depth: 0, undo: None, doom: None, deadline })
    }

    one_liners! { self: &mut Self }

    async fn reading(&mut self, statement: Result<Statement>) -> Result<Rows> {
        self.writing(statement).await
    }

    async fn writing(&mut self, statement: Result<Statement>) -> Result<Rows> {
        let statement = statement?;
        route::breathe().await;
        self.ready(None).await?;
        let limit = self.limit();
        let outcome = within(limit, route::noting_pauses(pin!(self.lent.run_in(statement, Scope::Transaction)))).await;
        self.judge(outcome)?.rows()
    }

    /// Runs a statement once for each set of parameters; see
    /// [`AsyncDatabase::execute_many`](super::AsyncDatabase::execute_many).
    ///
    /// The iterator may borrow. It must be [`Send`], and so is the future; collect the sets of one that is not.
    ///
    /// # Errors
    /// The first error, with the number of its set; it dooms the transaction.
    ///
    /// # Cancel safety
    /// Dropping the future dooms the transaction.
    pub fn execute_many<'a, I>(
        &'a mut self,
        sql: &'a str,
        sets: I,
    ) -> Pin<Box<dyn Future<Output = Result<Changes>> + Send + 'a>>
    where
        I: IntoIterator<Item: IntoParams, IntoIter: Send + 'a>,
    {
        Box::pin(self.insert_many(sql, bulk::source(sets)))
    }

    pub(super) async fn insert_many(&mut self, sql: &str, sets: bulk::Source<'_>) -> Result<Changes> {
        self.ready(Some(sql)).await?;
        let outcome = within(self.limit(), bulk::run(&mut *self.lent, sql.into(), sets)).await;
        self.judge(outcome)
    }

    /// Runs a text of several statements without parameters. It may not end the transaction.
    ///
    /// # Errors
    /// As classified by the engine; dooms the transaction.
    ///
    /// # Cancel safety
    /// Dropping the future dooms the transaction.
    pub async fn execute_script(&mut self, sql: &str) -> Result<()> {
        self.ready(None).await?;
        let outcome = within(self.limit(), self.lent.run_script(sql.into())).await;
        self.judge(outcome)
    }

    /// Whether there is a table or view of this name.
    ///
    /// # Errors
    /// As classified by the engine; dooms the transaction.
    ///
    /// # Cancel safety
    /// Dropping the future dooms the transaction.
    pub async fn table_exists(&mut self, name: &str) -> Result<bool> {
        self.ready(None).await?;
        let outcome = within(self.limit(), self.lent.table_exists(name)).await;
        self.judge(outcome)
    }

    /// Fetches rows while the statement runs; see [`AsyncDatabase::fetch_stream`](super::AsyncDatabase::fetch_stream).
    /// An error in the middle dooms the transaction.
    pub fn fetch_stream(&mut self, sql: &str, params: impl IntoParams) -> RowStream<'_> {
        RowStream::in_transaction(self, Statement::new(sql, params))
    }

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
        self.ready(None).await?;
        let depth = self.depth + 1;
        let outcome = within(self.limit(), self.lent.savepoint(depth)).await;
        self.judge(outcome)?;
        self.depth = depth;
        Ok(Savepoint::new(self, depth))
    }

    /// Runs `work` in a nested transaction: keeps what it did when it answers `Ok`, undoes it otherwise.
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

    /// Makes everything done in the transaction last.
    ///
    /// # Errors
    /// [`Reason::Doomed`] when a statement failed before: everything was rolled back. Otherwise as classified by the
    /// engine, and rolled back too; [`ErrorKind::OutcomeUnknown`] when the answer was lost.
    ///
    /// # Cancel safety
    /// After the future was polled once, dropping it leaves the outcome unknown.
    pub async fn commit(mut self) -> Result<()> {
        if let Err(doomed) = self.ready(None).await {
            let undone = self.undo_all().await;
            // What broke is undone by the engine.
            if self.lent.state() != ResourceState::Broken {
                undone?;
            }
            return Err(doomed.during(Phase::Commit));
        }
        let limit = self.deadline.map(|deadline| (deadline, Stage::Commit));
        within(limit, self.lent.commit()).await.map_err(|error| error.during(Phase::Commit))
    }

    /// Undoes everything done in the transaction, and waits until that is done.
    ///
    /// # Errors
    /// When the connection broke; the engine rolls back by itself then.
    ///
    /// # Cancel safety
    /// It is rolled back either way, at the latest before its connection is lent again.
    pub async fn rollback(mut self) -> Result<()> {
        self.undo_all().await.map_err(|error| error.during(Phase::Rollback))
    }

    /// Whoever has a deadline does not wait for ever for the rollback either.
    async fn undo_all(&mut self) -> Result<()> {
        let limit = self.deadline.and_then(|_| Deadline::grace()).map(|grace| (grace, Stage::Rollback));
        within(limit, self.lent.rollback()).await
    }

    /// Says what the transaction is for; shown to those who wait for its connection in vain.
    pub fn label(&mut self, label: &str) {
        self.lent.label(label);
    }

    pub(super) fn token(&self) -> HoldToken {
        self.lent.token()
    }

    /// What bounds a call in the transaction.
    pub(super) fn limit(&self) -> Option<(Deadline, Stage)> {
        self.deadline.map(|deadline| (deadline, Stage::InTransaction))
    }

    /// What bounds all of a closure.
    pub(super) fn closure_limit(&self) -> Option<(Deadline, Stage)> {
        self.deadline.map(|deadline| (deadline, Stage::Closure))
    }

    /// The error of the call that doomed the transaction.
    pub(super) fn failure(&self) -> Option<Error> {
        self.doom.as_ref().and_then(|doom| doom.error.clone())
    }

    /// Commits or rolls back, as the outcome of the closure asks.
    pub(super) async fn end<T, E: From<Error>>(self, outcome: Result<T, E>) -> Result<T, E> {
        match outcome {
            Ok(value) => Ok(self.commit().await.map(|()| value)?),
            Err(error) => {
                if let Err(failed) = self.rollback().await {
                    tracing::warn!(error = %failed, "rollback failed; the connection is closed instead");
                }
                Err(error)
            }
        }
    }

    /// Prepares for a call: undoes a dropped savepoint, refuses if doomed, and dooms in advance, so that a call that is
    /// dropped half-way leaves its mark. [`judge`](Self::judge) takes that back.
    pub(super) async fn ready(&mut self, sql: Option<&str>) -> Result<()> {
        if let Some(depth) = self.undo {
            let undone = self.lent.rollback_to(depth).await;
            self.undo = None;
            self.undone(depth, undone)?;
        }
        if self
            .doom
            .as_ref()
            .map_or(self.lent.state() == ResourceState::Broken, |doom| doom.error.as_ref().is_some_and(is_broken))
        {
            self.doom = Some(Doom { depth: 0, why: "its connection broke".into(), error: Some(broke()) });
            return Err(broke());
        }
        if let Some(doom) = &self.doom {
            return Err(Error::new(ErrorKind::Transaction, format!("the transaction failed before: {}", doom.why))
                .because(Reason::Doomed)
                .hint("roll it back; contain what may fail in a nested transaction"));
        }
        if let Some(deadline) = self.deadline.filter(|deadline| deadline.is_over()) {
            let error = deadline.over(Reason::RolledBack, "the transaction is rolled back");
            self.doom = Some(Doom { depth: 0, why: error.to_string(), error: None });
            // At once, and not when the guard is dropped: others may wait for its locks.
            self.undo_all().await.ok();
            return Err(error);
        }
        if let Some(sql) = sql {
            let kind = self.lent.classify(sql);
            Scope::Transaction.check(self.judge(kind)?)?;
        }
        self.doom = Some(Doom { depth: self.depth, why: "a call in it was dropped half-way".into(), error: None });
        Ok(())
    }

    /// Notes how a call ended.
    pub(super) fn judge<T>(&mut self, outcome: Result<T>) -> Result<T> {
        self.doom = match &outcome {
            Err(error) => Some(Doom { depth: self.depth, why: error.to_string(), error: Some(error.clone()) }),
            Ok(_) if self.is_gone() => {
                Some(Doom { depth: 0, why: "the engine ended the transaction by itself".into(), error: None })
            }
            Ok(_) => None,
        };
        outcome
    }

    /// Whether the engine says that no transaction is open any more. A connection that broke says so itself, by the next
    /// call.
    fn is_gone(&self) -> bool {
        matches!(self.lent.state(), ResourceState::Idle | ResourceState::Altered)
    }

    pub(super) fn connection(&mut self) -> &mut C::Connection {
        &mut self.lent
    }

    /// A savepoint was undone, and with it whatever failed inside it.
    pub(super) fn undone(&mut self, depth: u32, outcome: Result<()>) -> Result<()> {
        self.depth = depth - 1;
        // Savepoints inside it went with it.
        self.undo.take_if(|inner| *inner >= depth);
        match outcome {
            Ok(()) => {
                self.doom.take_if(|doom| doom.depth >= depth);
                Ok(())
            }
            Err(error) => {
                self.doom = Some(Doom { depth: 0, why: error.to_string(), error: Some(error.clone()) });
                Err(error)
            }
        }
    }

    /// Keeps what was done since a savepoint.
    pub(super) fn kept(&mut self, depth: u32) {
        self.depth = depth - 1;
    }
}

impl<C: Connector> Transaction<C> {
    /// The guard of a savepoint was dropped: it is undone before anything else happens here.
    pub(super) fn undo_later(&mut self, depth: u32) {
        self.undo = Some(self.undo.map_or(depth, |earlier| earlier.min(depth)));
    }
}

fn is_broken(error: &Error) -> bool {
    error.kind() == ErrorKind::Connection && error.reason() == Reason::Broken && error.is_transient()
}

#[cold]
fn broke() -> Error {
    Error::new(ErrorKind::Connection, "the connection broke in the middle of the transaction, which is rolled back")
        .because(Reason::Broken)
        .transient()
        .during(Phase::Statement)
}

impl<C: Connector> fmt::Debug for Transaction<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("depth", &self.depth)
            .field("doomed", &self.doom.is_some())
            .finish_non_exhaustive()
    }
}
