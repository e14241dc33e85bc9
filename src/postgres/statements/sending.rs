//! Getting a statement ready, and sending it: prepared by name, or parsed with each call.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Column, RowStream};

use super::cache::Prepared;
use super::collect::{Collector, WireAnswer};
use super::words::Shape;
use crate::connector::{Access, Statement};
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::lock::Lock;
use crate::params::lexer::unmarked;
use crate::params::script::statements;
use crate::params::{Dialect, Params, Placeholders};
use crate::postgres::connection::PostgresConnection;
use crate::postgres::error::{is_of_changed_result, sqlstate};
use crate::postgres::values::Parameter;
use crate::postgres::values::{base, is_readable, unreadable};
use crate::postgres::wire::{SessionCall, SessionTransaction, only_reads};
use crate::row::{RowSink, Rows};
use crate::value::{Value, ValueRef};

/// What stands ready to be sent.
pub(crate) enum Ready {
    Prepared(Arc<Prepared>),
    /// To be parsed with each call: placeholders rewritten.
    Text {
        sql: String,
        shape: Shape,
    },
}

impl Ready {
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Prepared(prepared) => prepared.shape,
            Self::Text { shape, .. } => *shape,
        }
    }

    pub(crate) fn collector(&self) -> Collector {
        match self {
            Self::Prepared(prepared) => Collector::new(Some(&prepared.header)),
            Self::Text { .. } => Collector::new(None),
        }
    }
}

/// Refuses what the methods of a connection are for, and what would let a session write that is there for reading.
fn refuse(shape: Shape, access: Access) -> Result<()> {
    if shape.traces.sets_access && access == Access::Read {
        return Err(only_reads(Phase::Statement));
    }
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
    pub(crate) async fn prepare(&mut self, sql: &Arc<str>) -> Result<(Arc<Prepared>, bool)> {
        match self.cache.get(sql) {
            Some(prepared) => Ok((prepared, true)),
            // Rare and large: boxed, so that every call does not carry its size.
            None => Ok((Box::pin(self.prepare_new(sql)).await?, false)),
        }
    }

    async fn prepare_new(&mut self, sql: &Arc<str>) -> Result<Arc<Prepared>> {
        let shape = Shape::of(sql);
        refuse(shape, self.session.access)?;
        let placeholders = Placeholders::scan(sql, Dialect::Postgres)?;
        let text = placeholders.rewrite(sql);
        let text = unmarked(&text);
        let mut statement = self.parse(text, &[]).await?;
        if statement.params().len() != placeholders.count() {
            let message = format!("the server finds {} parameters", statement.params().len());
            let error = Error::new(ErrorKind::Query, message).because(Reason::Parameters);
            return Err(error.hint("number them from $1 without gaps"));
        }
        let types = self.parameter_types(&statement).await?;
        let names = statement.columns().iter().map(|column| column.name().into()).collect();
        let mut columns = self.column_types(&statement).await?;
        if let Some(index) = columns.iter().position(|ty| !is_readable(ty)) {
            let name = statement.columns().get(index).map_or("", Column::name);
            let cast = with_casts(text, &columns).ok_or_else(|| unreadable(name, &columns[index]))?;
            statement = self.parse(&cast, &[]).await?;
            columns = self.column_types(&statement).await?;
        }
        let header = (names, columns.into());
        // Where nothing stays prepared, the same value may go in a statement that is not prepared at all.
        let lenient = self.cache.is_off();
        let prepared = Prepared {
            shape,
            placeholders,
            statement,
            types,
            header,
            lenient,
            since: Instant::now(),
            copy: Lock::default(),
        };
        Ok(self.cache.insert(Arc::clone(sql), prepared))
    }

    /// Finds out how a statement is sent, and puts its values in order. The flag tells whether it had been prepared
    /// before, so that the server may meanwhile see it differently.
    pub(crate) async fn get_ready(&mut self, sql: &Arc<str>, params: Params) -> Result<(Ready, Vec<Value>, bool)> {
        if self.cache.is_off() {
            let shape = Shape::of(sql);
            refuse(shape, self.session.access)?;
            let placeholders = Placeholders::scan(sql, Dialect::Postgres)?;
            let values = placeholders.arrange(params)?;
            let sql = unmarked(&placeholders.rewrite(sql)).to_owned();
            return Ok((Ready::Text { sql, shape }, values, false));
        }
        let (mut prepared, mut cached) = self.prepare(sql).await?;
        let values = prepared.placeholders.arrange(params)?;
        if cached && self.must_look_again(&prepared, &values) {
            prepared = self.prepare_anew(sql).await?;
            cached = false;
        }
        Ok((Ready::Prepared(prepared), values, cached))
    }

    /// Since it was prepared, a parameter may have come to mean a column of another type: whether that would matter.
    fn must_look_again(&self, prepared: &Prepared, values: &[Value]) -> bool {
        prepared.loses(values.iter().map(Value::as_ref), self.session.link.is_utc())
            || fitting(prepared, values.iter().map(Value::as_ref)).any(|fitted| fitted.is_err())
    }

    /// Prepares a statement anew, with the types that its parameters have now.
    pub(crate) async fn prepare_anew(&mut self, sql: &Arc<str>) -> Result<Arc<Prepared>> {
        self.cache.remove(sql);
        Box::pin(self.prepare_new(sql)).await
    }

    /// Runs a statement, and once more if the server sees it differently than when it was prepared.
    pub(crate) async fn run_showing(
        &mut self,
        statement: Statement,
        mut sink: Option<&mut dyn RowSink>,
    ) -> Result<Rows> {
        self.ready_to_run().await?;
        let Statement { sql, params, first_only, .. } = statement;
        let (ready, values, cached) = self.get_ready(&sql, params).await?;
        match self.execute(&ready, &values, first_only, sink.as_deref_mut()).await {
            Err(error) if cached => Box::pin(self.run_again(&sql, &values, first_only, sink, error)).await,
            outcome => outcome,
        }
    }

    async fn run_again(
        &mut self,
        sql: &Arc<str>,
        values: &[Value],
        first_only: bool,
        sink: Option<&mut dyn RowSink>,
        error: Error,
    ) -> Result<Rows> {
        let ready = self.get_ready_again(sql, error).await?;
        self.execute(&ready, values, first_only, sink).await
    }

    /// Prepares a statement anew that the server no longer accepts as it was prepared.
    ///
    /// # Errors
    /// `error`, with which it failed, where that has another cause or the statement may not run once more.
    pub(crate) async fn get_ready_again(&mut self, sql: &Arc<str>, error: Error) -> Result<Ready> {
        let again = may_be_stale(&error)
            && self.session.transaction == SessionTransaction::None
            && !Shape::of(sql).commits_within;
        let error = self.forget_stale(sql, error);
        if again { Ok(Ready::Prepared(self.prepare(sql).await?.0)) } else { Err(error) }
    }

    /// Forgets a statement that was prepared before it failed, if preparing it anew may help; and says why it failed.
    pub(crate) fn forget_stale(&mut self, sql: &str, error: Error) -> Error {
        if !may_be_stale(&error) {
            return error;
        }
        self.cache.remove(sql);
        let in_transaction = self.session.transaction != SessionTransaction::None;
        // Too late here, but the whole transaction may be run again.
        if in_transaction && is_stale(&error) { changed_shape(error) } else { error }
    }

    /// Sends a statement and collects its rows, or shows them to `sink`.
    ///
    /// `first_only`: a statement that reads stops after its first row.
    pub(crate) async fn execute(
        &mut self,
        ready: &Ready,
        values: &[Value],
        first_only: bool,
        mut sink: Option<&mut dyn RowSink>,
    ) -> Result<Rows> {
        let shape = ready.shape();
        let _only_first = (first_only && shape.reads).then(|| self.session.link.first_row.only());
        let fitted = Fitted::new(ready, values)?;
        let collector = ready.collector();
        // Before it is sent: dropped, it may have been done.
        self.session.note(shape.traces);
        let autocommit = self.session.transaction == SessionTransaction::None;
        let outcome = {
            let (types, shown) = (&self.types, sink.as_deref_mut());
            let answer = pin!(async { collector.all(fitted.send(&self.client).await?, &shape, types, shown).await });
            self.session.during(SessionCall::Statement { reads: shape.reads }, answer).await
        };
        let outcome = if autocommit && shape.commits_within { outcome.map_err(failed_within) } else { outcome };
        match outcome? {
            WireAnswer::Rows(rows) => Ok(rows),
            WireAnswer::UnreadRows(unread) => {
                let learnt = self.learn(unread.numbers()).await;
                learnt.map_err(|error| if shape.reads { error } else { error.about_the_answer() })?;
                unread.read(&shape, &self.types, sink)
            }
        }
    }
}

/// What commits on its way failed somewhere on it. Where others would have been undone and might be run again, nobody may
/// run it again without a look.
#[cold]
pub(super) fn failed_within(error: Error) -> Error {
    let Some(state) = sqlstate(&error) else { return error };
    if error.kind() == ErrorKind::Connection {
        return error;
    }
    let message = match state {
        "57014" => "the statement was stopped, and what it had committed on its way stays done",
        _ if error.is_transient() => "the statement failed, and what it had committed on its way stays done",
        _ if error.advice().is_none() => return error.hint("what it had committed on its way stays done"),
        _ => return error,
    };
    let failed = Error::new(ErrorKind::OutcomeUnknown, message).during(Phase::Statement).caused_by(error);
    failed.hint("look what is done before doing it again")
}

/// A statement with its parameters in the form in which they are sent.
pub(crate) enum Fitted<'s> {
    Prepared(&'s Prepared, Vec<Parameter<'s>>),
    Text(&'s str, Vec<(Parameter<'s>, Type)>),
}

impl<'s> Fitted<'s> {
    pub(crate) fn new(ready: &'s Ready, values: &'s [Value]) -> Result<Self> {
        Ok(match ready {
            Ready::Prepared(prepared) => Self::Prepared(prepared, fit(prepared, values.iter().map(Value::as_ref))?),
            Ready::Text { sql, .. } => Self::Text(sql, values.iter().map(Parameter::guess).collect()),
        })
    }

    pub(crate) async fn send(self, client: &Client) -> Result<RowStream, tokio_postgres::Error> {
        match self {
            // Not boxed, large as it is: the allocator takes long for so much.
            Self::Prepared(prepared, parameters) => client.query_raw(&prepared.statement, parameters).await,
            Self::Text(sql, parameters) => Box::pin(client.query_typed_raw(sql, parameters)).await,
        }
    }
}

/// The same statement with those columns as text, as PostgreSQL writes it, that are not read otherwise; `None` where it
/// cannot stand in a WITH.
fn with_casts(sql: &str, columns: &[Type]) -> Option<String> {
    let sql = statements(sql, Dialect::Postgres).next().filter(|sql| Shape::of(sql).nests)?;
    let columns = columns.iter().enumerate();
    let (names, casts): (Vec<_>, Vec<_>) = columns
        .map(|(index, ty)| {
            let name = format!("c{index}");
            let cast = if is_readable(ty) { name.clone() } else { format!("CAST({name} AS text)") };
            (name, cast)
        })
        .unzip();
    let (names, casts) = (names.join(", "), casts.join(", "));
    Some(format!("WITH strongroom_rows ({names}) AS ({sql}\n) SELECT {casts} FROM strongroom_rows"))
}

/// Fits values to the types that the server has found.
pub(crate) fn fit<'v>(
    prepared: &Prepared,
    values: impl IntoIterator<Item = ValueRef<'v>>,
) -> Result<Vec<Parameter<'v>>> {
    fitting(prepared, values).collect()
}

fn fitting<'v>(
    prepared: &Prepared,
    values: impl IntoIterator<Item = ValueRef<'v>>,
) -> impl Iterator<Item = Result<Parameter<'v>>> {
    let typed = values.into_iter().zip(&prepared.types);
    typed.enumerate().map(|(index, (value, ty))| prepared.fit(value, base(ty), index + 1))
}

/// Whether the server says that what a statement was prepared for has changed, or that it never heard of it.
fn is_stale(error: &Error) -> bool {
    sqlstate(error) == Some("26000") || is_of_changed_result(error)
}

/// Whether preparing the statement anew may help: also when it does not fit the tables any more, or a text is read for
/// the type that a column had. A statement that failed so has done nothing, unless it commits on its way, and preparing it
/// finds out for certain.
fn may_be_stale(error: &Error) -> bool {
    let state = sqlstate(error).unwrap_or_default();
    is_stale(error) || state.starts_with("42") || matches!(state, "22P02" | "22P03" | "22007" | "22008")
}

#[cold]
fn changed_shape(error: Error) -> Error {
    let message = "a table changed its shape since the statement was prepared";
    Error::new(ErrorKind::Serialization, message).transient().during(Phase::Statement).caused_by(error)
}
