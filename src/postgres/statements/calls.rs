//! One session on one server, as a database sees it.

use std::pin::{Pin, pin};
use std::sync::Arc;

use futures_util::StreamExt;
use tokio_postgres::{Client, RowStream};

use super::bulk::BulkWay;
use super::collect::Collector;
use super::sending::{Fitted, Ready, failed_within};
use super::words::{Shape, Traces, commits_midway, ends_transaction, only_sets};
use crate::connector::{
    Access, BulkInsert, Connection, Isolation, Maintained, Maintenance, Outcome, Scope, Statement, StatementKind,
    StatementSummary, TransactionMode, left_open,
};
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::feed::ChangeFeed;
use crate::params::lexer::unmarked;
use crate::params::placeholders::refuse_nul;
use crate::params::{Dialect, ParamSets};
use crate::postgres::connection::{BEGIN_STREAM, PostgresConnection};
use crate::postgres::error::sqlstate;
use crate::postgres::values::Parameter;
use crate::postgres::wire::Running;
use crate::postgres::wire::{Fault, SessionCall, SessionTransaction, doomed, only_reads, outcome_unknown};
use crate::row::{Changes, RowSink, Rows};
use crate::value::Value;

/// A stream that is open.
pub(crate) struct Open {
    rows: Pin<Box<RowStream>>,
    /// The chunk that is being filled; it outlives a dropped `next_chunk`.
    gathered: Collector,
    chunk: usize,
    /// Outside a transaction, of what may commit on its way.
    commits: bool,
    call: SessionCall,
    running: Running,
}

impl Connection for PostgresConnection {
    type Native = Client;
    type Bulk<'c> = PostgresBulk<'c>;

    /// By the words of the text, without asking the server. Sessions that may write are all alike, so there it matters
    /// only what needs a connection of its own. One that only reads refuses what writes by the words of a function alone.
    fn classify(&mut self, sql: &str) -> Result<StatementKind> {
        let shape = self.cache.peek(sql).unwrap_or_else(|| Shape::of(sql));
        let reads = self.session.access == Access::Read && shape.reads && shape.kind == StatementKind::Write;
        Ok(if reads { StatementKind::Read } else { shape.kind })
    }

    async fn run(&mut self, statement: Statement) -> Result<Rows> {
        self.run_showing(statement, None).await
    }

    async fn run_into(
        &mut self,
        statement: Statement,
        scope: Scope,
        sink: &mut Box<dyn RowSink>,
    ) -> Result<Outcome<Changes>> {
        if scope != Scope::Session {
            let kind = self.classify(&statement.sql)?;
            if !scope.admits(kind) {
                return Ok(Outcome::Refused(kind, statement));
            }
        }
        let rows = self.run_showing(statement, Some(sink.as_mut())).await?;
        Ok(Outcome::Ran(rows.changes()))
    }

    async fn bulk(&mut self, sql: Arc<str>) -> Result<PostgresBulk<'_>> {
        self.ready_to_run().await?;
        Ok(PostgresBulk { connection: self, sql, way: BulkWay::Unasked })
    }

    /// The server takes a text of several statements for one transaction, unless the text holds BEGIN and COMMIT: a
    /// statement that fails undoes those before it. A transaction that the text leaves open is rolled back. Within a
    /// transaction, a text that begins or ends one is refused before anything of it runs.
    async fn run_script(&mut self, sql: Arc<str>) -> Result<()> {
        refuse_nul(&sql)?;
        let sql = unmarked(&sql);
        self.ready_to_run().await?;
        let traces = Traces::of_script(sql);
        if self.session.access == Access::Read && traces.sets_access {
            return Err(only_reads(Phase::Statement));
        }
        self.session.note(traces);
        let call = SessionCall::Script { reads: only_sets(sql) };
        if self.session.transaction == SessionTransaction::Open {
            if ends_transaction(sql) {
                return Err(refused_script());
            }
            // The savepoint is gone if the script has ended the transaction all the same, by strings that are read
            // otherwise under other settings.
            let held = format!("SAVEPOINT strongroom_script;\n{sql}\n;RELEASE SAVEPOINT strongroom_script");
            return self.send(call, &held).await.map_err(|error| match sqlstate(&error) {
                Some("25P01" | "3B001") => ended_by_script(error),
                _ => error,
            });
        }
        let outcome = self.send(call, sql).await;
        let outcome = outcome.map_err(|error| if commits_midway(sql) { failed_within(error) } else { error });
        if self.session.lost || self.session.link.reported.transaction() == Some(SessionTransaction::None) {
            return outcome;
        }
        let ended = self.send(SessionCall::Rollback, "ROLLBACK").await;
        outcome?;
        // The script is through, but all is lost of the transaction that it left open.
        ended.map_err(|error| match call {
            SessionCall::Script { reads: false } => outcome_unknown(call, error),
            _ => error,
        })?;
        Err(left_open())
    }

    /// The rows stay with the server until they are fetched: the driver reads no further while nobody takes what it
    /// has read. Ended early, the statement is stopped and, inside a transaction, undone.
    async fn run_stream(&mut self, statement: Statement, chunk: usize) -> Result<()> {
        self.ready_to_run().await?;
        let Statement { sql, params, .. } = statement;
        let (ready, values, cached) = self.get_ready(&sql, params).await?;
        if let Ready::Text { sql, .. } = &ready {
            Box::pin(self.foresee(sql, &values)).await?;
        }
        match self.open_stream(&ready, &values, chunk).await {
            // No row has been given to anybody.
            Err(error) if cached => {
                let ready = Box::pin(self.get_ready_again(&sql, error)).await?;
                self.open_stream(&ready, &values, chunk).await
            }
            outcome => outcome,
        }
    }

    /// Cancel safe: dropped, it loses no row.
    async fn next_chunk(&mut self) -> Result<Option<Rows>> {
        let Some(open) = &mut self.stream else {
            return self.ready().await.map(|()| None);
        };
        let types = &self.types;
        let fill = pin!(async {
            while !open.gathered.is_chunk(open.chunk) {
                match open.rows.next().await {
                    Some(Ok(row)) => open.gathered.push(&row, types)?,
                    Some(Err(error)) => return Ok(Some(Err(error))),
                    None => return Ok(Some(Ok(()))),
                }
            }
            Ok(None)
        });
        let Some(end) = self.session.driver.wait(fill).await? else { return Ok(Some(open.gathered.take())) };
        let Some(Open { mut gathered, commits, call, running, .. }) = self.stream.take() else { return Ok(None) };
        running.end();
        if let Err(error) = end {
            let error = self.session.fails(call, Fault::Driver(error)).await;
            return Err(if commits { failed_within(error) } else { error });
        }
        self.session.call = None;
        self.session.confirmed(call)?;
        if self.session.transaction == SessionTransaction::Open {
            self.send(SessionCall::Statement { reads: true }, "RELEASE SAVEPOINT strongroom_stream").await?;
        }
        Ok(if gathered.is_chunk(1) { Some(gathered.take()) } else { None })
    }

    /// [`Isolation::Default`] is the server's own, READ COMMITTED unless it is configured otherwise, except in a
    /// transaction that only reads, which sees one unchanging view. [`Isolation::Snapshot`] is REPEATABLE READ.
    ///
    /// On a connection for reading, a transaction that writes is refused: the server would let it write.
    async fn begin(&mut self, mode: TransactionMode) -> Result<()> {
        let sql = match (mode.access, mode.isolation) {
            (Access::Write, Isolation::Default) => "BEGIN READ WRITE",
            (Access::Write, Isolation::Snapshot) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE",
            (Access::Write, Isolation::Serializable) => "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE",
            (Access::Read, Isolation::Serializable) => "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
            (Access::Read, _) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        self.ready().await?;
        if self.session.transaction != SessionTransaction::None {
            let error = Error::new(ErrorKind::Transaction, "a transaction is open already").during(Phase::Begin);
            return Err(error.hint("nest with savepoints"));
        }
        if self.session.access == Access::Read && mode.access == Access::Write {
            return Err(only_reads(Phase::Begin));
        }
        if self.session.silent {
            Box::pin(self.hear_warnings()).await?;
        }
        self.send(SessionCall::Begin { writes: mode.access == Access::Write }, sql).await?;
        self.session.begun(mode.access);
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        self.ready().await.map_err(|error| error.during(Phase::Commit))?;
        if self.session.transaction == SessionTransaction::Open && self.session.lent {
            // What its user has left unread is answered before this, and after it the server's word is the last one.
            self.send(SessionCall::Statement { reads: true }, "SELECT 1").await.ok();
            self.session.refuse_lost()?;
            self.session.believe();
        }
        if self.session.transaction == SessionTransaction::Open && self.session.silent {
            Box::pin(self.hear_warnings()).await?;
        }
        match self.session.transaction {
            SessionTransaction::None => Err(nothing_to_commit()),
            SessionTransaction::Failed => {
                self.rollback().await?;
                Err(doomed().during(Phase::Commit))
            }
            SessionTransaction::Open => self.send(SessionCall::Commit, "COMMIT").await,
        }
    }

    async fn rollback(&mut self) -> Result<()> {
        self.ready().await?;
        if self.session.transaction != SessionTransaction::None {
            self.send(SessionCall::Rollback, "ROLLBACK").await?;
            self.session.ended();
        }
        Ok(())
    }

    async fn savepoint(&mut self, depth: u32) -> Result<()> {
        self.ready().await?;
        self.session.refuse_failed()?;
        self.send(SessionCall::Statement { reads: true }, &format!("SAVEPOINT strongroom_{depth}")).await
    }

    async fn release(&mut self, depth: u32) -> Result<()> {
        self.ready().await?;
        self.session.refuse_failed()?;
        self.send(SessionCall::Statement { reads: true }, &format!("RELEASE SAVEPOINT strongroom_{depth}")).await
    }

    async fn rollback_to(&mut self, depth: u32) -> Result<()> {
        self.ready().await?;
        let sql = format!("ROLLBACK TO SAVEPOINT strongroom_{depth}; RELEASE SAVEPOINT strongroom_{depth}");
        self.send(SessionCall::Statement { reads: true }, &sql).await?;
        self.session.transaction = SessionTransaction::Open;
        Ok(())
    }

    /// Its server does all but to tell sizes.
    async fn maintain(&mut self, task: Maintenance) -> Result<Maintained> {
        self.tell_sizes(task).await
    }

    /// By triggers and a session of its own that listens; see
    /// [`install_change_feed`](crate::AsyncDatabase::install_change_feed).
    async fn follow(&mut self, feed: &ChangeFeed) -> Result<()> {
        Box::pin(self.follow_feed(feed)).await
    }

    async fn tables_read(&mut self, statement: &Statement) -> Result<Vec<Arc<str>>> {
        self.tables_locked(statement).await
    }

    async fn install_feed(&mut self, tables: Vec<String>, rows: bool) -> Result<()> {
        self.install_triggers(tables, rows).await
    }

    async fn remove_feed(&mut self, tables: Vec<String>) -> Result<()> {
        self.remove_triggers(tables).await
    }

    /// The server tells what a statement does to nobody but itself, so this is what its words say.
    fn summary(&mut self, sql: &str) -> Option<StatementSummary> {
        StatementSummary::from_text(sql, Dialect::Postgres)
    }

    /// The name stands for itself or, as in SQL, for its lower-case form; `schema.table` works too.
    async fn table_exists(&mut self, name: &str) -> Result<bool> {
        const SQL: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c \
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') \
            AND (c.relname IN (cast($1 AS text), lower(cast($1 AS text))) AND pg_catalog.pg_table_is_visible(c.oid) \
                OR n.nspname || '.' || c.relname IN (cast($1 AS text), lower(cast($1 AS text)))))";
        let statement = Statement::new(SQL, (name,))?;
        let rows = self.run(statement).await?;
        rows.first().map_or(Ok(false), |row| row.get(0))
    }

    /// The driver's client. COPY, large objects, pipelines and types of your own are reached by it.
    ///
    /// A session whose client was lent counts as altered: the pool does not lend it to anybody else. Asking for it
    /// inside a transaction makes the commit ask the server first whether the transaction is still good.
    ///
    /// ```no_run
    /// use futures_util::SinkExt;
    /// use strongroom::engine::Access;
    /// use strongroom::postgres::PostgresConnector;
    /// use strongroom::{Connection, Connector};
    ///
    /// # async fn copy(connector: PostgresConnector) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut connection = connector.connect(Access::Write).await?;
    /// let mut sink = Box::pin(connection.native().copy_in("COPY prices FROM STDIN (FORMAT csv)").await?);
    /// sink.send(bytes::Bytes::from_static(b"1,99\n2,45\n")).await?;
    /// assert_eq!(sink.as_mut().finish().await?, 2);
    /// # Ok(()) }
    /// ```
    fn native(&mut self) -> &mut Client {
        // What was left of them would stand before each answer to come, and nobody would take it away.
        self.stream = None;
        self.copying = None;
        self.session.altered = true;
        self.session.lent = true;
        self.session.silent = true;
        self.session.link.described.lend(true);
        &mut self.client
    }
}

impl PostgresConnection {
    /// Gets to know the types of the columns before their rows come, of which nobody knows how many there are. What is
    /// prepared for that is gone with the transaction, during which a pooler leaves us the same session.
    async fn foresee(&mut self, sql: &str, values: &[Value]) -> Result<()> {
        let alone = self.session.transaction == SessionTransaction::None;
        if alone {
            self.begin(TransactionMode::READ).await?;
            self.session.asking = true;
        }
        let types: Vec<_> = values.iter().map(|value| Parameter::guess(value).1).collect();
        let outcome = match self.parse(sql, &types).await {
            Ok(statement) => self.column_types(&statement).await,
            Err(error) => Err(error),
        };
        if alone {
            let ended = self.ready().await;
            return outcome.and(ended);
        }
        outcome.map(drop)
    }

    async fn open_stream(&mut self, ready: &Ready, values: &[Value], chunk: usize) -> Result<()> {
        let fitted = Fitted::new(ready, values)?;
        let shape = ready.shape();
        let call = SessionCall::Stream { reads: shape.reads };
        if self.session.transaction == SessionTransaction::Open {
            self.send(SessionCall::Statement { reads: true }, BEGIN_STREAM).await?;
        }
        self.session.note(shape.traces);
        let answer = pin!(async { Ok(fitted.send(&self.client).await?) });
        let commits = shape.commits_within && self.session.transaction == SessionTransaction::None;
        let rows = self.session.during(call, answer).await;
        let rows = Box::pin(rows.map_err(|error| if commits { failed_within(error) } else { error })?);
        self.session.call = Some(call);
        let running = self.session.link.running();
        self.stream = Some(Open { rows, gathered: ready.collector(), chunk: chunk.max(1), commits, call, running });
        Ok(())
    }
}

/// A bulk insert on one session. Into a table that takes COPY, the sets of all calls travel as one, because each COPY of
/// some size costs the server a millisecond.
#[derive(Debug)]
pub struct PostgresBulk<'c> {
    connection: &'c mut PostgresConnection,
    sql: Arc<str>,
    way: BulkWay,
}

impl BulkInsert for PostgresBulk<'_> {
    async fn add(&mut self, sets: ParamSets) -> Result<Option<Changes>> {
        if self.connection.copying.is_none() {
            self.connection.ready_to_run().await?;
        }
        Box::pin(self.connection.add_prepared_many(&self.sql, sets, &mut self.way)).await
    }

    async fn end(self) -> Result<Changes> {
        if self.connection.copying.is_none() {
            self.connection.ready_to_run().await?;
        }
        Box::pin(self.connection.end_copy()).await
    }
}

#[cold]
fn refused_script() -> Error {
    let error = Error::new(ErrorKind::Unsupported, "a script inside a transaction cannot begin or end one");
    let error = error.because(Reason::Control).during(Phase::Statement);
    error.hint("leave BEGIN, COMMIT, ROLLBACK and savepoints out of it")
}

#[cold]
fn ended_by_script(error: Error) -> Error {
    let ended = Error::new(ErrorKind::Transaction, "the script ended the transaction it ran in").caused_by(error);
    ended.during(Phase::Statement).hint("leave BEGIN, COMMIT and ROLLBACK out of it")
}

#[cold]
fn nothing_to_commit() -> Error {
    Error::new(ErrorKind::Transaction, "there is no transaction to commit").during(Phase::Commit)
}
