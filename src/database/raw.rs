//! A connection lent as it is.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::{Pin, pin};

use futures_util::FutureExt as _;

use super::bulk;
use super::deadline::{Deadline, Stage, within};
use super::route;
use super::stream::RowStream;
use crate::DefaultConnector;
use crate::connector::{Canceller, Connection, Connector, Resource, ResourceState, Statement, TransactionMode};
use crate::error::{ErrorKind, Reason, Result};
use crate::params::IntoParams;
use crate::pool::Pooled;
use crate::row::{Changes, Rows};

/// A connection of one's own, until the guard is dropped: for statements that alter a session, for a sequence that
/// nobody may come between, and for what the engine can do beyond the contract (SQLite:
/// `interact`, reached through `Deref`).
///
/// A transaction left open is rolled back when the guard is dropped; a connection whose session was altered is closed
/// instead of lent again.
///
/// ```
/// # use strongroom::AsyncDatabase;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// # let db = AsyncDatabase::builder(":memory:").open().await?;
/// let mut conn = db.connection().await?;
/// conn.execute_script("CREATE TABLE t (a); PRAGMA foreign_keys = OFF; VACUUM").await?;
/// let version: String = conn.interact(|c| c.query_row("SELECT sqlite_version()", (), |row| row.get(0))).await?;
/// assert!(version.starts_with("3."));
/// # Ok(()) }
/// ```
///
/// To rebuild a table of SQLite that others refer to, switch foreign keys off here, before the transaction; SQLite ignores
/// that inside one. They are on again for whoever gets a connection next. Where it is enough to check them at the commit,
/// `PRAGMA defer_foreign_keys = ON` in any transaction does that, and ends with it.
///
/// ```
/// # use strongroom::AsyncDatabase;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// # let db = AsyncDatabase::builder(":memory:").open().await?;
/// # db.execute_script("CREATE TABLE t (a INTEGER PRIMARY KEY)").await?;
/// let mut conn = db.connection().await?;
/// conn.execute_script(
///     "PRAGMA foreign_keys = OFF;
///      BEGIN;
///      CREATE TABLE rebuilt (a INTEGER PRIMARY KEY, b TEXT);
///      INSERT INTO rebuilt (a) SELECT a FROM t;
///      DROP TABLE t;
///      ALTER TABLE rebuilt RENAME TO t;
///      COMMIT",
/// )
/// .await?;
/// assert!(conn.fetch_all("PRAGMA foreign_key_check", ()).await?.is_empty());
/// # Ok(()) }
/// ```
pub struct RawConnection<C: Connector = DefaultConnector> {
    lent: Pooled<C>,
    /// The transaction of `execute_many` is open; if that call was dropped, the next one rolls back first.
    bulk: bool,
    /// When the calls of this guard have to be over.
    deadline: Option<Deadline>,
}

impl<C: Connector<Connection: Connection>> RawConnection<C> {
    pub(super) fn new(lent: Pooled<C>, deadline: Option<Deadline>) -> Self {
        Self { lent, bulk: false, deadline }
    }

    one_liners! { self: &mut Self }

    async fn reading(&mut self, statement: Result<Statement>) -> Result<Rows> {
        self.writing(statement).await
    }

    async fn writing(&mut self, statement: Result<Statement>) -> Result<Rows> {
        let statement = statement?;
        route::breathe().await;
        let limit = self.limit(Stage::Write);
        let connection = self.ready().await?;
        within(limit, route::noting_pauses(pin!(connection.run(statement)))).await
    }

    /// Whoever has a deadline does not wait for ever for the rollback either.
    async fn undo_all(&mut self) -> Result<()> {
        let limit = self.deadline.and_then(|_| Deadline::grace()).map(|grace| (grace, Stage::Rollback));
        within(limit, self.lent.rollback()).await
    }

    pub(super) fn connection(&mut self) -> &mut C::Connection {
        &mut self.lent
    }

    /// What bounds a call of this guard.
    pub(super) fn limit(&self, stage: fn(Canceller) -> Stage) -> Option<(Deadline, Stage)> {
        self.deadline.map(|deadline| (deadline, stage(self.lent.canceller())))
    }

    /// The connection, without what a dropped `execute_many` left behind.
    pub(super) async fn ready(&mut self) -> Result<&mut C::Connection> {
        if let Some(deadline) = self.deadline.filter(|deadline| deadline.is_over()) {
            self.undo_all().await.ok();
            return Err(deadline.over(Reason::NotStarted, "what it had left open is rolled back"));
        }
        if self.bulk {
            self.lent.rollback().await?;
            self.bulk = false;
        }
        Ok(&mut self.lent)
    }

    /// Runs a statement once for each set of parameters, in one transaction unless one is open already.
    ///
    /// The iterator may borrow. It must be [`Send`], and so is the future; collect the sets of one that is not.
    ///
    /// # Errors
    /// The first error, with the number of its set; nothing was changed then, unless a transaction was open.
    ///
    /// # Cancel safety
    /// The transaction begun here is rolled back before the next call of this guard, or when the guard is dropped. What
    /// is reached through `Deref` in between, such as `interact`, still runs inside it.
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
        let limit = self.deadline.map(|deadline| (deadline, Stage::InTransaction));
        if self.ready().await?.state() == ResourceState::InTransaction {
            return within(limit, bulk::run(&mut *self.lent, sql.into(), sets)).await;
        }
        self.bulk = true;
        let begin = self.deadline.map(|deadline| (deadline, Stage::Begin));
        if let Err(error) = within(begin, self.lent.begin(TransactionMode::WRITE)).await {
            // There is nothing to undo, and what the caller has begun himself is his.
            self.bulk = error.kind() == ErrorKind::Timeout;
            return Err(error);
        }
        let changes = within(limit, bulk::run(&mut *self.lent, sql.into(), sets)).await;
        if changes.is_ok() {
            let limit = self.deadline.map(|deadline| (deadline, Stage::Commit));
            within(limit, self.lent.commit()).await?;
        } else {
            self.undo_all().await?;
        }
        self.bulk = false;
        changes
    }

    /// Runs a text of several statements without parameters.
    ///
    /// # Errors
    /// As classified by the engine; the statements before the failing one may stay done.
    ///
    /// # Cancel safety
    /// Dropping the future stops the statement that runs and undoes it; those before it may stay done, and a transaction
    /// that the script has begun stays open until the guard is dropped or ends it.
    pub async fn execute_script(&mut self, sql: &str) -> Result<()> {
        let limit = self.limit(Stage::Script);
        within(limit, self.ready().await?.run_script(sql.into())).await
    }

    /// Whether there is a table or view of this name.
    ///
    /// # Errors
    /// As classified by the engine.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn table_exists(&mut self, name: &str) -> Result<bool> {
        let limit = self.limit(Stage::Write);
        within(limit, self.ready().await?.table_exists(name)).await
    }

    /// Fetches rows while the statement runs; see [`AsyncDatabase::fetch_stream`](super::AsyncDatabase::fetch_stream).
    pub fn fetch_stream(&mut self, sql: &str, params: impl IntoParams) -> RowStream<'_> {
        RowStream::on_raw(self, Statement::new(sql, params))
    }

    /// Says what the connection is used for; shown to those who wait for it in vain.
    pub fn label(&mut self, label: &str) {
        self.lent.label(label);
    }
}

impl<C: Connector> Deref for RawConnection<C> {
    type Target = C::Connection;

    fn deref(&self) -> &C::Connection {
        &self.lent
    }
}

impl<C: Connector> DerefMut for RawConnection<C> {
    fn deref_mut(&mut self) -> &mut C::Connection {
        &mut self.lent
    }
}

impl<C: Connector> fmt::Debug for RawConnection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawConnection").field("state", &self.lent.state()).finish_non_exhaustive()
    }
}
