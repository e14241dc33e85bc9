//! A connection lent as it is.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::bulk;
use super::call::{Stage, within};
use super::held::Held;
use super::observed::{Observing, observed, over};
use super::route::{Collected, Yields};
use super::stream::{CHUNK, Chunks, RowStream};
use crate::DefaultConnector;
use crate::connector::{Connection, Connector, Resource, ResourceState, Scope, Statement, TransactionMode};
use crate::error::{ErrorKind, Reason, Result};
use crate::observer::CallKind;
use crate::params::IntoParams;
use crate::row::{Changes, Rows};
use crate::turn;

/// A connection of one's own, until the guard is dropped: for statements that alter a session, for a sequence that
/// nobody may come between, and for what the engine can do beyond the contract (SQLite:
/// `interact`, reached through `Deref`).
///
/// A transaction left open is rolled back when the guard is dropped; a connection whose session was altered is closed
/// instead of lent again. A [time limit](crate::AsyncDatabase::with_timeout) bounds the calls of the guard, and not what is
/// reached through `Deref`.
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
/// that inside one. They are on again for the next holder of a connection. Where it is enough to check them at the commit,
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
    held: Held<C>,
    /// The transaction of `execute_many` is open; if that call was dropped, the next one rolls back first.
    bulk: bool,
}

impl<C: Connector<Connection: Connection>> RawConnection<C> {
    pub(super) fn new(held: Held<C>) -> Self {
        Self { held, bulk: false }
    }

    one_liners! { self: &mut Self }

    fn observing(
        &self,
        kind: CallKind,
        statement: &Result<Statement>,
        location: &'static Location<'static>,
    ) -> Observing {
        self.held.observing(kind, statement, location)
    }

    async fn reading<Y: Yields>(
        &mut self,
        statement: Statement,
        location: &'static Location<'static>,
        yields: &mut Y,
    ) -> Result<Y::Made> {
        let observing = self.held.observe_span(CallKind::Fetch, &statement.sql, location);
        observed!(observing, self.read(statement, yields))
    }

    async fn read<Y: Yields>(&mut self, statement: Statement, yields: &mut Y) -> Result<Y::Made> {
        turn::take_holding().await;
        self.ready().await?;
        let limit = self.held.limit_of(&statement.sql);
        let connection = &mut **self.held;
        within(limit, turn::noting(pin!(yields.run(connection, statement, Scope::Session)))).await?.rows()
    }

    async fn writing(&mut self, statement: Statement, location: &'static Location<'static>) -> Result<Rows> {
        let observing = self.held.observe_span(CallKind::Execute, &statement.sql, location);
        observed!(observing, self.read(statement, &mut Collected))
    }

    /// The connection, without what a dropped `execute_many` left behind.
    async fn ready(&mut self) -> Result<&mut C::Connection> {
        if let Some(deadline) = self.held.overdue() {
            self.held.undo_all().await.ok();
            return Err(deadline.over(Reason::NotStarted, "what it had left open is rolled back"));
        }
        if self.bulk {
            within(self.held.limit(Stage::Rollback), self.held.rollback()).await?;
            self.bulk = false;
        }
        Ok(&mut **self.held)
    }

    /// Runs a statement once for each set of parameters, in one transaction unless one is open already.
    ///
    /// The iterator may borrow. It must be [`Send`], and so is the future; collect the sets of one that is not.
    ///
    /// # Errors
    /// The first error, with the number of its set where the engine knows it; nothing was changed then, unless a transaction was open.
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

    async fn insert_many(&mut self, sql: &str, sets: bulk::SetSource<'_>) -> Result<Changes> {
        let sql = Arc::from(sql);
        let observing = self.held.observe(CallKind::ExecuteMany, Some(&sql), None);
        over(observing, self.insert_sets(sql, sets)).await
    }

    async fn insert_sets(&mut self, sql: Arc<str>, sets: bulk::SetSource<'_>) -> Result<Changes> {
        let limit = self.held.limit(Stage::InTransaction);
        if self.ready().await?.state() == ResourceState::InTransaction {
            return within(limit, bulk::run(&mut **self.held, sql, sets)).await;
        }
        self.bulk = true;
        if let Err(error) = within(self.held.limit(Stage::Begin), self.held.begin(TransactionMode::WRITE)).await {
            // There is nothing to undo; a transaction that the caller has begun stays open.
            self.bulk = error.kind() == ErrorKind::Timeout;
            return Err(error);
        }
        let changes = within(limit, bulk::run(&mut **self.held, sql, sets)).await;
        if changes.is_ok() {
            within(self.held.limit(Stage::Commit), self.held.commit()).await?;
        } else {
            self.held.undo_all().await?;
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
        let sql = Arc::from(sql);
        let observing = self.held.observe(CallKind::ExecuteScript, Some(&sql), None);
        let running = async {
            let limit = self.held.limit_stopping(Stage::Script);
            within(limit, self.ready().await?.run_script(Arc::clone(&sql))).await
        };
        over(observing, running).await
    }

    /// Has the engine do what is beyond the contract, on a connection that was lent for this alone.
    pub(crate) async fn natively<T, F>(mut self, work: F) -> Result<T>
    where
        F: for<'c> FnOnce(&'c mut C::Connection) -> BoxFuture<'c, Result<T>>,
    {
        within(self.held.limit_stopping(Stage::Native), work(&mut self.held)).await
    }

    /// Whether there is a table or view of this name.
    ///
    /// # Errors
    /// As classified by the engine.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn table_exists(&mut self, name: &str) -> Result<bool> {
        let observing = self.held.observe(CallKind::TableExists, None, None);
        let running = async {
            let limit = self.held.limit(Stage::Read);
            within(limit, self.ready().await?.table_exists(name)).await
        };
        over(observing, running).await
    }

    /// Fetches rows while the statement runs; see [`AsyncDatabase::fetch_stream`](super::AsyncDatabase::fetch_stream).
    pub fn fetch_stream(&mut self, sql: &str, params: impl IntoParams) -> RowStream<'_> {
        let sql = Arc::from(sql);
        let observing = self.held.observe(CallKind::FetchStream, Some(&sql), None);
        let statement = Statement::new(sql, params);
        RowStream::of(observing, async move { Ok((RawStream { raw: self, reads: false }, statement?)) })
    }

    /// Says what the connection is used for; shown to those who wait for it in vain.
    pub fn label(&mut self, label: &str) {
        self.held.label(label);
    }
}

/// A stream of a connection of one's own.
struct RawStream<'r, C: Connector> {
    raw: &'r mut RawConnection<C>,
    /// Whether its statement is known to read only.
    reads: bool,
}

impl<C: Connector<Connection: Connection>> Chunks for RawStream<'_, C> {
    type Connection = C::Connection;

    fn connection(&mut self) -> &mut C::Connection {
        &mut self.raw.held
    }

    async fn open(&mut self, statement: Statement) -> Result<()> {
        self.raw.ready().await?;
        let limit = self.raw.held.limit_of(&statement.sql);
        self.reads = matches!(limit, Some((_, Stage::Read)));
        within(limit, self.raw.held.run_stream(statement, CHUNK)).await
    }

    async fn next(&mut self) -> Result<Option<Rows>> {
        self.raw.held.next_rows(self.reads).await
    }
}

impl<C: Connector> Deref for RawConnection<C> {
    type Target = C::Connection;

    fn deref(&self) -> &C::Connection {
        &self.held
    }
}

impl<C: Connector> DerefMut for RawConnection<C> {
    fn deref_mut(&mut self) -> &mut C::Connection {
        &mut self.held
    }
}

impl<C: Connector> fmt::Debug for RawConnection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawConnection").field("state", &self.held.state()).finish_non_exhaustive()
    }
}
