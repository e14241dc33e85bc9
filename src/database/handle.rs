//! The handle that programs hold.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::bulk;
use super::call::Call;
use super::call::{Deadline, Stage, within};
use super::lane::WriteLane;
use super::observed::{lent, observe, over};
use super::route;
use crate::DefaultConnector;
use crate::connector::{Access, Capabilities, Connection, Connector, Resource as _};
use crate::error::Result;
use crate::feed::ChangeFeed;
use crate::observer::{CallKind, MetricsRecorder};
use crate::params::IntoParams;
use crate::pool::{CloseReport, Pool, PoolStats};
use crate::row::Changes;

/// An encrypted, pooled, asynchronous SQL database.
///
/// Cheap to clone; all clones share the pool. Every call takes a connection for its own time only. Engines with a single
/// writer (SQLite) have a fair lane for writes, so callers of one `AsyncDatabase` and its
/// clones never see "database is locked". A second handle to the same file is to it as another process is.
///
/// ```
/// use strongroom::{AsyncDatabase, PassphraseKeySource};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// let db = AsyncDatabase::builder(":memory:").key(PassphraseKeySource::new("correct horse")).open().await?;
/// db.execute_script("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL)").await?;
/// db.execute("INSERT INTO users (name) VALUES ($1)", ("alice",)).await?;
/// db.execute_many("INSERT INTO users (name) VALUES ($1)", [("bob",), ("carol",)]).await?;
///
/// let n: Option<i64> = db.fetch_value("SELECT count(*) FROM users", ()).await?;
/// assert_eq!(n, Some(3));
///
/// db.transaction(async |tx| {
///     tx.execute("UPDATE users SET name = $1 WHERE id = $2", ("alicia", 1)).await?;
///     tx.execute("DELETE FROM users WHERE id = $1", (2,)).await?;
///     Ok(())
/// })
/// .await?;
///
/// #[derive(serde::Deserialize)]
/// struct User {
///     id: i64,
///     name: String,
/// }
/// let users: Vec<User> = db.fetch_all_as("SELECT id, name FROM users ORDER BY id", ()).await?;
/// assert_eq!(users[0].name, "alicia");
/// assert_eq!(users[1].id, 3);
/// db.close().await?;
/// # Ok(()) }
/// ```
pub struct AsyncDatabase<C: Connector = DefaultConnector> {
    pub(super) inner: Arc<DatabaseInner<C>>,
    /// How long each call through this handle may take.
    pub(super) limit: Option<Duration>,
}

pub(super) struct DatabaseInner<C: Connector> {
    pub(super) pool: Pool<C>,
    pub(super) capabilities: Capabilities,
    /// How old what is borrowed may become before it is ended by force.
    pub(super) max_age: Option<Duration>,
    pub(super) lane: Arc<WriteLane>,
    /// What is committed, for listeners.
    pub(super) feed: ChangeFeed,
    /// What was measured, if that was asked for.
    pub(super) metrics: Option<Arc<MetricsRecorder>>,
}

impl<C: Connector> AsyncDatabase<C> {
    /// How long [`close`](AsyncDatabase::close) waits for those who still work.
    pub const CLOSE_DEADLINE: Duration = Duration::from_secs(30);

    pub(super) fn new(
        pool: Pool<C>,
        capabilities: Capabilities,
        max_age: Option<Duration>,
        metrics: Option<Arc<MetricsRecorder>>,
    ) -> Self {
        let (lane, feed) = (Arc::default(), ChangeFeed::new());
        Self { inner: Arc::new(DatabaseInner { pool, capabilities, max_age, lane, feed, metrics }), limit: None }
    }

    pub(crate) fn pool(&self) -> &Pool<C> {
        &self.inner.pool
    }

    /// What the engine can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.inner.capabilities
    }

    /// Whether what is stored is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.inner.capabilities.encryption_at_rest
    }

    /// What the pool is doing: a snapshot of one moment.
    pub fn stats(&self) -> PoolStats {
        self.pool().stats()
    }

    /// How many connections are open.
    pub fn pool_size(&self) -> u32 {
        self.stats().total_connections
    }

    /// The same database, with a time limit for each call: for waiting, queueing and running together. Cheap: use it
    /// for a single call, or keep it beside the other handles. It replaces a limit that this handle has.
    ///
    /// The time begins when the call is first polled, and covers everything that the call gives: a
    /// [`Transaction`](crate::Transaction), a [`RawConnection`](crate::database::RawConnection) or a stream has to be done with by
    /// then, and whatever is asked of it later fails. A closure that is late is dropped and rolled back.
    /// [`connect`](Self::connect) and [`close`](Self::close) have limits of their own; [`suspend`](Self::suspend) and
    /// [`rekey`](Self::rekey) wait for no longer than this, but are not stopped once nothing is lent any more.
    ///
    /// ```
    /// use std::time::Duration;
    /// use strongroom::{AsyncDatabase, ErrorKind, Reason};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// let db = AsyncDatabase::builder(":memory:").open().await?;
    /// let endless = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    /// let late = db.with_timeout(Duration::from_millis(50)).fetch_all(endless, ()).await.unwrap_err();
    /// assert_eq!((late.kind(), late.reason()), (ErrorKind::Timeout, Reason::RolledBack));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A late call fails and says in which [`phase`](crate::Error::phase) it was, and what became of it:
    ///
    /// | [`kind`](crate::Error::kind) | [`reason`](crate::Error::reason) | |
    /// |---|---|---|
    /// | [`Timeout`](crate::ErrorKind::Timeout) | [`NotStarted`](crate::Reason::NotStarted) | it still waited for a connection or for the writer, and those who had it are named; or for the source of a key, or for the engine to be ready |
    /// | [`Timeout`](crate::ErrorKind::Timeout) | [`RolledBack`](crate::Reason::RolledBack) | it was stopped and has changed nothing |
    /// | [`Timeout`](crate::ErrorKind::Timeout) | [`Unspecified`](crate::Reason::Unspecified) | a script, or the closure of `interact`, was stopped; what it had committed before stays |
    /// | [`Timeout`](crate::ErrorKind::Timeout) | [`Unspecified`](crate::Reason::Unspecified) | `rekey_with`: the database has its new key, and the source had not let the old one go |
    /// | [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) | | a commit, or a write that commits by itself, gave no answer within 2 s after the deadline, when it had been asked to stop; only such calls are answered after the deadline. In PostgreSQL also a statement that commits in its middle, such as a `CALL`, and was stopped |
    ///
    /// A call that answers within that grace (two seconds, in which it is being stopped; mostly that takes milliseconds) has its own answer, also if
    /// that is a success. A write that shares a commit with others is stopped by rolling all of them back; the others
    /// run again.
    pub fn with_timeout(&self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self.clone() }
    }

    /// A call that begins now.
    pub(super) fn call(&self, location: &'static Location<'static>) -> Call<'static> {
        Call { location, deadline: self.limit.and_then(Deadline::after), label: None }
    }

    /// Opens the connections that the pool keeps at least, one at the minimum. Without this, the first call opens.
    ///
    /// # Errors
    /// Whatever keeps a connection from opening.
    ///
    /// # Cancel safety
    /// As [`Pool::warm`]: connections that are being opened are given up, others are kept.
    pub async fn connect(&self) -> Result<()> {
        self.pool().warm().await
    }

    /// Closes for all clones: refuses new calls, waits for those that run, and says goodbye to every connection, the
    /// writer last. Calls that run longer than [`CLOSE_DEADLINE`](Self::CLOSE_DEADLINE) are stopped.
    ///
    /// # Errors
    /// Outside of a runtime with timers, and in a child of the process that opened it. What went wrong with single connections
    /// stands in the report.
    ///
    /// # Cancel safety
    /// The database stays closed to new calls; call it again to wait for the rest.
    pub async fn close(&self) -> Result<CloseReport> {
        self.close_within(Self::CLOSE_DEADLINE).await
    }

    /// [`close`](Self::close) with another deadline.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    ///
    /// # Cancel safety
    /// As [`close`](Self::close).
    pub async fn close_within(&self, deadline: Duration) -> Result<CloseReport> {
        crate::clock::check()?;
        self.pool().connector().usable()?;
        let report = self.pool().close(deadline).await;
        self.inner.feed.end();
        Ok(report)
    }
}

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    one_liners! { self: &Self }

    /// Runs a statement once for each set of parameters, in one transaction: all or nothing. The statement is prepared
    /// once, and the iterator is drawn from as the work proceeds, so it may be as long as it likes.
    ///
    /// The iterator may borrow. It must be [`Send`], and so is the future; collect the sets of one that is not.
    ///
    /// ```
    /// # use strongroom::AsyncDatabase;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// # db.execute_script("CREATE TABLE users (name TEXT, length INTEGER)").await?;
    /// let names = vec!["alice".to_owned(), "bob".to_owned()];
    /// let writer = db.clone();
    /// tokio::spawn(async move {
    ///     let sets = names.iter().map(|name| (name, name.len() as i64));
    ///     writer.execute_many("INSERT INTO users VALUES ($1, $2)", sets).await
    /// })
    /// .await
    /// .expect("the task ran")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The first error, with the number of its set (PostgreSQL takes many sets at once, and names none); nothing was changed then.
    ///
    /// # Cancel safety
    /// Dropping the future rolls everything back.
    #[track_caller]
    pub fn execute_many<'a, I>(
        &'a self,
        sql: &'a str,
        sets: I,
    ) -> Pin<Box<dyn Future<Output = Result<Changes>> + Send + 'a>>
    where
        I: IntoIterator<Item: IntoParams, IntoIter: Send + 'a>,
    {
        let (beginning, sets) = (self.begin(), bulk::source(sets));
        Box::pin(async move {
            let mut transaction = beginning.await?;
            let outcome = transaction.insert_many(sql, sets).await;
            transaction.end(outcome).await
        })
    }

    /// Runs a text of several statements without parameters, such as a schema. It has the writer to itself; what it
    /// alters of the session ends with it.
    ///
    /// # Errors
    /// As classified by the engine; the statements before the failing one may stay done, and in SQLite what a statement
    /// with `OR FAIL` did before it failed. A transaction that the script leaves open is rolled back, which is an error.
    ///
    /// # Cancel safety
    /// Dropping the future stops the statement that runs and undoes it; those before it may stay done. A transaction that
    /// the script has begun is rolled back.
    #[track_caller]
    pub fn execute_script(&self, sql: &str) -> impl Future<Output = Result<()>> + Send {
        let location = Location::caller();
        async move {
            let sql = Arc::from(sql);
            let observing = observe(self.pool().observers(), CallKind::ExecuteScript, Some(&sql), location);
            let running = async {
                let call = self.call(location);
                let mut writer = call.lend(self.pool(), Access::Write).await?;
                lent();
                let limit = call.limit(|| Stage::Script(writer.canceller()));
                within(limit, route::run_script(&mut writer, Arc::clone(&sql))).await
            };
            over(observing, running).await
        }
    }

    /// Whether there is a table or view of this name.
    ///
    /// # Errors
    /// As classified by the engine.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    #[track_caller]
    pub fn table_exists(&self, name: &str) -> impl Future<Output = Result<bool>> + Send {
        let location = Location::caller();
        async move {
            let observing = observe(self.pool().observers(), CallKind::TableExists, None, location);
            let running = async {
                let (call, access) = (self.call(location), route::read_access(self.capabilities()));
                let mut reader = call.lend(self.pool(), access).await?;
                lent();
                within(call.limit(|| Stage::Read), reader.table_exists(name)).await
            };
            over(observing, running).await
        }
    }
}

impl<C: Connector> Clone for AsyncDatabase<C> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), limit: self.limit }
    }
}

impl<C: Connector> fmt::Debug for AsyncDatabase<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncDatabase")
            .field("engine", &self.inner.capabilities.engine)
            .field("encrypted", &self.is_encrypted())
            .field("limit", &self.limit)
            .field("stats", &self.stats())
            .finish()
    }
}
