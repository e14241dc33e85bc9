//! Putting a database together.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::handle::AsyncDatabase;
use super::repeat::AsyncFunc;
use crate::connector::{Connection, Connector};
use crate::error::Result;
use crate::health::HealthCheck;
use crate::observer::{MetricsRecorder, Observer, SlowCalls};
use crate::pool::{CloseReport, Pool, PoolBuilder};
use crate::retry::{FixedDelay, RetryPolicy};

/// Settings of an [`AsyncDatabase`], each with a default; start with `AsyncDatabase::builder(path)` or
/// [`AsyncDatabase::with_connector`].
///
/// Numbers outside their bounds are moved to the bound, with a warning in the log.
#[must_use = "a builder does nothing until `open` or `build`"]
pub struct DatabaseBuilder<C: Connector> {
    pool: PoolBuilder<C>,
    /// Which failed connects are tried again, unless the pool was given a policy.
    attempts: Option<FixedDelay>,
    max_age: Option<Duration>,
    end_overdue: bool,
    metrics: bool,
}

impl<C: Connector> AsyncDatabase<C> {
    /// Starts building a database on `connector`: any engine, or a mock.
    pub fn with_connector(connector: C) -> DatabaseBuilder<C> {
        let attempts = Some(FixedDelay::default());
        DatabaseBuilder { pool: Pool::builder(connector), attempts, max_age: None, end_overdue: false, metrics: false }
    }
}

impl<C: Connector> DatabaseBuilder<C> {
    /// Changes the connector, for settings that only its engine has.
    pub fn map_connector(self, change: impl FnOnce(C) -> C) -> Self {
        self.with_pool(|pool| pool.map_connector(change))
    }

    fn with_pool(self, change: impl FnOnce(PoolBuilder<C>) -> PoolBuilder<C>) -> Self {
        Self { pool: change(self.pool), ..self }
    }

    /// The connector alone, for what is done without a pool.
    pub fn into_connector(self) -> C {
        self.pool.into_connector()
    }

    /// The pool's name in errors, logs and metrics; by default the engine's, and in metrics that of the database.
    pub fn pool_name(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.with_pool(|pool| pool.name(name))
    }

    /// How many connections are kept open: 0 to 10, at most the maximum; 1 by default.
    pub fn pool_min(self, connections: u32) -> Self {
        self.with_pool(|pool| pool.min_size(connections))
    }

    /// How many connections there may be, the writer included: 1 to 100; 10 by default. With 1, the same connection
    /// reads and writes, and readers wait behind transactions.
    pub fn pool_max(self, connections: u32) -> Self {
        self.with_pool(|pool| pool.max_size(connections))
    }

    /// How long a call waits for a connection: 1 to 300 s; 30 s by default.
    pub fn pool_timeout(self, limit: Duration) -> Self {
        self.with_pool(|pool| pool.acquire_timeout(limit))
    }

    /// How many attempts a failing connect gets, the first included, in spite of the name: 1 to 10; 3 by default, and
    /// with 1 nothing is tried again. Only what may pass is.
    pub fn max_retries(mut self, attempts: u32) -> Self {
        self.attempts = self.attempts.map(|policy| policy.attempts(attempts));
        self
    }

    /// The pause between attempts: 0.1 to 60 s; 0.5 s by default.
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.attempts = self.attempts.map(|policy| policy.delay(delay));
        self
    }

    /// Closes connections that nobody used for this long, down to `pool_min` (1 by default). Off by default: embedded connections cost nothing to keep.
    pub fn idle_timeout(self, limit: Duration) -> Self {
        self.with_pool(|pool| pool.idle_timeout(Some(limit)))
    }

    /// Closes connections of this age. Off by default.
    pub fn max_lifetime(self, limit: Duration) -> Self {
        self.with_pool(|pool| pool.max_lifetime(Some(limit)))
    }

    /// Warns in the log, once for each, about transactions, borrowed connections and streams that have held their
    /// connection for longer than this: where they were begun, their label, and since when. In SQLite, such a one keeps
    /// the write-ahead log from being cut back; one that writes keeps all writers waiting. Off by default, and then
    /// nothing is watched.
    pub fn max_transaction_age(mut self, limit: Duration) -> Self {
        self.max_age = Some(limit);
        self.with_pool(|pool| pool.max_loan_age(Some(limit)))
    }

    /// Whether what reaches [`max_transaction_age`](Self::max_transaction_age) is also ended by force; false by
    /// default. Its running call is stopped, a closure that is at work is dropped, the transaction is rolled back; the
    /// holder of a guard or a stream learns it from the next call, and the connection is lent again when the guard is
    /// dropped. What is called through `Deref` of a borrowed connection is not bounded.
    ///
    /// ```
    /// use std::time::Duration;
    /// use strongroom::{AsyncDatabase, ErrorKind};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// let db = AsyncDatabase::builder(":memory:")
    ///     .max_transaction_age(Duration::from_millis(50))
    ///     .end_overdue_transactions(true)
    ///     .open()
    ///     .await?;
    /// let stuck = db.transaction(async |_| std::future::pending::<strongroom::Result<()>>().await).await;
    /// assert_eq!(stuck.unwrap_err().kind(), ErrorKind::Timeout);
    /// # Ok(()) }
    /// ```
    pub fn end_overdue_transactions(mut self, end: bool) -> Self {
        self.end_overdue = end;
        self
    }

    /// Decides which failed connects are tried again, in place of [`max_retries`](Self::max_retries) and
    /// [`retry_delay`](Self::retry_delay).
    pub fn retry(mut self, policy: impl RetryPolicy + 'static) -> Self {
        self.attempts = None;
        self.with_pool(|pool| pool.retry(policy))
    }

    /// Decides whether an idle connection may be lent again; `SkipIfRecent<Ping>` by default.
    pub fn health(self, check: impl HealthCheck<C::Connection> + 'static) -> Self {
        self.with_pool(|pool| pool.health(check))
    }

    /// Sets every new connection up before anyone uses it: functions, collations, pragmas. If it fails, the connect has
    /// failed. The closure gives back a boxed future; [`set_up`](Self::set_up) takes `async |connection| ...`.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// let db = AsyncDatabase::builder(":memory:")
    ///     .on_connect(|connection| {
    ///         Box::pin(async move { connection.interact(|c| c.pragma_update(None, "cell_size_check", true)).await })
    ///     })
    ///     .open()
    ///     .await?;
    /// let on: Option<i64> = db.fetch_value("PRAGMA cell_size_check", ()).await?;
    /// assert_eq!(on, Some(1));
    /// # Ok(()) }
    /// ```
    pub fn on_connect<F>(self, hook: F) -> Self
    where
        F: for<'a> Fn(&'a mut C::Connection) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>,
        F: Send + Sync + 'static,
    {
        self.with_pool(|pool| pool.on_connect(hook))
    }

    /// [`on_connect`](Self::on_connect) with an async closure: `async |connection| ...`. It captures
    /// nothing; one that does is written for `on_connect`, whose future owns a clone of what it needs.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// let db = AsyncDatabase::builder(":memory:")
    ///     .set_up(async |connection| connection.interact(|c| c.pragma_update(None, "cell_size_check", true)).await)
    ///     .open()
    ///     .await?;
    /// assert_eq!(db.fetch_value::<i64>("PRAGMA cell_size_check", ()).await?, Some(1));
    /// # Ok(()) }
    /// ```
    pub fn set_up<F>(self, hook: F) -> Self
    where
        // The first for its words: from it, the compiler knows what `connection` is. The second for `Send`.
        F: AsyncFn(&mut C::Connection) -> Result<()>,
        F: for<'a> AsyncFunc<&'a mut C::Connection, Result<()>> + Send + Sync + 'static,
    {
        let hook = Arc::new(hook);
        self.on_connect(move |connection| {
            let hook = Arc::clone(&hook);
            Box::pin(async move { hook.call(connection).await })
        })
    }

    /// Tells `observer` of every call and every connection, beside those that were added before. Without one, nothing is
    /// measured.
    pub fn observer(self, observer: impl Observer + 'static) -> Self {
        self.with_pool(|pool| pool.observer(observer))
    }

    /// Whether times and numbers are measured, for [`metrics`](AsyncDatabase::metrics); false by default.
    pub fn metrics(mut self, measure: bool) -> Self {
        self.metrics = measure;
        self
    }

    /// Warns in the log, by the target `strongroom::slow`, of every call that takes at least so long, waiting and running
    /// together: with the text of the statement without values, both times, and the place of the call. Off by default.
    pub fn log_slow_calls(self, threshold: Duration) -> Self {
        self.observer(SlowCalls(threshold))
    }

    /// Makes the database without opening anything; the first call connects. May run outside a runtime.
    pub fn build(self) -> AsyncDatabase<C> {
        let capabilities = self.pool.connector().capabilities();
        let mut pool = self.pool.writer_lane(capabilities.single_writer);
        if let Some(policy) = self.attempts {
            pool = pool.retry(policy);
        }
        let metrics = self.metrics.then(|| Arc::new(MetricsRecorder::new()));
        if let Some(recorder) = &metrics {
            pool = pool.observer(Arc::clone(recorder));
        }
        AsyncDatabase::new(pool.build(), capabilities, self.max_age.filter(|_| self.end_overdue), metrics)
    }

    /// Makes the database and opens the connections it keeps, one at the minimum, so that a wrong path or key shows
    /// here.
    ///
    /// # Errors
    /// Whatever keeps a connection from opening.
    ///
    /// # Cancel safety
    /// Connections that are being opened are given up; an opening that has begun may still create the file.
    pub async fn open(self) -> Result<AsyncDatabase<C>> {
        let database = self.build();
        database.connect().await?;
        Ok(database)
    }
}

impl<C: Connector<Connection: Connection>> DatabaseBuilder<C> {
    /// Opens, runs `work`, and closes in every case but a panic. Gives back what `work` answered, and how the close
    /// went.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// let (answer, closed) = AsyncDatabase::builder(":memory:")
    ///     .scope(async |db| db.fetch_value::<i64>("SELECT 6 * $1", (7,)).await)
    ///     .await?;
    /// assert_eq!(answer?, Some(42));
    /// closed?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Whatever keeps the database from opening; `work` was not called then.
    ///
    /// # Cancel safety
    /// Dropping the future drops `work` with it. The database is then closed in the background, as when its last handle
    /// is dropped.
    pub async fn scope<T, F>(self, work: F) -> Result<(Result<T>, Result<CloseReport>)>
    where
        F: AsyncFnOnce(&AsyncDatabase<C>) -> Result<T>,
    {
        let database = self.open().await?;
        let outcome = work(&database).await;
        Ok((outcome, database.close().await))
    }
}

impl<C: Connector> fmt::Debug for DatabaseBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseBuilder").field("pool", &self.pool).finish_non_exhaustive()
    }
}
