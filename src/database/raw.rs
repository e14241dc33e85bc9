//! A connection lent as it is.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};

use futures_util::FutureExt as _;

use super::bulk;
use super::route;
use super::stream::RowStream;
use crate::{
    Changes, Connection, Connector, DefaultConnector, IntoParams, Pooled, Resource, ResourceState, Result, Rows,
    Statement, TransactionMode,
};

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
pub struct RawConnection<C: Connector = DefaultConnector> {
    lent: Pooled<C>,
    /// The transaction of `execute_many` is open; if that call was dropped, the next one rolls back first.
    bulk: bool,
}

impl<C: Connector<Connection: Connection>> RawConnection<C> {
    pub(super) fn new(lent: Pooled<C>) -> Self {
        Self { lent, bulk: false }
    }

    one_liners! { self: &mut Self }

    async fn reading(&mut self, statement: Result<Statement>) -> Result<Rows> {
        self.writing(statement).await
    }

    async fn writing(&mut self, statement: Result<Statement>) -> Result<Rows> {
        let statement = statement?;
        route::breathe().await;
        self.ready().await?.run(statement).await
    }

    /// The connection, without what a dropped `execute_many` left behind.
    pub(super) async fn ready(&mut self) -> Result<&mut C::Connection> {
        if self.bulk {
            self.lent.rollback().await?;
            self.bulk = false;
        }
        Ok(&mut self.lent)
    }

    /// Runs a statement once for each set of parameters, in one transaction unless one is open already.
    ///
    /// # Errors
    /// The first error, with the number of its set; nothing was changed then, unless a transaction was open.
    ///
    /// # Cancel safety
    /// The transaction begun here is rolled back before the next call of this guard, or when the guard is dropped. What
    /// is reached through `Deref` in between, such as `interact`, still runs inside it.
    pub async fn execute_many<I>(&mut self, sql: &str, sets: I) -> Result<Changes>
    where
        I: IntoIterator<Item: IntoParams>,
    {
        if self.ready().await?.state() == ResourceState::InTransaction {
            return bulk::run(&mut *self.lent, sql, sets).await;
        }
        self.bulk = true;
        self.lent.begin(TransactionMode::WRITE).await?;
        let changes = bulk::run(&mut *self.lent, sql, sets).await;
        if changes.is_ok() {
            self.lent.commit().await?;
            self.bulk = false;
        } else {
            self.ready().await?;
        }
        changes
    }

    /// Runs a text of several statements without parameters.
    ///
    /// # Errors
    /// As classified by the engine; the statements before the failing one may stay done.
    pub async fn execute_script(&mut self, sql: &str) -> Result<()> {
        self.ready().await?.run_script(sql.into()).await
    }

    /// Whether there is a table or view of this name.
    ///
    /// # Errors
    /// As classified by the engine.
    pub async fn table_exists(&mut self, name: &str) -> Result<bool> {
        self.ready().await?.table_exists(name).await
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
