//! Rows that are fetched while their statement runs.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::call::within;
use super::handle::AsyncDatabase;
use super::held::Held;
use super::observed::{self, Observing, observe};
use crate::connector::{Connection, Connector, Statement};
use crate::error::Result;
use crate::observer::CallKind;
use crate::params::IntoParams;
use crate::row::{Changes, Row, Rows, RowsIter};

/// Rows per chunk: one crossing to the engine's thread each.
pub(super) const CHUNK: usize = 256;

/// A stream of rows; see [`AsyncDatabase::fetch_stream`](super::AsyncDatabase::fetch_stream).
///
/// The statement runs as long as the stream lives, and holds a connection. A reader of SQLite keeps the write-ahead log
/// from starting over meanwhile, so beside writers the log grows until the stream ends.
///
/// # Cancel safety
/// Dropping it ends the statement; the connection is lent again once it has really ended.
#[must_use = "streams do nothing unless polled"]
pub struct RowStream<'a> {
    chunks: Pin<Box<dyn Stream<Item = Result<Rows>> + Send + 'a>>,
    /// What is left of the last chunk.
    rows: Option<RowsIter>,
    observing: Observing,
}

/// The holder of the connection of a stream.
pub(super) trait Chunks: Send {
    type Connection: Connection;

    /// The connection.
    fn connection(&mut self) -> &mut Self::Connection;

    /// Begins to run the statement.
    fn open(&mut self, statement: Statement) -> impl Future<Output = Result<()>> + Send;

    /// The next rows, if there are any.
    fn next(&mut self) -> impl Future<Output = Result<Option<Rows>>> + Send;
}

/// A connection that was lent for a stream.
pub(super) struct HeldStream<C: Connector> {
    pub(super) held: Held<C>,
    /// Whether its statement only reads.
    pub(super) reads: bool,
}

impl<C: Connector<Connection: Connection>> Chunks for HeldStream<C> {
    type Connection = C::Connection;

    fn connection(&mut self) -> &mut C::Connection {
        &mut self.held
    }

    async fn open(&mut self, statement: Statement) -> Result<()> {
        within(self.held.limit_of_stream(self.reads), self.held.run_stream(statement, CHUNK)).await
    }

    async fn next(&mut self) -> Result<Option<Rows>> {
        self.held.next_rows(self.reads).await
    }
}

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// Fetches rows while the statement runs: in chunks of up to 256 rows or about a MiB, a few ahead of who reads them, and no
    /// faster. Nothing happens before
    /// the first poll. Dropping the stream ends the statement; one that writes has taken effect for certain only when
    /// the stream has been read to its end.
    ///
    /// While a stream of SQLite is open, the write-ahead log cannot start over: beside writers it grows by everything they
    /// commit, without a bound. [`max_transaction_age`](crate::DatabaseBuilder::max_transaction_age) names streams that
    /// last too long in the log, and ends them if told to; [`with_timeout`](Self::with_timeout) bounds a single one.
    ///
    /// ```
    /// use futures_util::TryStreamExt;
    /// # use strongroom::AsyncDatabase;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// let sql = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 1000) SELECT i FROM n";
    /// let mut rows = db.fetch_stream(sql, ());
    /// let mut sum = 0;
    /// while let Some(row) = rows.try_next().await? {
    ///     sum += row.get::<i64>(0)?;
    /// }
    /// assert_eq!(sum, 500_500);
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn fetch_stream(&self, sql: &str, params: impl IntoParams) -> RowStream<'static> {
        let (database, sql, location) = (self.clone(), Arc::from(sql), Location::caller());
        let observing = observe(self.pool().observers(), CallKind::FetchStream, Some(&sql), location);
        let statement = Statement::new(sql, params);
        RowStream::of(observing, async move {
            let statement = statement?;
            let rows = database.open_stream(&statement, location).await?;
            Ok((rows, statement))
        })
    }
}

impl<'a> RowStream<'a> {
    /// The rows of a statement, once there is a connection for it.
    pub(super) fn of<S: Chunks + 'a>(
        observing: Observing,
        ready: impl Future<Output = Result<(S, Statement)>> + Send + 'a,
    ) -> Self {
        let open = async move {
            let (mut chunks, mut statement) = ready.await?;
            if observed::is_observed() {
                observed::runs(&mut statement);
                // It may be prepared already, and the reader may drop the stream before its end.
                observed::ran(chunks.connection(), 0, Changes::default());
            }
            chunks.open(statement).await?;
            Ok(stream::try_unfold(chunks, |mut chunks| async move {
                let rows = chunks.next().await?;
                if rows.is_none() && observed::is_observed() {
                    observed::ran(chunks.connection(), 0, Changes::default());
                }
                Ok(rows.map(|rows| (rows, chunks)))
            }))
        };
        Self { chunks: stream::once(open).try_flatten().boxed(), rows: None, observing }
    }
}

impl RowStream<'_> {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Rows>>> {
        let Self { chunks, observing, .. } = self;
        if observing.is_none() {
            return chunks.as_mut().poll_next(context);
        }
        let polled = observed::during(observing, || chunks.as_mut().poll_next(context));
        let Some(observation) = observing else { return polled };
        match &polled {
            Poll::Ready(Some(Ok(rows))) => observation.gave(rows.len()),
            Poll::Ready(Some(Err(error))) => observation.end(Some(error), Instant::now()),
            Poll::Ready(None) => observation.end(None, Instant::now()),
            Poll::Pending => {}
        }
        polled
    }
}

impl Stream for RowStream<'_> {
    type Item = Result<Row>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Row>>> {
        loop {
            if let Some(row) = self.rows.as_mut().and_then(Iterator::next) {
                return Poll::Ready(Some(Ok(row)));
            }
            self.rows = match ready!(self.poll_chunk(context)) {
                Some(Ok(rows)) => Some(rows.into_iter()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
        }
    }
}

impl fmt::Debug for RowStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowStream")
    }
}
