//! What an engine can do.

use std::sync::Arc;

use crate::params::Dialect;

/// What an engine can do, as configured. The floors above are driven by this and never by the engine's name.
///
/// Start from [`Capabilities::new`] and set what differs.
///
/// ```
/// use strongroom::engine::Dialect;
/// use strongroom::Capabilities;
///
/// let mut capabilities = Capabilities::new("toy", Dialect::Sqlite);
/// capabilities.single_writer = true;
/// assert!(capabilities.concurrent_readers && !capabilities.encryption_at_rest);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each read by its own caller")]
pub struct Capabilities {
    /// The engine's name in messages.
    pub engine: &'static str,
    /// How its SQL is written.
    pub dialect: Dialect,
    /// The name of the database in spans and measurements: the name of a file without its directories, or that of a database
    /// of a server.
    pub namespace: Option<Arc<str>>,
    /// Only one connection can write at a time: writes go through one lane, so that callers never collide.
    pub single_writer: bool,
    /// Connections can read while another one writes. If not, everything goes through the lane.
    pub concurrent_readers: bool,
    /// Connections that are opened for reading may lead to other servers, which can be a moment behind, as standbys are:
    /// reads outside of transactions take them, and the pool has both. Not for engines with a single writer.
    pub reads_elsewhere: bool,
    /// Statements that wait for the single writer may be given to it together, to share a commit:
    /// [`Connection::run_group`](crate::Connection::run_group) is worth calling.
    pub group_commit: bool,
    /// Transactions can be nested by savepoints.
    pub savepoints: bool,
    /// How a running statement can be stopped, for callers who need to know; the conformance suite holds the engine to it.
    pub cancel: CancelKind,
    /// The largest number of parameters of one statement, for callers who build statements; the conformance suite holds the
    /// engine to it.
    pub max_params: usize,
    /// What is stored is encrypted by the engine.
    pub encryption_at_rest: bool,
}

/// How a running statement can be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelKind {
    /// It cannot.
    None,
    /// At once, in this process; a stopped statement had no effect.
    Interrupt,
    /// By asking the server; it may have finished before the request came.
    Server,
}

impl Capabilities {
    /// An engine with many writers, readers beside them, and savepoints; without cancel and encryption.
    pub fn new(engine: &'static str, dialect: Dialect) -> Self {
        Self {
            engine,
            dialect,
            namespace: None,
            single_writer: false,
            concurrent_readers: true,
            reads_elsewhere: false,
            group_commit: false,
            savepoints: true,
            cancel: CancelKind::None,
            max_params: usize::from(u16::MAX),
            encryption_at_rest: false,
        }
    }
}
