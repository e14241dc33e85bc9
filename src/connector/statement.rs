//! A statement and how it is to be run.

use std::sync::Arc;

use super::Access;
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::params::{Dialect, IntoParams, Params, subject};
use crate::row::Rows;

/// SQL and its parameters, owned, so that it can cross to another thread.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Statement {
    /// The text; one statement.
    pub sql: Arc<str>,
    /// What is bound.
    pub params: Params,
    /// Only the first row is wanted. A statement that reads may stop there; one that writes runs to its end.
    pub first_only: bool,
    /// Somebody will ask for its [`effort`](crate::Connection::effort), if it takes long.
    pub measured: bool,
}

impl Statement {
    /// Puts a statement together.
    ///
    /// # Errors
    /// When a parameter does not fit, such as a `u64` above `i64::MAX`.
    pub fn new(sql: impl Into<Arc<str>>, params: impl IntoParams) -> Result<Self> {
        Ok(Self { sql: sql.into(), params: params.into_params()?, first_only: false, measured: false })
    }

    /// The same, of which only the first row is wanted.
    #[must_use]
    pub fn first(self) -> Self {
        Self { first_only: true, ..self }
    }
}

/// What a statement does, as the engine itself says after preparing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StatementKind {
    /// Reads only.
    Read,
    /// Writes, inside a transaction or by itself.
    Write,
    /// Writes and cannot run inside a transaction.
    OutsideTransaction,
    /// Begins or ends a transaction, or alters the session: needs a connection of its own.
    Control,
}

/// What a statement does, in the words that measurements are sorted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct StatementSummary {
    /// The operation, such as `SELECT` or `CREATE TABLE`.
    pub operation: &'static str,
    /// The table, if it is about one only.
    pub table: Option<Arc<str>>,
    /// It was read from the words of the statement.
    from_text: bool,
}

impl StatementSummary {
    /// States what a statement does; for connectors.
    pub fn new(operation: &'static str, table: Option<Arc<str>>) -> Self {
        Self { operation, table, from_text: false }
    }

    /// Reads it from the words of a statement, for engines that do not tell: the operation, and the table where the words
    /// leave no doubt. `None` for what is not one of the usual operations.
    pub fn from_text(sql: &str, dialect: Dialect) -> Option<Self> {
        let (operation, table) = subject(sql, dialect)?;
        Some(Self { operation, table: table.map(Arc::from), from_text: true })
    }

    /// Whether it was read from the words of the statement. Measurements then leave out the operation and the table as facts of
    /// their own, as OpenTelemetry's conventions want it.
    pub fn is_from_text(&self) -> bool {
        self.from_text
    }
}

impl std::fmt::Display for StatementSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.table {
            Some(table) => write!(f, "{} {table}", self.operation),
            None => f.write_str(self.operation),
        }
    }
}

/// What a statement may do where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// Read: the connection was lent for that.
    Read,
    /// Read and write, and commit by itself.
    Write,
    /// Read and write inside the transaction that is open.
    Transaction,
    /// Anything, also begin and end transactions and alter the session: the connection is the caller's own.
    Session,
}

impl Scope {
    /// Whether a statement of this kind may run here.
    pub fn admits(self, kind: StatementKind) -> bool {
        match kind {
            StatementKind::Read => true,
            StatementKind::Write => self != Self::Read,
            StatementKind::OutsideTransaction => matches!(self, Self::Write | Self::Session),
            StatementKind::Control => self == Self::Session,
        }
    }

    /// The same, as a verdict.
    ///
    /// # Errors
    /// That of [`StatementKind::refused`].
    pub fn check(self, kind: StatementKind) -> Result<()> {
        if self.admits(kind) { Ok(()) } else { Err(kind.refused()) }
    }
}

/// The error of a script that left a transaction open, which has been rolled back.
#[cold]
pub(crate) fn left_open() -> Error {
    Error::new(ErrorKind::Transaction, "the script left a transaction open, which was rolled back")
        .because(Reason::Control)
        .during(Phase::Statement)
        .hint("end it with COMMIT, or leave BEGIN away and use transaction()")
}

impl StatementKind {
    /// The error of a statement of this kind that came to a place where it may not run.
    #[cold]
    pub fn refused(self) -> Error {
        let (message, hint) = match self {
            Self::Control => (
                "this statement begins or ends a transaction, or alters the session",
                "use transaction() or begin() for transactions, and connection() to alter a session",
            ),
            Self::OutsideTransaction => {
                ("this statement cannot run inside a transaction", "run it through execute() of the database")
            }
            Self::Read | Self::Write => (
                "this statement writes, and came to a connection that reads",
                "run it through execute() of the database",
            ),
        };
        Error::new(ErrorKind::Unsupported, message).because(Reason::Control).hint(hint)
    }
}

/// What became of a statement that was to run within a [`Scope`].
#[derive(Debug)]
#[must_use = "the statement may not have run"]
pub enum Outcome<T = Rows> {
    /// It ran, and this is what it gave.
    Ran(T),
    /// It may not run here, being of this kind, and is given back. Nothing has happened.
    Refused(StatementKind, Statement),
}

impl<T> Outcome<T> {
    /// The rows, or what became of them.
    ///
    /// # Errors
    /// That of [`StatementKind::refused`] if it did not run.
    pub fn rows(self) -> Result<T> {
        match self {
            Self::Ran(rows) => Ok(rows),
            Self::Refused(kind, _) => Err(kind.refused()),
        }
    }

    pub(crate) fn map<R>(self, ran: impl FnOnce(T) -> R) -> Outcome<R> {
        match self {
            Self::Ran(rows) => Outcome::Ran(ran(rows)),
            Self::Refused(kind, statement) => Outcome::Refused(kind, statement),
        }
    }
}

/// How a transaction begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TransactionMode {
    /// Whether it will write. Write transactions take their lock at once, so that they cannot fail half-way for it.
    pub access: Access,
    /// What it may see of others.
    pub isolation: Isolation,
}

/// What a transaction may see of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isolation {
    /// What the engine does if not asked; `SQLite` is always serializable.
    #[default]
    Default,
    /// One unchanging view.
    Snapshot,
    /// As if transactions ran one after another.
    Serializable,
}

impl TransactionMode {
    /// A transaction that writes.
    pub const WRITE: Self = Self { access: Access::Write, isolation: Isolation::Default };

    /// A transaction that only reads, from one unchanging view.
    pub const READ: Self = Self { access: Access::Read, isolation: Isolation::Default };

    /// The same with another isolation.
    pub fn isolation(self, isolation: Isolation) -> Self {
        Self { isolation, ..self }
    }
}
