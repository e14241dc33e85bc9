//! The stream of what is committed.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_util::{StreamExt as _, stream};

use super::begin::LOOK_EVERY;
use crate::clock;
use crate::connector::{Connection, Connector};
use crate::database::handle::AsyncDatabase;
use crate::error::Result;
use crate::feed::{Change, Listener};

/// How [`changes_with`](AsyncDatabase::changes_with) tells of commits.
///
/// ```
/// use std::time::Duration;
/// use strongroom::database::ChangeOptions;
///
/// let options = ChangeOptions::new().rows(true).capacity(16).look_every(Duration::from_millis(10));
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ChangeOptions {
    rows: bool,
    capacity: usize,
    look_every: Duration,
}

impl Default for ChangeOptions {
    fn default() -> Self {
        Self { rows: false, capacity: 256, look_every: LOOK_EVERY }
    }
}

impl ChangeOptions {
    /// Tables and counts; at most 256 events wait to be read; other processes are noticed within 50 ms.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether each row is told with its rowid ([`TableChange::rows`](crate::database::TableChange::rows)); false by default. In
    /// PostgreSQL, with its key, for tables [installed with rows](AsyncDatabase::install_change_feed_with_rows).
    /// While anybody wants that, a `DELETE` that empties a table deletes its rows one by one.
    pub fn rows(self, rows: bool) -> Self {
        Self { rows, ..self }
    }

    /// How many events wait at most to be read, 1 at least; what comes then is merged into the last of them.
    pub fn capacity(self, events: usize) -> Self {
        Self { capacity: events, ..self }
    }

    /// How long the commit of another process may stay unnoticed, at most about that; [`Duration::MAX`] to look for
    /// none. The shortest of all listeners counts.
    ///
    /// A look compares a number in memory that SQLite shares between processes, and is no system call. Where there is no
    /// such memory (files without a write-ahead log that are only read), it is a query, `PRAGMA data_version`.
    pub fn look_every(self, pause: Duration) -> Self {
        Self { look_every: pause, ..self }
    }
}

/// A stream of commits; see [`AsyncDatabase::changes`]. It ends when the database is closed.
///
/// # Cancel safety
/// [`next`](Self::next) may be dropped; nothing is lost. Dropping the stream leaves nothing behind.
#[must_use = "streams do nothing unless polled"]
pub struct ChangeStream {
    listener: Arc<Listener>,
    changes: Pin<Box<dyn Stream<Item = Change> + Send>>,
}

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// Tells what is committed from now on, commit by commit: which tables changed, and how many rows were inserted,
    /// updated and deleted in each. What is rolled back, by a savepoint too, is not told.
    ///
    /// In SQLite an event comes before the call that committed is answered. Events come in the order of the commits, and are
    /// numbered, so that a listener knows that it missed nothing. A listener that is slow gets events merged, and sees it
    /// ([`Change::is_merged`]). That another process has committed is told without saying what
    /// ([`Change::unattributed`]); in PostgreSQL all sessions are told alike, for tables with
    /// [triggers](Self::install_change_feed).
    ///
    /// The first listener waits for the writer, so that the answer means: every commit from now on is told. While nobody
    /// listens, nothing is recorded. In SQLite the listeners take the update, commit and rollback hooks of the writer, in
    /// place of such hooks of the program's own. [The guide](crate::_docs::observing) says what is told of which kind of table.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// db.execute_script("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)").await?;
    /// let mut changes = db.changes().await?;
    /// db.execute("INSERT INTO users (name) VALUES ('alice'), ('bob')", ()).await?;
    ///
    /// let change = changes.next().await.unwrap();
    /// assert_eq!((change.sequence, change.commits), (1, 1));
    /// assert_eq!(change.table("users").unwrap().inserted, 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the writer cannot be had; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where the engine does
    /// not tell what it commits, such as PostgreSQL without those triggers, or behind a pooler in transaction mode.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    #[track_caller]
    pub fn changes(&self) -> impl Future<Output = Result<ChangeStream>> + Send + use<'_, C> {
        self.changes_with(ChangeOptions::default())
    }

    /// [`changes`](Self::changes) with options: each row with its rowid, how many events may wait, how soon other
    /// processes are noticed.
    ///
    /// # Errors
    /// As [`changes`](Self::changes).
    ///
    /// # Cancel safety
    /// As [`changes`](Self::changes).
    #[track_caller]
    pub fn changes_with(
        &self,
        options: ChangeOptions,
    ) -> impl Future<Output = Result<ChangeStream>> + Send + use<'_, C> {
        let location = Location::caller();
        async move {
            clock::check()?;
            let ChangeOptions { rows, capacity, look_every } = options;
            let listener = Arc::new(self.feed().listen(capacity, rows, look_every));
            self.follow(location).await?;
            let heard = (self.clone(), Arc::clone(&listener));
            let changes = stream::unfold(heard, move |(database, listener)| async move {
                next(&database, &listener, location).await.map(|change| (change, (database, listener)))
            });
            Ok(ChangeStream { listener, changes: changes.fuse().boxed() })
        }
    }
}

async fn next<C>(
    database: &AsyncDatabase<C>,
    listener: &Listener,
    location: &'static Location<'static>,
) -> Option<Change>
where
    C: Connector<Connection: Connection>,
{
    loop {
        match listener.take() {
            Err(_ended) => return None,
            Ok(Some(change)) => return Some(change),
            Ok(None) => {}
        }
        database.listening(listener.woken(), location).await;
    }
}

impl ChangeStream {
    /// The next event; `None` when the database was closed.
    pub async fn next(&mut self) -> Option<Change> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for ChangeStream {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Change>> {
        // What is there already is taken without the future that waits for more.
        match self.listener.take() {
            Ok(Some(change)) => Poll::Ready(Some(change)),
            _ => self.changes.as_mut().poll_next(context),
        }
    }
}

impl fmt::Debug for ChangeStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChangeStream")
    }
}
