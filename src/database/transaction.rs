//! Transactions as guards.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::Arc;

use super::bulk;
use super::call::{self, Limit, Stage, within};
use super::held::Held;
use super::observed::{Observing, observed, over};
use super::route::{Collected, Yields};
use super::state::TransactionState;
use super::stream::{CHUNK, Chunks, RowStream};
use crate::DefaultConnector;
use crate::connector::{
    Connection, Connector, PendingCommit, Resource as _, ResourceState, Scope, Statement, TransactionMode,
};
use crate::error::{Error, Phase, Result};
use crate::observer::CallKind;
use crate::params::IntoParams;
use crate::pool::HoldToken;
use crate::row::{Changes, Rows};
use crate::turn;

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
    pub(super) state: TransactionState<C>,
    pub(super) nests: bool,
}

impl<C: Connector<Connection: Connection>> Transaction<C> {
    pub(super) async fn begin_on(mut held: Held<C>, mode: TransactionMode, nests: bool) -> Result<Self> {
        let begun = within(held.limit(Stage::Begin), held.begin(mode)).await;
        begun.map_err(|error| error.during(Phase::Begin))?;
        held.note_state();
        Ok(Self { state: TransactionState::new(held), nests })
    }

    one_liners! { self: &mut Self }

    fn observing(
        &self,
        kind: CallKind,
        statement: &Result<Statement>,
        location: &'static Location<'static>,
    ) -> Observing {
        self.state.held.observing(kind, statement, location)
    }

    async fn reading<Y: Yields>(
        &mut self,
        statement: Statement,
        location: &'static Location<'static>,
        yields: &mut Y,
    ) -> Result<Y::Made> {
        let observing = self.state.held.observe_span(CallKind::Fetch, &statement.sql, location);
        observed!(observing, self.read(statement, yields))
    }

    async fn read<Y: Yields>(&mut self, statement: Statement, yields: &mut Y) -> Result<Y::Made> {
        let state = &mut self.state;
        turn::take_holding().await;
        state.ready(None).await?;
        let limit = state.limit();
        let connection = &mut **state.held;
        let outcome = within(limit, turn::noting(pin!(yields.run(connection, statement, Scope::Transaction)))).await;
        state.judge(outcome)?.rows()
    }

    async fn writing(&mut self, statement: Statement, location: &'static Location<'static>) -> Result<Rows> {
        let observing = self.state.held.observe_span(CallKind::Execute, &statement.sql, location);
        observed!(observing, self.read(statement, &mut Collected))
    }

    /// Runs a statement once for each set of parameters; see
    /// [`AsyncDatabase::execute_many`](super::AsyncDatabase::execute_many).
    ///
    /// The iterator may borrow. It must be [`Send`], and so is the future; collect the sets of one that is not.
    ///
    /// # Errors
    /// The first error, with the number of its set where the engine knows it; it dooms the transaction.
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

    pub(super) async fn insert_many(&mut self, sql: &str, sets: bulk::SetSource<'_>) -> Result<Changes> {
        let state = &mut self.state;
        let sql: Arc<str> = Arc::from(sql);
        let observing = state.held.observe(CallKind::ExecuteMany, Some(&sql), None);
        let running = async {
            state.ready(Some(&sql)).await?;
            let outcome = within(state.limit(), bulk::run(&mut **state.held, Arc::clone(&sql), sets)).await;
            state.judge(outcome)
        };
        over(observing, running).await
    }

    /// Runs a text of several statements without parameters. It may not end the transaction.
    ///
    /// # Errors
    /// As classified by the engine; dooms the transaction.
    ///
    /// # Cancel safety
    /// Dropping the future dooms the transaction.
    pub async fn execute_script(&mut self, sql: &str) -> Result<()> {
        let state = &mut self.state;
        let sql = Arc::from(sql);
        let observing = state.held.observe(CallKind::ExecuteScript, Some(&sql), None);
        let running = async {
            state.ready(None).await?;
            let outcome = within(state.limit(), state.held.run_script(Arc::clone(&sql))).await;
            state.judge(outcome)
        };
        over(observing, running).await
    }

    /// Whether there is a table or view of this name.
    ///
    /// # Errors
    /// As classified by the engine; dooms the transaction.
    ///
    /// # Cancel safety
    /// Dropping the future dooms the transaction.
    pub async fn table_exists(&mut self, name: &str) -> Result<bool> {
        let state = &mut self.state;
        let observing = state.held.observe(CallKind::TableExists, None, None);
        let running = async {
            state.ready(None).await?;
            let outcome = within(state.limit(), state.held.table_exists(name)).await;
            state.judge(outcome)
        };
        over(observing, running).await
    }

    /// Fetches rows while the statement runs; see [`AsyncDatabase::fetch_stream`](super::AsyncDatabase::fetch_stream).
    /// An error in the middle dooms the transaction.
    pub fn fetch_stream(&mut self, sql: &str, params: impl IntoParams) -> RowStream<'_> {
        let sql = Arc::from(sql);
        let observing = self.state.held.observe(CallKind::FetchStream, Some(&sql), None);
        let statement = Statement::new(sql, params);
        RowStream::of(observing, async move { Ok((&mut self.state, statement?)) })
    }

    /// Makes everything done in the transaction last.
    ///
    /// # Errors
    /// [`Reason::Doomed`](crate::Reason::Doomed) when a statement failed before: everything was rolled back. Otherwise as classified by the
    /// engine, and rolled back too; [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) when the answer was lost.
    ///
    /// # Cancel safety
    /// After the future was polled once, dropping it leaves the outcome unknown.
    pub async fn commit(self) -> Result<()> {
        // Others work with the connection while this waits for the disk.
        self.commit_and(drop).await
    }

    /// [`commit`](Self::commit); `then` says what becomes of the connection before the disk has everything.
    pub(super) async fn commit_and<T>(self, then: impl FnOnce(Held<C>) -> T) -> Result<T> {
        let observing = self.state.held.observe(CallKind::Commit, None, None);
        let running = async {
            let (held, pending) = self.commit_early().await?;
            let (limit, left) = (held.limit(Stage::Commit), then(held));
            if let Some(pending) = pending {
                within(limit, pending.wait()).await.map_err(|error| error.during(Phase::Commit))?;
            }
            Ok(left)
        };
        over(observing, running).await
    }

    async fn commit_early(mut self) -> Result<(Held<C>, Option<PendingCommit>)> {
        let state = &mut self.state;
        if let Err(doomed) = state.ready(None).await {
            let undone = state.held.undo_all().await;
            // What broke is undone by the engine.
            if state.held.state() != ResourceState::Broken {
                undone?;
            }
            return Err(doomed.during(Phase::Commit));
        }
        let committed = within(state.held.limit(Stage::Commit), state.held.commit_early()).await;
        let pending = committed.map_err(|error| error.during(Phase::Commit))?;
        Ok((self.state.held, pending))
    }

    /// Undoes everything done in the transaction, and waits until that is done.
    ///
    /// # Errors
    /// When the connection broke; the engine rolls back by itself then.
    ///
    /// # Cancel safety
    /// It is rolled back either way, at the latest before its connection is lent again.
    pub async fn rollback(self) -> Result<()> {
        self.rollback_and_keep().await.map(drop)
    }

    /// [`rollback`](Self::rollback), which leaves the connection with the caller.
    pub(super) async fn rollback_and_keep(mut self) -> Result<Held<C>> {
        let observing = self.state.held.observe(CallKind::Rollback, None, None);
        let running = async {
            self.state.held.undo_all().await.map_err(|error| error.during(Phase::Rollback))?;
            Ok(self.state.held)
        };
        over(observing, running).await
    }

    /// Says what the transaction is for; shown to those who wait for its connection in vain.
    pub fn label(&mut self, label: &str) {
        self.state.held.label(label);
    }

    pub(super) fn token(&self) -> HoldToken {
        self.state.held.token()
    }

    /// What bounds all of a closure.
    pub(super) fn closure_limit(&self) -> Limit {
        self.state.held.limit(Stage::Closure)
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
}

impl<C: Connector<Connection: Connection>> Chunks for &mut TransactionState<C> {
    type Connection = C::Connection;

    fn connection(&mut self) -> &mut C::Connection {
        &mut self.held
    }

    async fn open(&mut self, statement: Statement) -> Result<()> {
        self.ready(Some(&statement.sql)).await?;
        let outcome = within(self.limit(), self.held.run_stream(statement, CHUNK)).await;
        self.judge(outcome)
    }

    async fn next(&mut self) -> Result<Option<Rows>> {
        let late = call::check(self.limit());
        self.judge(late)?;
        let chunk = within(self.limit(), self.held.next_chunk()).await;
        self.judge(chunk)
    }
}

impl<C: Connector> fmt::Debug for Transaction<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("depth", &self.state.depth())
            .field("doomed", &self.state.is_doomed())
            .finish_non_exhaustive()
    }
}
