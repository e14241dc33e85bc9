//! Which connection a statement gets.
//!
//! Engines with one writer have a lane for it: what writes waits there, fairly, instead of colliding. What a statement
//! does is asked of the engine, which has prepared it, and never guessed from its words.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};

use crate::{
    Access, Capabilities, Connection, Connector, Error, ErrorKind, Pooled, Reason, Resource, ResourceState, Result,
    Rows, Statement, StatementKind,
};

/// Whether reads have connections of their own beside the writer.
pub(super) fn readers_apart(capabilities: &Capabilities) -> bool {
    capabilities.single_writer && capabilities.concurrent_readers
}

/// The access with which a read asks for a connection. Where connections are all alike, they can all write.
pub(super) fn read_access(capabilities: &Capabilities) -> Access {
    if readers_apart(capabilities) { Access::Read } else { Access::Write }
}

/// What became of a statement that was expected to read.
pub(super) enum Tried {
    Done(Rows),
    /// It writes; it has not been run.
    Writes(Statement),
}

/// Runs a statement if it only reads.
pub(super) async fn try_read<C>(reader: &mut Pooled<C>, statement: Statement) -> Result<Tried>
where
    C: Connector<Connection: Connection>,
{
    match reader.classify(&statement.sql)? {
        StatementKind::Read => noting_pauses(pin!(reader.run(statement))).await.map(Tried::Done),
        StatementKind::Control => Err(refused()),
        _ => Ok(Tried::Writes(statement)),
    }
}

/// Runs a statement on a connection that may write.
pub(super) async fn run<C>(writer: &mut Pooled<C>, statement: Statement) -> Result<Rows>
where
    C: Connector<Connection: Connection>,
{
    match writer.classify(&statement.sql)? {
        StatementKind::Control => Err(refused()),
        _ => noting_pauses(pin!(writer.run(statement))).await,
    }
}

/// Runs a script that must leave no transaction open.
pub(super) async fn run_script<C>(writer: &mut Pooled<C>, sql: &str) -> Result<()>
where
    C: Connector<Connection: Connection>,
{
    writer.run_script(sql.into()).await?;
    if !matches!(writer.state(), ResourceState::InTransaction | ResourceState::Failed) {
        return Ok(());
    }
    writer.rollback().await?;
    Err(Error::new(ErrorKind::Transaction, "the script left a transaction open, which was rolled back")
        .because(Reason::Control)
        .hint("end it with COMMIT, or leave BEGIN away and use transaction()"))
}

#[cold]
pub(super) fn refused() -> Error {
    Error::new(ErrorKind::Unsupported, "this statement begins or ends a transaction, or alters the session")
        .because(Reason::Control)
        .hint("use transaction() or begin() for transactions, and connection() to alter a session")
}

/// Calls in a row on this thread for whose answers nobody waited.
const CALLS: u8 = 16;

thread_local! {
    static DONE: Cell<u8> = const { Cell::new(0) };
}

/// Lets the other tasks of this thread run from time to time: a call that an engine answers on the spot never waits, so
/// nothing else would. Called before a connection is taken, because others would wait for that one.
pub(super) async fn breathe() {
    let done = DONE.get() + 1;
    DONE.set(if done == CALLS { 0 } else { done });
    if done == CALLS {
        tokio::task::yield_now().await;
    }
}

/// Runs a call of an engine; while it waits for its answer, others run anyway. To yield then would cost another thread's
/// waking.
pub(super) async fn noting_pauses<T>(mut call: Pin<&mut impl Future<Output = T>>) -> T {
    poll_fn(|cx| {
        let polled = call.as_mut().poll(cx);
        if polled.is_pending() {
            DONE.set(0);
        }
        polled
    })
    .await
}
