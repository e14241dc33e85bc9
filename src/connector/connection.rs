//! The contract of a SQL connection.

use std::future::Future;
use std::sync::Arc;

use super::{
    Backup, BackupReport, BulkInsert, CheckDepth, CheckStep, Maintained, Maintenance, Outcome, PendingCommit, Resource,
    Scope, Statement, StatementEffort, StatementKind, StatementSummary, TransactionMode,
};
use crate::error::{Error, ErrorKind, Result};
use crate::feed::ChangeFeed;
use crate::params::ParamSets;
use crate::row::{Changes, RowSink, Rows};

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

    /// A bulk insert under way; [`OneByOne`](super::OneByOne) where the engine has nothing better.
    type Bulk<'c>: BulkInsert
    where
        Self: 'c;

    /// Says what a statement does, from preparing it. Engines whose answer changes nothing (no single writer, all
    /// connections alike) may answer [`StatementKind::Write`] without asking anybody.
    ///
    /// Asked for by itself only where the kind is needed before anything runs: a call with a deadline has to know what
    /// is lost when it is stopped.
    ///
    /// # Errors
    /// When the statement cannot be prepared.
    fn classify(&mut self, sql: &str) -> Result<StatementKind>;

    /// Runs one statement of any kind and collects its rows: what the holder of a connection of its own asks for. A text
    /// that holds more than one statement is an error.
    ///
    /// # Errors
    /// As classified by the engine.
    fn run(&mut self, statement: Statement) -> impl Future<Output = Result<Rows>> + Send;

    /// Runs one statement if `scope` admits what it does, or gives it back and has done nothing: the one call by which
    /// a database finds out where a statement belongs, and runs it. An engine that keeps statements prepared can
    /// override this and look the statement up once.
    ///
    /// # Errors
    /// As classified by the engine.
    fn run_in(&mut self, statement: Statement, scope: Scope) -> impl Future<Output = Result<Outcome>> + Send {
        async move {
            match self.classify(&statement.sql)? {
                kind if scope.admits(kind) => self.run(statement).await.map(Outcome::Ran),
                kind => Ok(Outcome::Refused(kind, statement)),
            }
        }
    }

    /// The same, with the rows shown to `sink` while the statement runs, instead of being collected. A statement that
    /// reads ends when no more rows are wanted; one that writes runs to its end.
    ///
    /// An engine that does not collect rows first overrides this. It calls [`begin`](RowSink::begin) whenever the
    /// statement begins, and may move the sink to another thread, but has put it back when it answers.
    ///
    /// # Errors
    /// As classified by the engine; what has become of the sink does not matter then.
    fn run_into(
        &mut self,
        statement: Statement,
        scope: Scope,
        sink: &mut Box<dyn RowSink>,
    ) -> impl Future<Output = Result<Outcome<Changes>>> + Send {
        async move {
            let outcome = match scope {
                // Whoever may do anything need not ask.
                Scope::Session => Outcome::Ran(self.run(statement).await?),
                _ => self.run_in(statement, scope).await?,
            };
            Ok(outcome.map(|rows| {
                rows.show_to(sink.as_mut());
                rows.changes()
            }))
        }
    }

    /// Begins to run one statement with many sets of parameters, preparing it once; called inside a transaction. The
    /// handle is what the engine keeps until the last set, such as a COPY of PostgreSQL.
    ///
    /// # Errors
    /// As classified by the engine.
    fn bulk(&mut self, sql: Arc<str>) -> impl Future<Output = Result<Self::Bulk<'_>>> + Send;

    /// [`bulk`](Self::bulk) of sets that are all there.
    ///
    /// # Errors
    /// The first error; the transaction can then only be rolled back.
    fn run_many(&mut self, sql: Arc<str>, sets: ParamSets) -> impl Future<Output = Result<Changes>> + Send {
        async move {
            let mut bulk = self.bulk(sql).await?;
            let mut changes = bulk.add(sets).await?.unwrap_or_default();
            changes.add(bulk.end().await?);
            Ok(changes)
        }
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

    /// Runs statements that wait for the same connection, each with its own result and atomic by itself. What
    /// [`Scope::Write`] does not admit is refused. Engines that can commit them together override this; the provided body
    /// runs one after another.
    fn run_group(&mut self, group: Vec<Statement>) -> impl Future<Output = Vec<Result<Rows>>> + Send {
        async move {
            let mut results = Vec::with_capacity(group.len());
            for statement in group {
                results.push(self.run_in(statement, Scope::Write).await.and_then(Outcome::rows));
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

    /// Commits the transaction, and may leave the wait for the disk to the caller, who can give the connection away
    /// first. An engine where commits can share a sync overrides this.
    ///
    /// # Errors
    /// As [`commit`](Connection::commit).
    fn commit_early(&mut self) -> impl Future<Output = Result<Option<PendingCommit>>> + Send {
        async { self.commit().await.map(|()| None) }
    }

    /// Rolls the transaction back. Without one: no effect. The provided body is [`Resource::reset`], which does that.
    ///
    /// # Errors
    /// When the connection broke; the engine rolls back by itself then.
    fn rollback(&mut self) -> impl Future<Output = Result<()>> + Send {
        self.reset()
    }

    /// Sets a savepoint inside the transaction. `depth` counts from 1 and names it. The provided bodies of this and the
    /// next two are the words of the SQL standard; an engine that runs them by a shorter way overrides them.
    ///
    /// # Errors
    /// As classified by the engine.
    fn savepoint(&mut self, depth: u32) -> impl Future<Output = Result<()>> + Send {
        self.run_script(format!("SAVEPOINT strongroom_{depth}").into())
    }

    /// Forgets a savepoint and keeps what was done since.
    ///
    /// # Errors
    /// As classified by the engine.
    fn release(&mut self, depth: u32) -> impl Future<Output = Result<()>> + Send {
        self.run_script(format!("RELEASE SAVEPOINT strongroom_{depth}").into())
    }

    /// Undoes what was done since a savepoint, and forgets it.
    ///
    /// # Errors
    /// As classified by the engine.
    fn rollback_to(&mut self, depth: u32) -> impl Future<Output = Result<()>> + Send {
        let sql = format!("ROLLBACK TO SAVEPOINT strongroom_{depth}; RELEASE SAVEPOINT strongroom_{depth}");
        self.run_script(sql.into())
    }

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

    /// Does what a database needs from time to time. The answer is that of the same name. The provided body is that of an
    /// engine whose server sees to all of it.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for what the engine does not do; as classified by it.
    fn maintain(&mut self, task: Maintenance) -> impl Future<Output = Result<Maintained>> + Send {
        async move { Err(task.unsupported()) }
    }

    /// Copies the database into a file, as it is at one moment. The provided body is that of an engine whose server has
    /// tools for that.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where there is no such thing; as classified by the
    /// engine. The copy is there or it is not; nothing is left behind.
    fn back_up(&mut self, backup: Backup) -> impl Future<Output = Result<BackupReport>> + Send {
        drop(backup);
        let error = Error::new(ErrorKind::Unsupported, "this engine makes no copies of its database");
        async { Err(error.hint("use the tools of its server, such as pg_dump or pg_basebackup")) }
    }

    /// From now on, has this connection, and those that are opened for writing after it, add to `feed` what they commit:
    /// in the order of the commits, each before its caller is answered, and nothing that was not committed. It is called
    /// again when [more is wanted](ChangeFeed::wants_rows). Says by [`arm`](ChangeFeed::arm) that it does, and stops when
    /// [`disarm`](ChangeFeed::disarm) says that nobody listens any more. An engine whose server tells it what was committed
    /// adds that as it comes, from a session of its own, and says by [`interrupt`](ChangeFeed::interrupt) when that breaks.
    /// The provided body is that of an engine that cannot tell.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) then.
    fn follow(&mut self, feed: &ChangeFeed) -> impl Future<Output = Result<()>> + Send {
        let _ = feed;
        async { Err(untold()) }
    }

    /// The tables by whose changes the result of a statement may change, views resolved; for engines that
    /// [`follow`](Connection::follow).
    ///
    /// # Errors
    /// When it cannot be prepared, or does not only read, or reads what tells no changes;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) as provided.
    fn tables_read(&mut self, statement: &Statement) -> impl Future<Output = Result<Vec<Arc<str>>>> + Send {
        let _ = statement;
        async { Err(untold()) }
    }

    /// Puts in place what tables need so that their changes are told, with each row if `rows`, or nothing if that is there
    /// already. The provided body is that of an engine that needs nothing for that.
    ///
    /// # Errors
    /// As classified by the engine; nothing was done then.
    fn install_feed(&mut self, tables: Vec<String>, rows: bool) -> impl Future<Output = Result<()>> + Send {
        let _ = (tables, rows);
        async { Ok(()) }
    }

    /// Takes away what [`install_feed`](Connection::install_feed) has put in place for these tables.
    ///
    /// # Errors
    /// As classified by the engine; nothing was done then.
    fn remove_feed(&mut self, tables: Vec<String>) -> impl Future<Output = Result<()>> + Send {
        let _ = tables;
        async { Ok(()) }
    }

    /// What a statement does, in a few words, as far as this connection knows it from having prepared it: asked after it
    /// has run, and only if somebody observes it. Must not wait, and not prepare anything.
    fn summary(&mut self, sql: &str) -> Option<StatementSummary> {
        let _ = sql;
        None
    }

    /// What the last run of this text on this connection cost, if the statement was [`measured`](Statement::measured): asked after
    /// it has run, and only if that took long. Must not wait for others.
    fn effort(&mut self, sql: &str) -> Option<StatementEffort> {
        let _ = sql;
        None
    }

    /// Adds to `feed` that others have committed, if they have since the last look. Must not wait. False: nobody else can
    /// commit to this database, as the provided body says.
    ///
    /// # Errors
    /// When the connection does not work any more.
    fn look_elsewhere(&mut self, feed: &ChangeFeed) -> Result<bool> {
        let _ = feed;
        Ok(false)
    }

    /// The driver's own connection, for what this contract does not cover.
    fn native(&mut self) -> &mut Self::Native;
}

#[cold]
fn untold() -> Error {
    Error::new(ErrorKind::Unsupported, "this engine does not tell what was committed")
        .hint("ask again from time to time, or use what its server has, such as LISTEN and NOTIFY on connection()")
}
