//! The contract of a SQL connection.

use std::future::Future;
use std::sync::Arc;

use super::{CheckDepth, CheckStep, Resource, Statement, StatementKind, TransactionMode};
use crate::error::{Error, ErrorKind, Result};
use crate::params::ParamSets;
use crate::row::Changes;
use crate::row::Rows;

/// A connection that speaks SQL: only what an engine must do itself. Convenience lives in the handles above.
///
/// **For implementors.**
/// - Bind `$1..$N` by the number in the name, `:name` and `@name` by name; refuse mixtures and wrong counts before
///   anything runs. [`Placeholders`](crate::engine::Placeholders) does the reading.
/// - A dropped future stops its statement (as far as the engine can) and never a later one. The next call, whatever it
///   is, first waits until the dropped one has really stopped, and ends a stream that is still open.
/// - A statement that fails has no effect. Inside a transaction, the handles above treat a failed statement as the end
///   of the transaction, whatever the engine would allow.
/// - A commit whose answer is lost is [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown).
/// - Classify errors: constraint, busy, serialization, broken connection; mark transient what may pass.
///
/// `testing::conformance` (feature `testing`) checks an implementation against all of this.
pub trait Connection: Resource {
    /// The driver's own connection.
    type Native;

    /// Says what a statement does, from preparing it. Engines whose answer changes nothing (no single writer, all
    /// connections alike) may answer [`StatementKind::Write`] without asking anybody.
    ///
    /// # Errors
    /// When the statement cannot be prepared.
    fn classify(&mut self, sql: &str) -> Result<StatementKind>;

    /// Runs one statement and collects its rows. A text that holds more than one statement is an error.
    ///
    /// # Errors
    /// As classified by the engine.
    fn run(&mut self, statement: Statement) -> impl Future<Output = Result<Rows>> + Send;

    /// Runs one statement with many sets of parameters, preparing it once. Called inside a transaction; stops at the
    /// first error. [`Placeholders::look_up_all`](crate::engine::Placeholders::look_up_all) puts their values in order.
    ///
    /// # Errors
    /// As classified by the engine.
    fn run_many(&mut self, sql: Arc<str>, sets: ParamSets) -> impl Future<Output = Result<Changes>> + Send;

    /// The same, when more sets of the same statement may follow, inside a transaction. An engine may put its answer off
    /// until it is asked for more sets, or until [`end_many`](Self::end_many), which has to come before anything else:
    /// without it the transaction can only be rolled back. The provided body puts nothing off.
    ///
    /// # Errors
    /// The first error, of these sets or of those whose answer was put off.
    fn add_many(&mut self, sql: Arc<str>, sets: ParamSets) -> impl Future<Output = Result<Option<Changes>>> + Send {
        async move { self.run_many(sql, sets).await.map(Some) }
    }

    /// The answer to the sets whose answer was put off; no changes if there are none.
    ///
    /// # Errors
    /// The first error of these sets.
    fn end_many(&mut self) -> impl Future<Output = Result<Changes>> + Send {
        async { Ok(Changes::default()) }
    }

    /// Runs a text of several statements without parameters.
    ///
    /// # Errors
    /// As classified by the engine. Outside a transaction it is up to the engine whether the statements before the
    /// failing one stay done.
    fn run_script(&mut self, sql: Arc<str>) -> impl Future<Output = Result<()>> + Send;

    /// Begins to run one statement whose rows are then fetched by [`next_chunk`](Connection::next_chunk), at most
    /// `chunk` rows at a time. At most one or two chunks are made in advance, so a slow reader holds the engine back.
    ///
    /// # Errors
    /// As classified by the engine.
    fn run_stream(&mut self, statement: Statement, chunk: usize) -> impl Future<Output = Result<()>> + Send;

    /// The next rows of the open stream; `None` at its end. Without an open stream: `None`.
    ///
    /// # Errors
    /// As classified by the engine; the stream is then over.
    fn next_chunk(&mut self) -> impl Future<Output = Result<Option<Rows>>> + Send;

    /// Runs statements that wait for the same connection, each with its own result and atomic by itself. Engines that
    /// can commit them together override this; the provided body runs one after another.
    fn run_group(&mut self, group: Vec<Statement>) -> impl Future<Output = Vec<Result<Rows>>> + Send {
        async move {
            let mut results = Vec::with_capacity(group.len());
            for statement in group {
                results.push(self.run(statement).await);
            }
            results
        }
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// As classified by the engine; no transaction is open then.
    fn begin(&mut self, mode: TransactionMode) -> impl Future<Output = Result<()>> + Send;

    /// Commits the transaction.
    ///
    /// # Errors
    /// The transaction is rolled back then, or the outcome is
    /// [unknown](crate::ErrorKind::OutcomeUnknown).
    fn commit(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Rolls the transaction back. Without one: no effect.
    ///
    /// # Errors
    /// When the connection broke; the engine rolls back by itself then.
    fn rollback(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Sets a savepoint inside the transaction. `depth` counts from 1 and names it.
    ///
    /// # Errors
    /// As classified by the engine.
    fn savepoint(&mut self, depth: u32) -> impl Future<Output = Result<()>> + Send;

    /// Forgets a savepoint and keeps what was done since.
    ///
    /// # Errors
    /// As classified by the engine.
    fn release(&mut self, depth: u32) -> impl Future<Output = Result<()>> + Send;

    /// Undoes what was done since a savepoint, and forgets it.
    ///
    /// # Errors
    /// As classified by the engine.
    fn rollback_to(&mut self, depth: u32) -> impl Future<Output = Result<()>> + Send;

    /// Whether there is a table (or view) of this name.
    ///
    /// # Errors
    /// As classified by the engine.
    fn table_exists(&mut self, name: &str) -> impl Future<Output = Result<bool>> + Send;

    /// Runs one step of a check for damage and says how many steps there are; `number` counts from 0, and at most
    /// `limit` problems are told. A connection that has met damage must not be [`Idle`](crate::engine::ResourceState::Idle)
    /// afterwards. The provided body is that of an engine without such checks.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where there are none;
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) when the damage is such that this step does not get through.
    fn check_step(
        &mut self,
        depth: CheckDepth,
        number: usize,
        limit: usize,
    ) -> impl Future<Output = Result<CheckStep>> + Send {
        let _ = (depth, number, limit);
        async {
            let error = Error::new(ErrorKind::Unsupported, "this engine has no checks for damage");
            Err(error.hint("use the tools of its server"))
        }
    }

    /// The driver's own connection, for what this contract does not cover.
    fn native(&mut self) -> &mut Self::Native;
}
