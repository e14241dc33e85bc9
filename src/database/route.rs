//! Which connection a statement gets.
//!
//! Engines with one writer have a lane for it: what writes waits there, fairly, instead of colliding. What a statement
//! does is asked of the engine, which has prepared it, and never guessed from its words.

use std::pin::pin;
use std::sync::Arc;

use super::yields::{Collected, Yields};
use crate::connector::{
    Access, Capabilities, Connection, Connector, Outcome, Resource, ResourceState, Scope, Statement, StatementKind,
    TransactionMode, left_open,
};
use crate::error::Result;
use crate::pool::Pooled;
use crate::row::Rows;
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
