//! Rows that are fetched while their statement runs.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::deadline::{self, Stage, within};
use super::handle::AsyncDatabase;
use super::raw::RawConnection;
use super::route;
use super::transaction::Transaction;
use crate::connector::{Access, Canceller, Connection, Connector, Resource as _, Statement, StatementKind};
use crate::error::Result;
use crate::pool::Pooled;
use crate::row::{Row, Rows};

/// Rows per chunk: one crossing to the engine's thread each.
const CHUNK: usize = 256;

/// A stream of rows; see [`AsyncDatabase::fetch_stream`](super::AsyncDatabase::fetch_stream).
///
/// The statement runs as long as the stream lives, and holds a connection. A reader of SQLite keeps the write-ahead log
/// from starting over meanwhile, so beside writers the log grows until the stream ends.
///
/// # Cancel safety
/// Dropping it ends the statement; the connection is lent again once it has really ended.
#[must_use = "streams do nothing unless polled"]
pub struct RowStream<'a> {
    rows: Pin<Box<dyn Stream<Item = Result<Row>> + Send + 'a>>,
}

impl<'a> RowStream<'a> {
    #[track_caller]
    pub(super) fn on_pool<C>(database: AsyncDatabase<C>, statement: Result<Statement>) -> Self
    where
        C: Connector<Connection: Connection>,
    {
        let access = route::read_access(database.capabilities());
        let location = std::panic::Location::caller();
        let open = async move {
            let statement = statement?;
            let within_limit = database.deadline();
            let (mut lent, mut deadline) = database.borrow(access, within_limit, location).await?;
            let mut stage: fn(Canceller) -> Stage = Stage::Write;
            match lent.classify(&statement.sql)? {
                kind @ StatementKind::Control => return Err(kind.refused()),
                StatementKind::Read => stage = |_| Stage::Read,
                _ if access == Access::Read => {
                    drop(lent);
                    (lent, deadline) = database.borrow(Access::Write, within_limit, location).await?;
                }
                _ => {}
            }
            let limit = move |lent: &Pooled<C>| deadline.map(|deadline| (deadline, stage(lent.canceller())));
            within(limit(&lent), lent.run_stream(statement, CHUNK)).await?;
            Ok(stream::try_unfold(lent, move |mut lent| async move {
                deadline::check(limit(&lent))?;
                Ok(within(limit(&lent), lent.next_chunk()).await?.map(|rows| (rows, lent)))
            }))
        };
        Self::of(stream::once(open).try_flatten())
    }

    pub(super) fn on_raw<C>(raw: &'a mut RawConnection<C>, statement: Result<Statement>) -> Self
    where
        C: Connector<Connection: Connection>,
    {
        let open = async move {
            let statement = statement?;
            let limit = raw.limit(Stage::Write);
            within(limit, raw.ready().await?.run_stream(statement, CHUNK)).await?;
            Ok(stream::try_unfold(raw, async |raw| {
                deadline::check(raw.limit(Stage::Write))?;
                let limit = raw.limit(Stage::Write);
                Ok(within(limit, raw.connection().next_chunk()).await?.map(|rows| (rows, raw)))
            }))
        };
        Self::of(stream::once(open).try_flatten())
    }

    pub(super) fn in_transaction<C>(transaction: &'a mut Transaction<C>, statement: Result<Statement>) -> Self
    where
        C: Connector<Connection: Connection>,
    {
        let open = async move {
            let statement = statement?;
            transaction.ready(Some(&statement.sql)).await?;
            let outcome = within(transaction.limit(), transaction.connection().run_stream(statement, CHUNK)).await;
            transaction.judge(outcome)?;
            Ok(stream::try_unfold(transaction, async |transaction| {
                let late = deadline::check(transaction.limit());
                transaction.judge(late)?;
                let chunk = within(transaction.limit(), transaction.connection().next_chunk()).await;
                Ok(transaction.judge(chunk)?.map(|rows| (rows, transaction)))
            }))
        };
        Self::of(stream::once(open).try_flatten())
    }

    fn of(chunks: impl Stream<Item = Result<Rows>> + Send + 'a) -> Self {
        let rows = chunks.map_ok(|rows| stream::iter(rows.into_iter().map(Ok))).try_flatten();
        Self { rows: rows.boxed() }
    }
}

impl Stream for RowStream<'_> {
    type Item = Result<Row>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Row>>> {
        self.rows.as_mut().poll_next(context)
    }
}

impl fmt::Debug for RowStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowStream")
    }
}
