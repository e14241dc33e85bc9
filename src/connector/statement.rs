//! A statement and how it is to be run.

use std::sync::Arc;

use super::Access;
use crate::error::Result;
use crate::params::{IntoParams, Params};

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
}

impl Statement {
    /// Puts a statement together.
    ///
    /// # Errors
    /// When a parameter does not fit, such as a `u64` above `i64::MAX`.
    pub fn new(sql: impl Into<Arc<str>>, params: impl IntoParams) -> Result<Self> {
        Ok(Self { sql: sql.into(), params: params.into_params()?, first_only: false })
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
