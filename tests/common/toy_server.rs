//! The other side of the toy: a thread for each client, and SQLite to run the statements.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use strongroom::rusqlite::fallible_iterator::FallibleIterator;
use strongroom::rusqlite::{self, Batch, ffi, types::ValueRef};

use super::toy::{Answer, Failure, Request, Response, Toy, Wire, frame};

/// The calls of one session: the number of the one that runs (the greeting is 1), and of the latest that is to stop.
struct Calls {
    running: AtomicU64,
    cancelled: AtomicU64,
}

type Sessions = Arc<Mutex<HashMap<u64, Arc<Calls>>>>;

/// Starts a server on loopback whose data stands in a file of `directory`.
pub(crate) fn start(directory: &Path) -> Toy {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let path = directory.join("toy.db");
    let sessions = Sessions::default();
    std::thread::spawn(move || {
        for (socket, number) in listener.incoming().map_while(io::Result::ok).zip(1..) {
            let (path, sessions) = (path.clone(), Arc::clone(&sessions));
            std::thread::spawn(move || serve(socket, number, path, &sessions));
        }
    });
    Toy { address }
}

struct Session {
    socket: TcpStream,
    calls: Arc<Calls>,
    database: rusqlite::Connection,
}

/// Ends when the client hangs up.
fn serve(mut socket: TcpStream, number: u64, path: PathBuf, sessions: &Sessions) -> io::Result<()> {
    match receive(&mut socket)? {
        Request::Cancel { session, call } => {
            if let Some(calls) = sessions.lock().unwrap().get(&session) {
                calls.cancelled.fetch_max(call, SeqCst);
            }
            return Ok(());
        }
        Request::Hello => {}
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    let calls = Arc::new(Calls { running: AtomicU64::new(1), cancelled: AtomicU64::new(0) });
    sessions.lock().unwrap().insert(number, Arc::clone(&calls));
    let mut session = Session { socket, database: open(&path, &calls).map_err(io::Error::other)?, calls };
    session.respond(Ok(Answer { number, ..Answer::default() }))?;
    let mut held = None;
    while let Some(request) = held.take().map_or_else(|| session.next().ok(), Some) {
        if let Request::Stream(sql, values, chunk) = request {
            held = session.stream(&sql, &values, chunk)?;
        } else {
            let outcome = session.work(request);
            session.respond(outcome)?;
        }
    }
    sessions.lock().unwrap().remove(&number);
    Ok(())
}

fn open(path: &Path, calls: &Arc<Calls>) -> rusqlite::Result<rusqlite::Connection> {
    let mut database = rusqlite::Connection::open(path)?;
    database.execute_batch("PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON")?;
    let calls = Arc::clone(calls);
    database.progress_handler(1000, Some(move || calls.cancelled.load(SeqCst) >= calls.running.load(SeqCst)))?;
    Ok(database)
}

fn receive(socket: &mut TcpStream) -> io::Result<Request> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut json = vec![0; u32::from_le_bytes(length) as usize];
    socket.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

type Outcome = Result<Answer, (Failure, String)>;

impl Session {
    /// The next request, which has the next number.
    fn next(&mut self) -> io::Result<Request> {
        let request = receive(&mut self.socket)?;
        self.calls.running.fetch_add(1, SeqCst);
        Ok(request)
    }

    fn respond(&mut self, outcome: Outcome) -> io::Result<()> {
        let response = Response { outcome, in_transaction: !self.database.is_autocommit() };
        self.socket.write_all(&frame(&response))
    }

    fn work(&mut self, request: Request) -> Outcome {
        match request {
            Request::Run(sql, values) => self.run(&sql, &values),
            Request::RunMany(sql, sets) => sets.iter().try_fold(Answer::default(), |total, values| {
                Ok(Answer { changed: total.changed + self.run(&sql, values)?.changed, ..total })
            }),
            Request::Script(sql) => self.database.execute_batch(&sql).map(|()| Answer::default()).map_err(failure),
            Request::Commit => self.run("COMMIT", &[]).inspect_err(|_| drop(self.run("ROLLBACK", &[]))),
            Request::Rollback if self.database.is_autocommit() => Ok(Answer::default()),
            Request::Rollback => self.run("ROLLBACK", &[]),
            Request::Exists(name) => {
                let sql = "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1";
                let found = self.database.prepare(sql).and_then(|mut statement| statement.exists([name]));
                found.map(|found| Answer { number: found.into(), ..Answer::default() }).map_err(failure)
            }
            // A stream that has ended: nothing follows.
            _ => Ok(Answer::default()),
        }
    }

    fn run(&self, sql: &str, values: &[Wire]) -> Outcome {
        let before = self.database.total_changes();
        let mut statement = prepare(&self.database, sql, values)?;
        let mut answer = Answer { columns: columns(&statement), ..Answer::default() };
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(failure)? {
            push(&mut answer, row)?;
        }
        answer.changed = self.database.total_changes() - before;
        Ok(answer)
    }

    /// Runs a statement a chunk at a time, as the client asks. Gives back the request that ended it.
    fn stream(&mut self, sql: &str, values: &[Wire], chunk: usize) -> io::Result<Option<Request>> {
        let Self { socket, calls, database } = self;
        let mut respond = |outcome| {
            let response = Response { outcome, in_transaction: !database.is_autocommit() };
            socket.write_all(&frame(&response))?;
            let request = receive(socket)?;
            calls.running.fetch_add(1, SeqCst);
            Ok::<_, io::Error>(request)
        };
        let mut statement = match prepare(database, sql, values) {
            Ok(statement) => statement,
            Err(failure) => return respond(Err(failure)).map(Some),
        };
        let columns = columns(&statement);
        let mut rows = statement.raw_query();
        let mut request = respond(Ok(Answer::default()))?;
        while matches!(request, Request::Next) {
            let mut answer = Answer { columns: columns.clone(), ..Answer::default() };
            let mut next = || {
                for _ in 0..chunk {
                    let Some(row) = rows.next().map_err(failure)? else { break };
                    push(&mut answer, row)?;
                }
                Ok(std::mem::take(&mut answer))
            };
            request = respond(next())?;
        }
        Ok(Some(request))
    }
}

/// Prepares the only statement of a text. SQLite numbers `$N` by first appearance, so the name is what counts.
fn prepare<'d>(
    database: &'d rusqlite::Connection,
    sql: &str,
    values: &[Wire],
) -> Result<rusqlite::Statement<'d>, (Failure, String)> {
    let mut batch = Batch::new(database, sql);
    let statement = batch.next().map_err(failure)?;
    let mut statement = statement.ok_or((Failure::Mistake, "there is no statement".to_owned()))?;
    if batch.next().map_err(failure)?.is_some() {
        return Err((Failure::Mistake, "there is more than one statement".to_owned()));
    }
    for index in 1..=statement.parameter_count() {
        let number = statement.parameter_name(index).and_then(|name| name.get(1..)?.parse::<usize>().ok());
        let value = values.get(number.unwrap_or(index) - 1);
        let bound = match *value.unwrap_or(&Wire::Null) {
            Wire::Null => statement.raw_bind_parameter(index, rusqlite::types::Null),
            Wire::Integer(value) => statement.raw_bind_parameter(index, value),
            Wire::Real(bits) => statement.raw_bind_parameter(index, f64::from_bits(bits)),
            Wire::Text(ref value) => statement.raw_bind_parameter(index, value),
            Wire::Blob(ref value) => statement.raw_bind_parameter(index, value),
        };
        bound.map_err(failure)?;
    }
    Ok(statement)
}

fn columns(statement: &rusqlite::Statement<'_>) -> Vec<String> {
    statement.column_names().map(str::to_owned).collect()
}

fn push(answer: &mut Answer, row: &rusqlite::Row<'_>) -> Result<(), (Failure, String)> {
    for index in 0..answer.columns.len() {
        answer.cells.push(match row.get_ref(index).map_err(failure)? {
            ValueRef::Null => Wire::Null,
            ValueRef::Integer(value) => Wire::Integer(value),
            ValueRef::Real(value) => Wire::Real(value.to_bits()),
            ValueRef::Text(text) => Wire::Text(String::from_utf8_lossy(text).into_owned()),
            ValueRef::Blob(bytes) => Wire::Blob(bytes.to_vec()),
        });
    }
    Ok(())
}

fn failure(error: rusqlite::Error) -> (Failure, String) {
    let code = error.sqlite_error().map_or(0, |error| error.extended_code);
    let failure = match (code, code & 0xFF) {
        (ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY, _) => Failure::Unique,
        (ffi::SQLITE_CONSTRAINT_FOREIGNKEY, _) => Failure::ForeignKey,
        (ffi::SQLITE_CONSTRAINT_NOTNULL, _) => Failure::NotNull,
        (ffi::SQLITE_CONSTRAINT_CHECK, _) => Failure::Check,
        (_, ffi::SQLITE_INTERRUPT) => Failure::Cancelled,
        (_, ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED) => Failure::Busy,
        _ => Failure::Mistake,
    };
    let message = match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) | rusqlite::Error::SqlInputError { msg: message, .. } => {
            message
        }
        _ => "the statement failed".to_owned(),
    };
    (failure, message)
}
