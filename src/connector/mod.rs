//! The contracts of an engine.
//!
//! Floor 1. Three traits, each asking for no more than its user needs: a [`Connector`] opens connections, a pool needs
//! [`Resource`]s, and a database needs SQL [`Connection`]s.

mod bulk;
mod capabilities;
mod check;
mod connection;
mod copies;
mod explain;
mod maintenance;
mod none;
mod pending;
mod readings;
mod rekey;
mod resource;
mod statement;
mod telling;

use std::future::Future;

pub use bulk::{BulkInsert, OneByOne};
pub use capabilities::{CancelKind, Capabilities};
pub use check::{CheckDepth, CheckStep};
pub use connection::Connection;
pub use copies::{Backup, BackupProgress, BackupReport, BackupStage, CopyKey, Replace, TellProgress};
pub use explain::{PlanStep, QueryPlan, StatementEffort};
pub use maintenance::{CheckpointReport, Maintained, Maintenance, OptimizeReport, Sizes, TableSize, VacuumReport};
pub use none::NoConnector;
pub use pending::PendingCommit;
pub use readings::EngineReadings;
pub use rekey::{RekeyReport, Rekeying};
pub use resource::{Cancel, Canceller, Resource, ResourceState};
pub(crate) use statement::left_open;
pub use statement::{Isolation, Outcome, Scope, Statement, StatementKind, StatementSummary, TransactionMode};
pub(crate) use telling::AskedKeySource;
pub use telling::{EngineEvent, EngineListener};

use crate::error::{Error, ErrorKind, Result};
use crate::key::KeySource;

/// Opens connections to one database, or to anything else that can be pooled.
///
/// **For implementors.** A connector is a plain value until [`connect`](Connector::connect) is called; making one opens
/// nothing. Write `async fn connect`; the pool calls it from the task that needs the connection, possibly from several
/// at once, retries it when the error [`is_transient`](crate::Error::is_transient), bounds its time by dropping the
/// future, and survives its panics.
///
/// ```
/// use strongroom::engine::{Access, Canceller, Dialect, Resource, ResourceState};
/// use strongroom::{Capabilities, Connector, Pool, Result};
///
/// /// Pools file names; a pool needs no SQL.
/// struct Names;
/// struct Name(String);
///
/// impl Connector for Names {
///     type Connection = Name;
///     fn capabilities(&self) -> Capabilities {
///         Capabilities::new("names", Dialect::Other)
///     }
///     async fn connect(&self, _: Access) -> Result<Name> {
///         Ok(Name("scratch-1".into()))
///     }
/// }
///
/// impl Resource for Name {
///     fn state(&self) -> ResourceState {
///         ResourceState::Idle
///     }
///     fn canceller(&self) -> Canceller {
///         Canceller::none()
///     }
///     async fn ping(&mut self) -> Result<()> {
///         Ok(())
///     }
///     async fn close(self) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let pool = Pool::builder(Names).max_size(2).build();
/// assert_eq!(pool.get().await?.0, "scratch-1");
/// # Ok(()) }
/// ```
pub trait Connector: Send + Sync + 'static {
    /// What is opened.
    type Connection: Resource;

    /// What the engine can do, as it is configured: one descriptor that decides the way of every call.
    fn capabilities(&self) -> Capabilities;

    /// Opens a connection that is ready for `access`.
    ///
    /// # Errors
    /// Classified by the connector: transient ones are tried again under the pool's
    /// [`RetryPolicy`](crate::RetryPolicy).
    fn connect(&self, access: Access) -> impl Future<Output = Result<Self::Connection>> + Send;

    /// Whether what was opened may be used by this process, asked at the beginning of every call, before any lock is
    /// taken. A child of `fork` must not use what its parent has open, and would wait for ever for a lock or a connection
    /// that a thread of the parent had at the fork. By default there is nothing against it.
    ///
    /// # Errors
    /// The call ends with this one.
    fn usable(&self) -> Result<()> {
        Ok(())
    }

    /// Called when the pool lets go of everything for a while, after all connections were closed: closes what the
    /// connector has open beside them, and waits for work of its own on the database. What it has found out, such as a
    /// derived key, it keeps; [`connect`](Connector::connect) follows. By default there is nothing to do.
    ///
    /// # Errors
    /// What could not be let go of; the pool is not suspended then.
    fn release(&self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Prepares a change of the key: asks `source` for the new one, of several the first, and finds out whether it can be
    /// done, while everybody works. The pool then lets go of everything, and [polls what comes back](Rekeying), which tells
    /// `progress` how far it is, if there is one. Once nobody else can change the database, and before it does, `source` is
    /// asked again, unless it [is fixed](KeySource::is_fixed): a key that it does not offer any more is not taken. The provided body is that of an engine without keys.
    ///
    /// # Errors
    /// What keeps the key from being changed; nothing was touched then.
    fn rekey(
        &self,
        source: Box<dyn KeySource>,
        progress: Option<TellProgress>,
    ) -> impl Future<Output = Result<Rekeying>> + Send {
        drop((source, progress));
        let message = format!("{} has no key that could be changed", self.capabilities().engine);
        let error = Error::new(ErrorKind::Unsupported, message);
        async { Err(error.hint("the password of a server is changed there; its key source is asked at each connect")) }
    }

    /// What the engine has counted so far, for whoever measures: it blocks no longer than to ask for the size of a file, and
    /// opens nothing. By default nothing is known.
    fn readings(&self) -> EngineReadings {
        EngineReadings::default()
    }

    /// Called once, when the pool is built, if somebody observes it: whom the engine may tell what it does beside the calls that
    /// it answers. By default it tells nothing.
    fn observed(&self, listener: EngineListener) {
        drop(listener);
    }

    /// Called once, when the pool has closed and nothing will be opened any more: the place to forget secrets.
    fn shut_down(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// What a connection will be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reading only; the engine should refuse writes.
    Read,
    /// Reading and writing.
    Write,
}
