//! A networked engine in small: what a user writes to bring an engine of their own, from nothing but the contracts.
//!
//! The client speaks length-prefixed JSON over TCP, one request and one answer at a time, and stops a running call by
//! naming its number on a second connection. A dropped future leaves its request or its answer in the buffers; the next
//! call settles that first.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use serde::{Deserialize, Serialize};
use strongroom::engine::{
    Access, BulkInsert, Cancel, CancelKind, Canceller, Changes, Dialect, Params, Placeholders, Resource, ResourceState,
    RowsBuilder, Statement, StatementKind, TransactionMode,
};
use strongroom::values::ParamSets;
use strongroom::{Capabilities, Connection, Connector, Error, ErrorKind, Reason, Result, Rows, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Serialize, Deserialize)]
pub(crate) enum Request {
    Cancel { session: u64, call: u64 },
    Hello,
    Run(String, Vec<Wire>),
    RunMany(String, Vec<Vec<Wire>>),
    Script(String),
    Stream(String, Vec<Wire>, usize),
    Next,
    Commit,
    Rollback,
    Exists(String),
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Wire {
    Null,
    Integer(i64),
    Real(u64),
    Text(String),
    Blob(Vec<u8>),
}

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) columns: Vec<String>,
    pub(crate) cells: Vec<Wire>,
    pub(crate) changed: u64,
    pub(crate) number: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Failure {
    Unique,
    ForeignKey,
    NotNull,
    Check,
    Cancelled,
    Busy,
    Mistake,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Response {
    pub(crate) outcome: std::result::Result<Answer, (Failure, String)>,
    pub(crate) in_transaction: bool,
}

/// Opens connections to a toy server.
#[derive(Clone)]
pub(crate) struct Toy {
    pub(crate) address: SocketAddr,
}

pub(crate) struct ToyConnection {
    socket: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    sent: u64,
    answered: u64,
    streaming: bool,
    state: ResourceState,
    running: Arc<Running>,
    native: (),
}

/// What a canceller has to know: the number of the call that runs, or 0.
struct Running {
    address: SocketAddr,
    session: u64,
    call: AtomicU64,
}

impl Cancel for Running {
    fn cancel(&self) {
        let (address, session, call) = (self.address, self.session, self.call.load(SeqCst));
        if call > 0 {
            // A thread, because this must not block; if the server is gone, so is the call.
            std::thread::spawn(move || {
                let mut second = std::net::TcpStream::connect(address)?;
                io::Write::write_all(&mut second, &frame(&Request::Cancel { session, call }))
            });
        }
    }
}

pub(crate) fn frame(message: &impl Serialize) -> Vec<u8> {
    let json = serde_json::to_vec(message).unwrap();
    let mut frame = u32::try_from(json.len()).unwrap().to_le_bytes().to_vec();
    frame.extend(json);
    frame
}

impl Connector for Toy {
    type Connection = ToyConnection;

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("toy", Dialect::Sqlite);
        (capabilities.single_writer, capabilities.cancel, capabilities.max_params) = (true, CancelKind::Server, 32_766);
        capabilities
    }

    async fn connect(&self, _: Access) -> Result<ToyConnection> {
        let socket = TcpStream::connect(self.address).await.map_err(|error| broken(error).transient())?;
        socket.set_nodelay(true).map_err(broken)?;
        let running = |session| Arc::new(Running { address: self.address, session, call: AtomicU64::new(0) });
        let (out, input, state) = (Vec::new(), Vec::new(), ResourceState::Idle);
        let (sent, answered, streaming, native) = (0, 0, false, ());
        let mut connection =
            ToyConnection { socket, out, input, sent, answered, streaming, state, running: running(0), native };
        connection.running = running(connection.call(Request::Hello).await?.number);
        Ok(connection)
    }
}

impl ToyConnection {
    async fn call(&mut self, request: Request) -> Result<Answer> {
        self.settle().await?;
        self.send(request);
        self.answer().await
    }

    /// Stops what a dropped future left running, and waits for its answer, which nobody wants.
    async fn settle(&mut self) -> Result<()> {
        self.streaming = false;
        while self.answered < self.sent {
            self.running.cancel();
            let _ = self.answer().await;
            if self.state == ResourceState::Broken {
                return Err(broken("it broke before"));
            }
        }
        Ok(())
    }

    fn send(&mut self, request: Request) {
        self.sent += 1;
        self.running.call.store(self.sent, SeqCst);
        self.out.extend(frame(&request));
    }

    /// CANCEL: both buffers belong to the connection, so a dropped future loses no byte of either direction.
    async fn answer(&mut self) -> Result<Answer> {
        match self.exchange().await {
            Ok(Response { outcome, in_transaction }) => {
                self.answered += 1;
                self.running.call.store(0, SeqCst);
                self.state = if in_transaction { ResourceState::InTransaction } else { ResourceState::Idle };
                outcome.map_err(classify)
            }
            Err(error) => {
                self.state = ResourceState::Broken;
                Err(broken(error))
            }
        }
    }

    async fn exchange(&mut self) -> io::Result<Response> {
        while !self.out.is_empty() {
            let count = self.socket.write(&self.out).await?;
            self.out.drain(..count);
        }
        loop {
            if let Some((head, rest)) = self.input.split_first_chunk::<4>() {
                let length = u32::from_le_bytes(*head) as usize;
                if rest.len() >= length {
                    let response = serde_json::from_slice(&rest[..length])?;
                    self.input.drain(..4 + length);
                    return Ok(response);
                }
            }
            if self.socket.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn broken(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Connection, "the toy server is gone").because(Reason::Broken).caused_by(cause)
}

fn classify((failure, message): (Failure, String)) -> Error {
    let (kind, reason) = match failure {
        Failure::Unique => (ErrorKind::Constraint, Reason::Unique),
        Failure::ForeignKey => (ErrorKind::Constraint, Reason::ForeignKey),
        Failure::NotNull => (ErrorKind::Constraint, Reason::NotNull),
        Failure::Check => (ErrorKind::Constraint, Reason::Check),
        Failure::Cancelled => (ErrorKind::Cancelled, Reason::Unspecified),
        Failure::Busy => return Error::new(ErrorKind::Busy, message).transient(),
        Failure::Mistake => (ErrorKind::Query, Reason::Syntax),
    };
    Error::new(kind, message).because(reason)
}

/// The server knows only `$N`; whatever else was written is rewritten here, where wrong counts are refused, too.
fn arrange(sql: &str, params: Params) -> Result<(String, Vec<Wire>)> {
    let placeholders = Placeholders::scan(sql, Dialect::Sqlite)?;
    let values = placeholders.arrange(params)?.into_iter().map(|value| {
        Ok(match value {
            Value::Bool(value) => Wire::Integer(value.into()),
            Value::Integer(value) => Wire::Integer(value),
            Value::Real(value) if value.is_nan() => {
                return Err(Error::new(ErrorKind::Query, "the toy stores no NaN").because(Reason::Type));
            }
            Value::Real(value) => Wire::Real(value.to_bits()),
            Value::Text(value) => Wire::Text(value),
            Value::Blob(value) => Wire::Blob(value),
            _ => Wire::Null,
        })
    });
    Ok((placeholders.rewrite(sql).into_owned(), values.collect::<Result<_>>()?))
}

fn rows(answer: Answer) -> Rows {
    let mut builder = RowsBuilder::new(answer.columns);
    let cells = answer.cells.into_iter().map(|cell| match cell {
        Wire::Null => Value::Null,
        Wire::Integer(value) => Value::Integer(value),
        Wire::Real(bits) => Value::Real(f64::from_bits(bits)),
        Wire::Text(value) => Value::Text(value),
        Wire::Blob(value) => Value::Blob(value),
    });
    cells.for_each(|value| builder.push(value.as_ref()));
    builder.changes(Changes::new(answer.changed, None));
    builder.finish()
}

impl Resource for ToyConnection {
    fn state(&self) -> ResourceState {
        let is_settled = !self.streaming && self.sent == self.answered;
        if is_settled || self.state == ResourceState::Broken { self.state } else { ResourceState::Unknown }
    }

    fn canceller(&self) -> Canceller {
        Canceller::new(Arc::clone(&self.running))
    }

    async fn ping(&mut self) -> Result<()> {
        self.call(Request::Run("SELECT 1".into(), Vec::new())).await.map(drop)
    }

    async fn reset(&mut self) -> Result<()> {
        self.rollback().await
    }

    async fn close(mut self) -> Result<()> {
        self.settle().await?;
        self.socket.shutdown().await.map_err(broken)?;
        // The server hangs up once it has let go of everything.
        self.socket.read(&mut [0]).await.map(drop).map_err(broken)
    }
}

impl Connection for ToyConnection {
    type Native = ();
    type Bulk<'c> = ToyBulk<'c>;

    fn classify(&mut self, _: &str) -> Result<StatementKind> {
        Ok(StatementKind::Write)
    }

    async fn run(&mut self, statement: Statement) -> Result<Rows> {
        let (sql, values) = arrange(&statement.sql, statement.params)?;
        self.call(Request::Run(sql, values)).await.map(rows)
    }

    async fn bulk(&mut self, sql: Arc<str>) -> Result<ToyBulk<'_>> {
        Ok(ToyBulk { connection: self, sql })
    }

    async fn run_script(&mut self, sql: Arc<str>) -> Result<()> {
        self.call(Request::Script(sql.to_string())).await.map(drop)
    }

    async fn run_stream(&mut self, statement: Statement, chunk: usize) -> Result<()> {
        let (sql, values) = arrange(&statement.sql, statement.params)?;
        self.call(Request::Stream(sql, values, chunk)).await?;
        self.streaming = true;
        Ok(())
    }

    async fn next_chunk(&mut self) -> Result<Option<Rows>> {
        if !self.streaming {
            return Ok(None);
        }
        // If a dropped future has asked already, its answer is this one.
        if self.sent == self.answered {
            self.send(Request::Next);
        }
        let answer = self.answer().await;
        self.streaming = answer.as_ref().is_ok_and(|answer| !answer.cells.is_empty());
        answer.map(|answer| self.streaming.then(|| rows(answer)))
    }

    async fn begin(&mut self, mode: TransactionMode) -> Result<()> {
        let begin = if mode.access == Access::Write { "BEGIN IMMEDIATE" } else { "BEGIN" };
        self.call(Request::Run(begin.into(), Vec::new())).await.map(drop)
    }

    async fn commit(&mut self) -> Result<()> {
        self.call(Request::Commit).await.map(drop)
    }

    async fn rollback(&mut self) -> Result<()> {
        self.call(Request::Rollback).await.map(drop)
    }

    async fn table_exists(&mut self, name: &str) -> Result<bool> {
        Ok(self.call(Request::Exists(name.to_owned())).await?.number > 0)
    }

    fn native(&mut self) -> &mut () {
        &mut self.native
    }
}

#[allow(unreachable_pub, reason = "an associated type of a public trait")]
pub struct ToyBulk<'c> {
    connection: &'c mut ToyConnection,
    sql: Arc<str>,
}

impl BulkInsert for ToyBulk<'_> {
    async fn add(&mut self, sets: ParamSets) -> Result<Option<Changes>> {
        let sets: Vec<_> = sets.iter().map(|params| arrange(&self.sql, params)).collect::<Result<_>>()?;
        let text = sets.first().map_or_else(String::new, |(sql, _)| sql.clone());
        let values = sets.into_iter().map(|(_, values)| values).collect();
        let answer = self.connection.call(Request::RunMany(text, values)).await?;
        Ok(Some(Changes::new(answer.changed, None)))
    }

    async fn end(self) -> Result<Changes> {
        Ok(Changes::default())
    }
}
