//! The result of a statement, now and whenever it changes.

use std::fmt;
use std::future::poll_fn;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::task::JoinHandle;

use super::begin::LOOK_EVERY;
use crate::clock;
use crate::connector::{Connection, Connector, Statement};
use crate::database::call::{Stage, within};
use crate::database::handle::AsyncDatabase;
use crate::database::route;
use crate::database::route::Collected;
use crate::error::{Error, ErrorKind, Result};
use crate::feed::{Stale, TableWatcher};
use crate::lock::foreign;
use crate::params::IntoParams;
use crate::row::Rows;

/// After the first change, others are waited for so long: what belongs together often comes in several commits.
const SETTLE: Duration = Duration::from_millis(4);

type Results<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// When results are fetched again.
#[derive(Clone, Copy, Debug)]
struct Timing {
    settle: Duration,
    look_every: Duration,
}

/// A stream of results; see [`AsyncDatabase::watch`]. It ends after an error, and when the database is closed.
///
/// # Cancel safety
/// [`next`](Self::next) may be dropped; the last result is not missed. Dropping the stream leaves nothing behind.
#[must_use = "streams do nothing unless polled"]
pub struct WatchStream<T> {
    timing: Timing,
    state: WatchState<T>,
}

enum WatchState<T> {
    Ready(Box<dyn FnOnce(Timing) -> Results<T> + Send>),
    Running(Results<T>),
    Over,
}

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// The result of a statement that reads: now, also while somebody writes for long, and again whenever it has changed. Nothing
    /// happens before the first poll.
    ///
    /// The statement runs again when one of the tables that it reads has changed, views resolved, or the schema, or
    /// when another process has committed; the tables are those that the engine names when it prepares the statement.
    /// A result that equals the last one is not repeated. Commits within a few milliseconds lead to one run. Each result
    /// is of one moment. Whatever is committed, the last result that comes is that of the last state.
    ///
    /// What changes without a commit (`random()`, the time of day) is not noticed. The stream keeps the database open,
    /// and the last result in memory.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// db.execute_script("CREATE TABLE tasks (id INTEGER PRIMARY KEY, done INTEGER NOT NULL DEFAULT 0)").await?;
    /// let mut open = db.watch_as::<i64>("SELECT count(*) FROM tasks WHERE NOT done", ());
    /// assert_eq!(open.next().await.unwrap()?, [0]);
    ///
    /// db.execute("INSERT INTO tasks DEFAULT VALUES", ()).await?;
    /// assert_eq!(open.next().await.unwrap()?, [1]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The first item is an error when the statement cannot be prepared or writes, and where the engine does not tell what it
    /// commits ([`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported)), such as PostgreSQL for a table without
    /// [triggers](Self::install_change_feed). A later one, when the statement fails. Whoever watches first has the writer asked to
    /// tell what it commits; if it cannot be had in time, that is an error too.
    #[track_caller]
    pub fn watch(&self, sql: &str, params: impl IntoParams) -> WatchStream<Rows> {
        self.watching(Statement::new(sql, params), Ok, Location::caller())
    }

    /// [`watch`](Self::watch) with the rows as structs (by column names), tuples or scalars.
    ///
    /// # Errors
    /// As [`watch`](Self::watch); [`Reason::Type`](crate::Reason::Type) when a row does not fit.
    #[track_caller]
    pub fn watch_as<T>(&self, sql: &str, params: impl IntoParams) -> WatchStream<Vec<T>>
    where
        T: for<'de> serde::Deserialize<'de> + Send + 'static,
    {
        self.watching(Statement::new(sql, params), |rows| rows.decode(), Location::caller())
    }

    fn watching<T: Send + 'static>(
        &self,
        statement: Result<Statement>,
        made: fn(Rows) -> Result<T>,
        location: &'static Location<'static>,
    ) -> WatchStream<T> {
        let database = self.clone();
        let start = move |timing: Timing| -> Results<T> {
            let begun = async move {
                clock::check()?;
                let statement = statement?;
                let watcher = database.feed().watch(timing.look_every);
                let follows = database.clone();
                let heard = by_itself(async move { follows.follow_if_free(location).await }).await?;
                let settle = timing.settle;
                Ok(WatchedStatement { database, statement, watcher, location, settle, heard, last: None })
            };
            let results = stream::once(begun).flat_map(|begun| match begun {
                Ok(watch) => stream::unfold(Some(watch), WatchedStatement::step).boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            });
            results.map(move |rows| rows.and_then(made)).boxed()
        };
        let timing = Timing { settle: SETTLE, look_every: LOOK_EVERY };
        WatchStream { timing, state: WatchState::Ready(Box::new(start)) }
    }
}

/// A statement that is watched.
struct WatchedStatement<C: Connector> {
    database: AsyncDatabase<C>,
    statement: Statement,
    watcher: TableWatcher,
    location: &'static Location<'static>,
    settle: Duration,
    /// The engine tells its commits. The first result does not wait for that where somebody has the writer for long.
    heard: bool,
    /// What the caller has.
    last: Option<Rows>,
}

impl<C: Connector<Connection: Connection>> WatchedStatement<C> {
    /// The next result; nothing comes after an error.
    async fn step(watch: Option<Self>) -> Option<(Result<Rows>, Option<Self>)> {
        let mut watch = watch?;
        match watch.next().await {
            Some(Ok(rows)) => {
                watch.last = Some(rows.clone());
                Some((Ok(rows), Some(watch)))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None => None,
        }
    }

    async fn next(&mut self) -> Option<Result<Rows>> {
        loop {
            let stale = match self.last {
                None => Stale::Schema,
                Some(_) if self.heard => self.changed().await?,
                Some(_) => match self.follow().await {
                    // What was committed before that is seen by the next read.
                    Ok(()) => Stale::Schema,
                    Err(error) => return self.over(error),
                },
            };
            let rows = match self.fetch(stale).await {
                Ok(rows) => rows,
                Err(error) => return self.over(error),
            };
            if !self.last.as_ref().is_some_and(|last| last.same_as(&rows)) {
                return Some(Ok(rows));
            }
        }
    }

    /// How the stream ends: that the database was closed is no error for whoever has had a result.
    fn over(&self, error: Error) -> Option<Result<Rows>> {
        let closed = error.kind() == ErrorKind::Closed && self.database.pool().is_closed();
        (self.last.is_none() || !closed).then_some(Err(error))
    }

    async fn follow(&mut self) -> Result<()> {
        let (database, location) = (self.database.clone(), self.location);
        by_itself(async move { database.follow(location).await }).await?;
        self.heard = true;
        Ok(())
    }

    /// Waits until the result may have changed. `None`: the database was closed.
    async fn changed(&self) -> Option<Stale> {
        while self.watcher.stale().ok()? == Stale::No {
            self.database.listening(self.watcher.woken(), self.location).await;
        }
        if !self.settle.is_zero() {
            clock::sleep(self.settle).await;
        }
        self.watcher.take().ok()
    }

    async fn fetch(&self, stale: Stale) -> Result<Rows> {
        if stale == Stale::Schema {
            // Before the read: what changes from here on is noticed.
            self.watcher.reads(&self.tables().await?);
        }
        let (database, statement, location) = (self.database.clone(), self.statement.clone(), self.location);
        by_itself(async move { database.reading_newest(statement, location, &mut Collected).await }).await
    }

    async fn tables(&self) -> Result<Vec<Arc<str>>> {
        let (database, statement, location) = (self.database.clone(), self.statement.clone(), self.location);
        by_itself(async move {
            let access = route::newest_access(database.capabilities());
            let call = database.call(location);
            let mut reader = call.lend(database.pool(), access).await?;
            within(call.limit(|| Stage::Read), reader.tables_read(&statement)).await
        })
        .await
    }
}

/// Ends a task when nobody waits for it any more.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs work that holds a connection. What is not done at once goes on in a task of its own: a stream may be kept without
/// being polled, and the connection would be kept with it.
async fn by_itself<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let mut work = Box::pin(work);
    if let Some(done) = work.as_mut().now_or_never() {
        return done;
    }
    foreign();
    let mut task = AbortOnDrop(tokio::spawn(work));
    match (&mut task.0).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => Err(Error::panicked("runtime")),
    }
}

impl<T> WatchStream<T> {
    /// After a change, waits so long for others before it fetches the result; 4 ms by default. Counts from the first
    /// change, so that steady writing does not hold results back.
    pub fn settle(mut self, pause: Duration) -> Self {
        self.timing.settle = pause;
        self
    }

    /// How long the commit of another process may stay unnoticed, at most about that; 50 ms by default. See
    /// [`ChangeOptions::look_every`](crate::database::ChangeOptions::look_every).
    pub fn look_every(mut self, pause: Duration) -> Self {
        self.timing.look_every = pause;
        self
    }

    /// The next result; `None` after an error, and when the database was closed.
    ///
    /// # Errors
    /// As [`AsyncDatabase::watch`] says.
    pub async fn next(&mut self) -> Option<Result<T>> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        loop {
            match &mut self.state {
                WatchState::Running(results) => {
                    let polled = results.as_mut().poll_next(context);
                    if matches!(polled, Poll::Ready(None)) {
                        self.state = WatchState::Over;
                    }
                    return polled;
                }
                WatchState::Over => return Poll::Ready(None),
                WatchState::Ready(_) => {
                    if let WatchState::Ready(start) = std::mem::replace(&mut self.state, WatchState::Over) {
                        self.state = WatchState::Running(start(self.timing));
                    }
                }
            }
        }
    }
}

impl<T> Unpin for WatchStream<T> {}

impl<T> Stream for WatchStream<T> {
    type Item = Result<T>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        self.get_mut().poll(context)
    }
}

impl<T> fmt::Debug for WatchStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchStream").field("timing", &self.timing).finish_non_exhaustive()
    }
}
