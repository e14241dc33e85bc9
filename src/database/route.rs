//! Which connection a statement gets, and what becomes of its rows.
//!
//! Engines with one writer have a lane for it: what writes waits there, fairly, instead of colliding. What a statement
//! does is asked of the engine, which has prepared it, and never guessed from its words.

use std::pin::pin;
use std::sync::Arc;

use super::observed;
use crate::connector::{
    Access, Capabilities, Connection, Connector, Outcome, Resource, ResourceState, Scope, Statement, StatementKind,
    TransactionMode, left_open,
};
use crate::error::Result;
use crate::pool::Pooled;
use crate::row::{self, Changes, Gathered, RowSink, Rows};
use crate::turn;

/// Whether reads have connections of their own.
pub(super) fn readers_apart(capabilities: &Capabilities) -> bool {
    capabilities.single_writer && capabilities.concurrent_readers || capabilities.reads_elsewhere
}

/// The access with which a read asks for a connection. Where connections are all alike, they can all write.
pub(super) fn read_access(capabilities: &Capabilities) -> Access {
    if readers_apart(capabilities) { Access::Read } else { Access::Write }
}

/// The access with which a read asks for a connection that sees all that was committed.
pub(super) fn newest_access(capabilities: &Capabilities) -> Access {
    if capabilities.reads_elsewhere { Access::Write } else { read_access(capabilities) }
}

/// The access with which a transaction asks for one: it sees what was committed before it, so it goes where that is.
pub(super) fn transaction_access(capabilities: &Capabilities, mode: TransactionMode) -> Access {
    let sees_all = capabilities.single_writer && mode.access == Access::Read;
    if sees_all { read_access(capabilities) } else { Access::Write }
}

/// What a statement may do on a connection that was lent for one call.
pub(super) fn scope(access: Access) -> Scope {
    if access == Access::Read { Scope::Read } else { Scope::Write }
}

/// Runs a statement on a connection that was lent for `access`, or says that it belongs elsewhere.
///
/// # Errors
/// As classified by the engine, and where the statement may run on no connection that is lent for one call.
pub(super) async fn run_in<C, Y: Yields>(
    lent: &mut Pooled<C>,
    statement: Statement,
    access: Access,
    yields: &mut Y,
) -> Result<Outcome<Y::Made>>
where
    C: Connector<Connection: Connection>,
{
    match turn::noting(pin!(yields.run(&mut **lent, statement, scope(access)))).await? {
        Outcome::Refused(kind @ StatementKind::Control, _) => Err(kind.refused()),
        outcome => Ok(outcome),
    }
}

/// Runs a statement on a connection that may write.
pub(super) async fn run<C>(writer: &mut Pooled<C>, statement: Statement) -> Result<Rows>
where
    C: Connector<Connection: Connection>,
{
    turn::noting(pin!(Collected.run(&mut **writer, statement, Scope::Write))).await?.rows()
}

/// Runs a script that must leave no transaction open.
pub(super) async fn run_script<C>(writer: &mut Pooled<C>, sql: Arc<str>) -> Result<()>
where
    C: Connector<Connection: Connection>,
{
    writer.run_script(sql).await?;
    if !matches!(writer.state(), ResourceState::InTransaction | ResourceState::Failed) {
        return Ok(());
    }
    writer.rollback().await?;
    Err(left_open())
}

/// What becomes of the rows of a statement, whatever connection runs it.
pub(super) trait Yields: Send {
    type Made: Send;

    /// Runs a statement if `scope` admits what it does, or gives it back.
    fn run<K: Connection>(
        &mut self,
        connection: &mut K,
        statement: Statement,
        scope: Scope,
    ) -> impl Future<Output = Result<Outcome<Self::Made>>> + Send;

    /// Takes the rows of a statement that somebody else has run.
    fn collected(&mut self, rows: Rows) -> Self::Made;
}

/// The rows are collected.
pub(super) struct Collected;

impl Yields for Collected {
    type Made = Rows;

    async fn run<K: Connection>(
        &mut self,
        connection: &mut K,
        mut statement: Statement,
        scope: Scope,
    ) -> Result<Outcome> {
        if observed::is_observed() {
            observed::runs(&mut statement);
        }
        let outcome = match scope {
            Scope::Session => connection.run(statement).await.map(Outcome::Ran),
            _ => connection.run_in(statement, scope).await,
        };
        if observed::is_observed() {
            let (rows, changes) = match &outcome {
                Ok(Outcome::Ran(rows)) => (rows.len(), rows.changes()),
                _ => (0, Changes::default()),
            };
            observed::ran(connection, rows, changes);
        }
        outcome
    }

    fn collected(&mut self, rows: Rows) -> Rows {
        rows
    }
}

/// The rows are shown to a sink.
pub(super) struct Shown {
    sink: Box<dyn RowSink>,
    /// The statement has changed something.
    wrote: bool,
}

impl Shown {
    pub(super) fn to(sink: Box<dyn RowSink>) -> Self {
        Self { sink, wrote: false }
    }

    /// What was made of the rows.
    pub(super) fn made<G: Gathered>(self) -> Result<G> {
        observed::answered();
        row::made(self.sink).map_err(|error| if self.wrote { error.about_the_answer() } else { error })
    }
}

impl Yields for Shown {
    type Made = ();

    async fn run<K: Connection>(
        &mut self,
        connection: &mut K,
        mut statement: Statement,
        scope: Scope,
    ) -> Result<Outcome<()>> {
        if observed::is_observed() {
            observed::runs(&mut statement);
        }
        let outcome = connection.run_into(statement, scope, &mut self.sink).await;
        if observed::is_observed() {
            let (rows, changes) = match &outcome {
                Ok(Outcome::Ran(changes)) => (self.sink.taken(), *changes),
                _ => (0, Changes::default()),
            };
            observed::ran(connection, rows, changes);
        }
        Ok(outcome?.map(|changes| self.wrote = changes.rows_affected > 0))
    }

    fn collected(&mut self, rows: Rows) {
        self.wrote = rows.changes().rows_affected > 0;
        rows.show_to(self.sink.as_mut());
    }
}
