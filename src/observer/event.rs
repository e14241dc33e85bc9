//! What an observer is told.

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::connector::{Access, EngineEvent, StatementEffort, StatementSummary};
use crate::error::Error;
use crate::params::{Dialect, without_literals};

/// Something that happened in a database.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A call began. Its end follows in every case, on whatever thread it ends.
    CallBegan(ObservedCall<'a>),
    /// A call ended.
    CallEnded(ObservedCall<'a>, CallOutcome<'a>),
    /// A connection was opened and set up.
    ConnectionOpened {
        /// What for.
        access: Access,
        /// How long that took, the hook included.
        took: Duration,
    },
    /// An attempt to open one failed.
    ConnectFailed {
        /// What for.
        access: Access,
        /// The number of the attempt; the first is 1.
        attempt: u32,
        /// What it failed with.
        error: &'a Error,
    },
    /// A call got no connection in time, or its turn with the writer: it fails. Of a call that has a deadline of its own, the
    /// call itself tells.
    WaitedInVain {
        /// What for.
        access: Access,
        /// How long.
        waited: Duration,
    },
    /// A connection was lent.
    ConnectionLent {
        /// What it can do.
        access: Access,
        /// How long its borrower waited for it: in the queue, for its health check, or for its opening.
        waited: Duration,
    },
    /// A connection came back.
    ConnectionReturned {
        /// What it can do.
        access: Access,
        /// For how long it was lent.
        used: Duration,
    },
    /// A connection was closed.
    ConnectionClosed {
        /// What it could do.
        access: Access,
        /// What went wrong with that.
        error: Option<&'a Error>,
    },
    /// Statements of several calls, or of one, that had waited for the writer were run together, and their callers are
    /// answered.
    GroupRan {
        /// How many.
        statements: usize,
        /// How many of them failed.
        failed: usize,
        /// How long they ran, with the commit.
        took: Duration,
    },
    /// A transaction failed in a way that may pass, and is run again after a pause.
    TransactionRepeated {
        /// The number of the attempt that failed; the first is 1.
        attempt: u32,
        /// The pause.
        pause: Duration,
    },
    /// The engine did something of its own: it kept a snapshot, copied its log, asked for a key.
    Engine(&'a EngineEvent),
}

/// A call that is observed: one use of a handle.
///
/// A call that consists of several is told by its parts: `transaction` by its begin, its statements and its commit,
/// `execute_many` of the database likewise, `migrate` by what it runs.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct ObservedCall<'a> {
    /// Tells calls apart, in the whole process.
    pub id: u64,
    /// What was asked for.
    pub kind: CallKind,
    /// The text of the statement or script as the program wrote it, which may have values in it.
    /// [`query_text`](Self::query_text) has none.
    pub sql: Option<&'a str>,
    /// What the statement does, and to which table, if the engine has told by then.
    pub summary: Option<&'a StatementSummary>,
    /// Where the call was made; of the calls of a guard, where it was asked for, if the call itself does not know.
    pub location: &'static Location<'static>,
    /// The name of the engine.
    pub engine: &'static str,
    /// The name of the database; see [`Capabilities::namespace`](crate::Capabilities::namespace).
    pub namespace: Option<&'a str>,
    pub(crate) dialect: Dialect,
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CallOutcome<'a> {
    /// How long it waited for a connection, or for its turn with the writer.
    pub waiting: Duration,
    /// How long it ran after that.
    pub running: Duration,
    /// How many rows it gave to the caller.
    pub rows_returned: u64,
    /// How many rows it changed.
    pub rows_affected: u64,
    /// How many sets of parameters `execute_many` was given; 0 for other calls.
    pub sets: u64,
    /// How a statement ran that was [`slow`](super::Observer::slow), where the engine can tell.
    pub effort: Option<&'a StatementEffort>,
    /// What it failed with. A call whose future was dropped is [`Cancelled`](crate::ErrorKind::Cancelled).
    pub error: Option<&'a Error>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CallKind {
    /// `fetch_one`, `fetch_all` and their like.
    Fetch,
    /// `execute`.
    Execute,
    /// One statement with many sets of parameters.
    ExecuteMany,
    /// A script.
    ExecuteScript,
    /// A stream of rows, until it ends or is dropped.
    FetchStream,
    /// `table_exists`.
    TableExists,
    /// A transaction was begun.
    Begin,
    /// A transaction was committed.
    Commit,
    /// A transaction was rolled back by a call. To drop its guard is no call.
    Rollback,
    /// A connection was borrowed: it only waits.
    Borrow,
    /// Checkpoint, vacuum and the like.
    Maintain,
    /// A copy.
    BackUp,
}

impl ObservedCall<'_> {
    /// The name of the system, as OpenTelemetry's conventions have it: `sqlite`, `postgresql`.
    pub fn system(&self) -> &'static str {
        system(self.dialect, self.engine)
    }

    /// The text of the statement without the values that stand in it: strings and numbers are `?`, and so is whatever a
    /// `PRAGMA` or `ATTACH` is given. Placeholders stay as they are.
    pub fn query_text(&self) -> Option<Cow<'_, str>> {
        self.sql.map(|sql| without_literals(sql, self.dialect))
    }
}

pub(crate) fn system(dialect: Dialect, engine: &'static str) -> &'static str {
    match dialect {
        Dialect::Sqlite => "sqlite",
        Dialect::Postgres => "postgresql",
        Dialect::Other => engine,
    }
}

impl CallKind {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 12] = [
        Self::Fetch,
        Self::Execute,
        Self::ExecuteMany,
        Self::ExecuteScript,
        Self::FetchStream,
        Self::TableExists,
        Self::Begin,
        Self::Commit,
        Self::Rollback,
        Self::Borrow,
        Self::Maintain,
        Self::BackUp,
    ];

    /// The name of the call.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Execute => "execute",
            Self::ExecuteMany => "execute_many",
            Self::ExecuteScript => "execute_script",
            Self::FetchStream => "fetch_stream",
            Self::TableExists => "table_exists",
            Self::Begin => "begin",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
            Self::Borrow => "connection",
            Self::Maintain => "maintain",
            Self::BackUp => "backup",
        }
    }
}

/// Values that stand in the text are not shown.
impl fmt::Debug for ObservedCall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedCall")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("query_text", &self.query_text())
            .field("summary", &self.summary)
            .field("location", &format_args!("{}", self.location))
            .field("engine", &self.engine)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
