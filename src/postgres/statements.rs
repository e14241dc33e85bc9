//! One session on one server, as a database sees it.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, RowStream};

use super::cache::Prepared;
use super::collect::Collector;
use super::connection::{BEGIN_STREAM, PostgresConnection};
use super::decode::check_readable;
use super::error::sqlstate;
use super::link::Running;
use super::parameter::Parameter;
use super::session::{Call, Fault, Transaction, doomed};
use super::words::{Shape, alters_session};
use crate::row::Changes;
use crate::{
    Access, Connection, Dialect, Error, ErrorKind, IntoParams, Isolation, Params, Phase, Placeholders, Reason, Result,
    Rows, Statement, StatementKind, TransactionMode, Value,
};

/// A stream that is open.
pub(super) struct Open {
    rows: Pin<Box<RowStream>>,
    /// The chunk that is being filled; it outlives a dropped `next_chunk`.
    gathered: Collector,
    chunk: usize,
    call: Call,
    running: Running,
}

/// What stands ready to be sent.
enum Ready {
    Prepared(Arc<Prepared>),
    /// To be parsed with each call: placeholders rewritten.
    Text {
        sql: String,
        shape: Shape,
    },
}

impl Ready {
    fn shape(&self) -> Shape {
        match self {
            Self::Prepared(prepared) => prepared.shape,
            Self::Text { shape, .. } => *shape,
        }
    }

    fn collector(&self) -> Collector {
        match self {
            Self::Prepared(prepared) => Collector::new(Some(Arc::clone(&prepared.header))),
            Self::Text { .. } => Collector::new(None),
        }
    }
}

/// Refuses what the methods of a connection are for.
fn refuse(shape: Shape) -> Result<()> {
    let (message, hint) = if shape.transaction {
        ("a statement may not begin or end a transaction", "use begin, commit, rollback and savepoint")
    } else if shape.copy {
        ("COPY from or to the client is no statement", "use copy_in and copy_out of the driver's client, by native()")
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Query, message).because(Reason::Control).hint(hint).during(Phase::Statement))
}

impl PostgresConnection {
    /// Prepares a statement, or finds it prepared; the flag tells which.
    pub(super) async fn prepare(&mut self, sql: &Arc<str>) -> Result<(Arc<Prepared>, bool)> {
        if let Some(prepared) = self.cache.get(sql) {
            return Ok((prepared, true));
        }
        let shape = Shape::of(sql);
        refuse(shape)?;
        let placeholders = Placeholders::scan(sql, Dialect::Postgres)?;
        let text = placeholders.rewrite(sql);
        let answer = async { Ok(self.client.prepare(&text).await?) };
        let statement = self.session.during(Call::Statement { reads: true }, answer).await?;
        if statement.params().len() != placeholders.count() {
            let message = format!("the server finds {} parameters", statement.params().len());
            let error = Error::new(ErrorKind::Query, message).because(Reason::Parameters);
            return Err(error.hint("number them from $1 without gaps"));
        }
        for column in statement.columns() {
            check_readable(column.name(), column.type_())?;
        }
        let header = statement.columns().iter().map(|column| column.name().into()).collect();
        let bulk = std::sync::OnceLock::new();
        let prepared = Prepared { shape, placeholders, statement, header, bulk };
        Ok((self.cache.insert(Arc::clone(sql), prepared), false))
    }

    /// Finds out how a statement is sent, and puts its values in order. The flag tells whether it had been prepared
    /// before, so that the server may meanwhile see it differently.
    async fn get_ready(&mut self, sql: &Arc<str>, params: Params) -> Result<(Ready, Vec<Value>, bool)> {
        if self.cache.is_off() {
            let shape = Shape::of(sql);
            refuse(shape)?;
            let placeholders = Placeholders::scan(sql, Dialect::Postgres)?;
            let values = placeholders.arrange(params)?;
            return Ok((Ready::Text { sql: placeholders.rewrite(sql).into_owned(), shape }, values, false));
        }
        let (mut prepared, mut cached) = self.prepare(sql).await?;
        let values = prepared.placeholders.arrange(params)?;
        if cached && fit(&prepared, &values).is_err() {
            // Since it was prepared, a parameter may have come to mean a column of another type.
            self.cache.remove(sql);
            (prepared, cached) = self.prepare(sql).await?;
        }
        Ok((Ready::Prepared(prepared), values, cached))
    }

    /// Prepares a statement anew that the server no longer accepts as it was prepared.
    async fn run_again(&mut self, sql: &Arc<str>, values: &[Value], error: Error) -> Result<Rows> {
        self.cache.remove(sql);
        if self.session.transaction != Transaction::None {
            // Too late here, but the whole transaction may be run again.
            return Err(if is_stale(&error) { changed_shape(error) } else { error });
        }
        let (prepared, _) = self.prepare(sql).await?;
        self.execute(&Ready::Prepared(prepared), values).await
    }

    /// Sends a statement and collects its rows.
    async fn execute(&mut self, ready: &Ready, values: &[Value]) -> Result<Rows> {
        let shape = ready.shape();
        let fitted = Fitted::new(ready, values)?;
        let collector = ready.collector();
        let answer = async { collector.all(fitted.send(&self.client).await?, shape.counts_changes).await };
        let rows = self.session.during(Call::Statement { reads: shape.reads }, answer).await?;
        self.session.altered |= shape.kind == StatementKind::Control;
        Ok(rows)
    }

    /// The whole of `begin`, `savepoint` and so on: no parameters, no rows.
    async fn command(&mut self, call: Call, sql: &str) -> Result<()> {
        self.ready().await?;
        self.send(call, sql).await
    }
}

/// A statement with its parameters in the form in which they are sent.
enum Fitted<'s> {
    Prepared(&'s Prepared, Vec<Parameter<'s>>),
    Text(&'s str, Vec<(Parameter<'s>, Type)>),
}

impl<'s> Fitted<'s> {
    fn new(ready: &'s Ready, values: &'s [Value]) -> Result<Self> {
        Ok(match ready {
            Ready::Prepared(prepared) => Self::Prepared(prepared, fit(prepared, values)?),
            Ready::Text { sql, .. } => Self::Text(sql, values.iter().map(Parameter::guess).collect()),
        })
    }

    async fn send(self, client: &Client) -> Result<RowStream, tokio_postgres::Error> {
        match self {
            Self::Prepared(prepared, parameters) => client.query_raw(&prepared.statement, parameters).await,
            Self::Text(sql, parameters) => client.query_typed_raw(sql, parameters).await,
        }
    }
}

/// Fits values to the types that the server has found.
pub(super) fn fit<'v>(prepared: &Prepared, values: &'v [Value]) -> Result<Vec<Parameter<'v>>> {
    let typed = values.iter().zip(prepared.statement.params());
    typed.enumerate().map(|(index, (value, ty))| Parameter::fit(value, ty, index + 1)).collect()
}

impl Connection for PostgresConnection {
    /// The driver's client. COPY, large objects, pipelines and types of your own are reached by it.
    ///
    /// A session whose client was lent counts as altered: the pool does not lend it to anybody else. Asking for it inside a transaction makes
    /// the commit ask the server first whether the transaction is still good.
    ///
    /// ```no_run
    /// use futures_util::SinkExt;
    /// use strongroom::{Access, Connection, Connector, PostgresConnector};
    ///
    /// # async fn copy(connector: PostgresConnector) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut connection = connector.connect(Access::Write).await?;
    /// let mut sink = Box::pin(connection.native().copy_in("COPY prices FROM STDIN (FORMAT csv)").await?);
    /// sink.send(bytes::Bytes::from_static(b"1,99\n2,45\n")).await?;
    /// assert_eq!(sink.as_mut().finish().await?, 2);
    /// # Ok(()) }
    /// ```
    type Native = Client;

    /// By the first words of the text, without asking the server: all connections are alike here, so it matters only
    /// what needs a connection of its own.
    fn classify(&mut self, sql: &str) -> Result<StatementKind> {
        Ok(Shape::of(sql).kind)
    }

    async fn run(&mut self, statement: Statement) -> Result<Rows> {
        self.ready().await?;
        self.session.refuse_failed()?;
        let Statement { sql, params } = statement;
        let (ready, values, cached) = self.get_ready(&sql, params).await?;
        match self.execute(&ready, &values).await {
            Err(error) if cached && may_be_stale(&error) => self.run_again(&sql, &values, error).await,
            outcome => outcome,
        }
    }

    async fn run_many(&mut self, sql: Arc<str>, sets: Vec<Params>) -> Result<Changes> {
        self.ready().await?;
        self.session.refuse_failed()?;
        if !self.cache.is_off() {
            return self.run_prepared_many(&sql, sets).await;
        }
        let mut changed = 0;
        for params in sets {
            let (ready, values, _) = self.get_ready(&sql, params).await?;
            changed += self.execute(&ready, &values).await?.changes().rows_affected;
        }
        Ok(Changes::new(changed, None))
    }

    /// The server takes a text of several statements for one transaction, unless the text holds BEGIN and COMMIT: a
    /// statement that fails undoes those before it. A transaction that the text leaves open is rolled back. Within a
    /// transaction the text may not end it.
    async fn run_script(&mut self, sql: Arc<str>) -> Result<()> {
        self.ready().await?;
        self.session.refuse_failed()?;
        self.session.altered |= alters_session(&sql);
        if self.session.transaction == Transaction::Open {
            // The savepoint is gone if the script has ended the transaction.
            let held = format!("SAVEPOINT strongroom_script;\n{sql}\n;RELEASE SAVEPOINT strongroom_script");
            return self.send(Call::Script, &held).await.map_err(|error| match sqlstate(&error) {
                Some("25P01" | "3B001") => ended_by_script(error),
                _ => error,
            });
        }
        let outcome = self.send(Call::Script, &sql).await;
        if self.session.lost {
            return outcome;
        }
        self.session.link.take_no_transaction();
        self.send(Call::Rollback, "ROLLBACK").await?;
        let left_open = !self.session.link.take_no_transaction();
        outcome?;
        if left_open {
            let error = Error::new(ErrorKind::Transaction, "the script left a transaction open, which was rolled back");
            return Err(error
                .because(Reason::Control)
                .during(Phase::Statement)
                .hint("end it with COMMIT, or use begin and commit"));
        }
        Ok(())
    }

    /// The rows stay with the server until they are fetched: the driver reads no further while nobody takes what it
    /// has read. Ended early, the statement is stopped and, inside a transaction, undone.
    async fn run_stream(&mut self, statement: Statement, chunk: usize) -> Result<()> {
        self.ready().await?;
        self.session.refuse_failed()?;
        let Statement { sql, params } = statement;
        let (ready, values, _) = self.get_ready(&sql, params).await?;
        let fitted = Fitted::new(&ready, &values)?;
        let call = Call::Stream { reads: ready.shape().reads };
        if self.session.transaction == Transaction::Open {
            self.send(Call::Statement { reads: true }, BEGIN_STREAM).await?;
        }
        let answer = async { Ok(fitted.send(&self.client).await?) };
        let rows = Box::pin(self.session.during(call, answer).await?);
        self.session.call = Some(call);
        let running = self.session.link.running();
        self.stream = Some(Open { rows, gathered: ready.collector(), chunk: chunk.max(1), call, running });
        Ok(())
    }

    /// Cancel safe: dropped, it loses no row.
    async fn next_chunk(&mut self) -> Result<Option<Rows>> {
        let Some(open) = &mut self.stream else {
            return self.ready().await.map(|()| None);
        };
        let end = loop {
            if open.gathered.len() >= open.chunk {
                return Ok(Some(open.gathered.take()));
            }
            match open.rows.next().await {
                Some(Ok(row)) => open.gathered.push(&row)?,
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            }
        };
        let Some(Open { mut gathered, call, running, .. }) = self.stream.take() else { return Ok(None) };
        running.end();
        self.session.call = None;
        end.map_err(|error| self.session.failed(call, Fault::Driver(error)))?;
        self.session.confirmed(call)?;
        if self.session.transaction == Transaction::Open {
            self.send(Call::Statement { reads: true }, "RELEASE SAVEPOINT strongroom_stream").await?;
        }
        Ok(if gathered.len() > 0 { Some(gathered.take()) } else { None })
    }

    /// [`Isolation::Default`] is the server's own, READ COMMITTED unless it is configured otherwise, except in a
    /// transaction that only reads, which sees one unchanging view. [`Isolation::Snapshot`] is REPEATABLE READ.
    async fn begin(&mut self, mode: TransactionMode) -> Result<()> {
        let sql = match (mode.access, mode.isolation) {
            (Access::Write, Isolation::Default) => "BEGIN READ WRITE",
            (Access::Write, Isolation::Snapshot) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE",
            (Access::Write, Isolation::Serializable) => "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE",
            (Access::Read, Isolation::Serializable) => "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
            (Access::Read, _) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        self.ready().await?;
        if self.session.transaction != Transaction::None {
            let error = Error::new(ErrorKind::Transaction, "a transaction is open already").during(Phase::Begin);
            return Err(error.hint("nest with savepoints"));
        }
        self.send(Call::Begin, sql).await?;
        self.session.begun(mode.access);
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        self.ready().await.map_err(|error| error.during(Phase::Commit))?;
        if self.session.transaction == Transaction::Open && self.session.lent {
            // The server refuses this in a failed transaction, where it would answer COMMIT as if it were one.
            self.send(Call::Statement { reads: true }, "SELECT 1").await.ok();
            self.session.refuse_lost()?;
        }
        match self.session.transaction {
            Transaction::None => Err(nothing_to_commit()),
            Transaction::Failed => {
                self.rollback().await?;
                Err(doomed().during(Phase::Commit))
            }
            Transaction::Open => {
                self.session.link.take_no_transaction();
                self.send(Call::Commit, "COMMIT").await?;
                self.session.ended();
                if self.session.link.take_no_transaction() { Err(nothing_to_commit()) } else { Ok(()) }
            }
        }
    }

    async fn rollback(&mut self) -> Result<()> {
        self.ready().await?;
        if self.session.transaction != Transaction::None {
            self.send(Call::Rollback, "ROLLBACK").await?;
            self.session.ended();
        }
        Ok(())
    }

    async fn savepoint(&mut self, depth: u32) -> Result<()> {
        self.ready().await?;
        self.session.refuse_failed()?;
        self.send(Call::Statement { reads: true }, &format!("SAVEPOINT strongroom_{depth}")).await
    }

    async fn release(&mut self, depth: u32) -> Result<()> {
        self.ready().await?;
        self.session.refuse_failed()?;
        self.send(Call::Statement { reads: true }, &format!("RELEASE SAVEPOINT strongroom_{depth}")).await
    }

    async fn rollback_to(&mut self, depth: u32) -> Result<()> {
        let sql = format!("ROLLBACK TO SAVEPOINT strongroom_{depth}; RELEASE SAVEPOINT strongroom_{depth}");
        self.command(Call::Statement { reads: true }, &sql).await?;
        self.session.transaction = Transaction::Open;
        Ok(())
    }

    /// The name stands for itself or, as in SQL, for its lower-case form; `schema.table` works too.
    async fn table_exists(&mut self, name: &str) -> Result<bool> {
        const SQL: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c \
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') \
            AND (c.relname IN (cast($1 AS text), lower(cast($1 AS text))) AND pg_catalog.pg_table_is_visible(c.oid) \
                OR n.nspname || '.' || c.relname IN (cast($1 AS text), lower(cast($1 AS text)))))";
        let statement = Statement { sql: SQL.into(), params: (name,).into_params()? };
        let rows = self.run(statement).await?;
        rows.first().map_or(Ok(false), |row| row.get(0))
    }

    fn native(&mut self) -> &mut Client {
        self.session.altered = true;
        self.session.lent = true;
        &mut self.client
    }
}

/// Whether the server says that what a statement was prepared for has changed, or that it never heard of it.
fn is_stale(error: &Error) -> bool {
    matches!(sqlstate(error), Some("0A000" | "26000"))
}

/// Whether preparing the statement anew may help: also when it does not fit the tables any more, or a text is read for
/// the type that a column had. A statement that failed so has done nothing, and preparing it finds out for certain.
fn may_be_stale(error: &Error) -> bool {
    let state = sqlstate(error).unwrap_or_default();
    is_stale(error) || state.starts_with("42") || matches!(state, "22P02" | "22P03" | "22007" | "22008")
}

#[cold]
fn changed_shape(error: Error) -> Error {
    let message = "a table changed its shape since the statement was prepared";
    Error::new(ErrorKind::Serialization, message).transient().during(Phase::Statement).caused_by(error)
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
