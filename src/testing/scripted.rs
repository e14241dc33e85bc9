//! A connector without a database: it answers from a script and keeps a log.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use crate::connector::{
    Access, Canceller, Capabilities, Connection, Connector, OneByOne, Resource, ResourceState, Statement,
    StatementKind, TransactionMode,
};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::lock::{Guard, Lock};
use crate::params::{Dialect, Params, Placeholders};
use crate::row::{Changes, Row, Rows, RowsBuilder};
use crate::value::Value;

/// Answers each statement from a script, in memory, and logs every call: for unit tests of what uses a database.
///
/// Statements are told apart by their text; white space does not count. The number of parameters is checked against the
/// placeholders, as an engine does. A statement without an answer fails, so a test fails that sends something
/// unforeseen. Clones share the script and the log, so keep one beside the database and ask its
/// [`calls`](Self::calls) afterwards. Transactions are tracked, but undo nothing: there is no data.
///
/// ```
/// use strongroom::testing::ScriptedConnector;
/// use strongroom::engine::{Access, Statement};
/// use strongroom::{Connection, Connector, ErrorKind, Value};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// let script = ScriptedConnector::new()
///     .rows("SELECT name FROM users WHERE id = $1", ["name"], [["alice"]])
///     .changes("DELETE FROM users WHERE id = $1", 1)
///     .fails("DROP TABLE users", ErrorKind::Unsupported);
///
/// let mut connection = script.connect(Access::Write).await?;
/// let rows = connection.run(Statement::new("SELECT name FROM users WHERE id = $1", (7,))?).await?;
/// assert_eq!(rows.first().unwrap().get::<String>("name")?, "alice");
///
/// assert_eq!(script.statements(), [("SELECT name FROM users WHERE id = $1".to_string(), vec![Value::Integer(7)])]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ScriptedConnector {
    capabilities: Capabilities,
    shared: Arc<Lock<Script>>,
}

type Scripting = Arc<dyn Fn(&[Value]) -> Result<Rows> + Send + Sync>;

#[derive(Default)]
struct Script {
    answers: HashMap<String, VecDeque<Scripting>>,
    tables: HashSet<String>,
    calls: Vec<Call>,
}

/// One call that a [`ScriptedConnector`] or its connections got.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Call {
    /// A connection was opened.
    Connect(Access),
    /// A statement ran, alone, in a group, as one of many sets, as a script or as a stream. Its values stand in the
    /// order of the placeholders' numbers.
    Run(String, Vec<Value>),
    /// A transaction began.
    Begin(TransactionMode),
    /// A transaction was committed.
    Commit,
    /// A transaction was rolled back.
    Rollback,
    /// A savepoint was set.
    Savepoint(u32),
    /// A savepoint was released.
    Release(u32),
    /// A savepoint was rolled back to.
    RollbackTo(u32),
    /// A connection was asked whether it works.
    Ping,
    /// A connection was closed.
    Close,
}

impl Default for ScriptedConnector {
    fn default() -> Self {
        Self::new()
    }
}

impl ScriptedConnector {
    /// A script without answers.
    pub fn new() -> Self {
        Self { capabilities: Capabilities::new("scripted", Dialect::Sqlite), shared: Arc::default() }
    }

    /// States other capabilities, such as a single writer.
    pub fn capabilities(self, capabilities: Capabilities) -> Self {
        Self { capabilities, ..self }
    }

    /// Answers the statement `sql` by calling `answer` with its values. Several answers for one statement are given
    /// one after another; the last one stays.
    pub fn on(self, sql: &str, answer: impl Fn(&[Value]) -> Result<Rows> + Send + Sync + 'static) -> Self {
        self.lock().answers.entry(words(sql)).or_default().push_back(Arc::new(answer));
        self
    }

    /// Answers the statement `sql` with rows of these columns.
    ///
    /// # Panics
    /// When a row is not as long as the header, or a value does not fit.
    pub fn rows<const N: usize, V: crate::value::IntoValue>(
        self,
        sql: &str,
        columns: [&str; N],
        rows: impl IntoIterator<Item = [V; N]>,
    ) -> Self {
        let mut builder = RowsBuilder::new(columns);
        for value in rows.into_iter().flatten() {
            builder.push(value.into_value().expect("a scripted value fits").as_ref());
        }
        let rows = builder.finish();
        self.on(sql, move |_| Ok(rows.clone()))
    }

    /// Answers the statement `sql` as one that changed so many rows.
    pub fn changes(self, sql: &str, rows_affected: u64) -> Self {
        self.on(sql, move |_| Ok(Rows::changed(Changes::new(rows_affected, None))))
    }

    /// Answers the statement `sql` with an error that is permanent.
    pub fn fails(self, sql: &str, kind: ErrorKind) -> Self {
        self.on(sql, move |_| Err(Error::new(kind, "the script says so")))
    }

    /// Lets a table exist.
    pub fn table(self, name: &str) -> Self {
        self.lock().tables.insert(name.to_owned());
        self
    }

    /// Every call so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// The statements among the calls so far, with their values.
    pub fn statements(&self) -> Vec<(String, Vec<Value>)> {
        let calls = self.calls().into_iter();
        calls.filter_map(|call| if let Call::Run(sql, values) = call { Some((sql, values)) } else { None }).collect()
    }

    fn lock(&self) -> Guard<'_, Script> {
        self.shared.lock()
    }

    fn log(&self, call: Call) {
        self.lock().calls.push(call);
    }

    fn answer(&self, sql: &str, params: Params) -> Result<Rows> {
        let values = Placeholders::scan(sql, self.capabilities.dialect)?.arrange(params)?;
        self.log(Call::Run(sql.to_owned(), values.clone()));
        let answer = {
            let mut script = self.lock();
            let answers = script.answers.get_mut(&words(sql)).ok_or_else(|| unforeseen(sql))?;
            let next = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
            next.ok_or_else(|| unforeseen(sql))?
        };
        answer(&values)
    }
}

/// The text with single spaces.
fn words(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cold]
fn unforeseen(sql: &str) -> Error {
    let error = Error::new(ErrorKind::Query, format!("the script has no answer for: {sql}")).because(Reason::Syntax);
    error.hint("give it one with ScriptedConnector::on, rows, changes or fails")
}

impl fmt::Debug for ScriptedConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let script = self.lock();
        f.debug_struct("ScriptedConnector")
            .field("answers", &script.answers.len())
            .field("calls", &script.calls.len())
            .finish_non_exhaustive()
    }
}

impl Connector for ScriptedConnector {
    type Connection = ScriptedConnection;

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    async fn connect(&self, access: Access) -> Result<ScriptedConnection> {
        self.log(Call::Connect(access));
        Ok(ScriptedConnection {
            connector: self.clone(),
            state: ResourceState::Idle,
            chunks: VecDeque::new(),
            native: (),
        })
    }
}

/// A connection of a [`ScriptedConnector`].
#[derive(Debug)]
pub struct ScriptedConnection {
    connector: ScriptedConnector,
    state: ResourceState,
    chunks: VecDeque<Rows>,
    native: (),
}

impl ScriptedConnection {
    /// Logs a step of a transaction; an open stream is over.
    fn step(&mut self, call: Call, state: ResourceState) {
        self.connector.log(call);
        self.chunks.clear();
        self.state = state;
    }
}

impl Resource for ScriptedConnection {
    fn state(&self) -> ResourceState {
        if self.chunks.is_empty() { self.state } else { ResourceState::Unknown }
    }

    fn canceller(&self) -> Canceller {
        Canceller::none()
    }

    async fn ping(&mut self) -> Result<()> {
        self.connector.log(Call::Ping);
        Ok(())
    }

    async fn reset(&mut self) -> Result<()> {
        self.rollback().await
    }

    async fn close(self) -> Result<()> {
        self.connector.log(Call::Close);
        Ok(())
    }
}

impl Connection for ScriptedConnection {
    type Native = ();
    type Bulk<'c> = OneByOne<'c, Self>;

    /// By its first word, which is enough for a script and for nothing else.
    fn classify(&mut self, sql: &str) -> Result<StatementKind> {
        let word = sql.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        Ok(match word.as_str() {
            "SELECT" | "VALUES" | "WITH" | "EXPLAIN" => StatementKind::Read,
            "BEGIN" | "COMMIT" | "END" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" => StatementKind::Control,
            _ => StatementKind::Write,
        })
    }

    async fn run(&mut self, statement: Statement) -> Result<Rows> {
        self.chunks.clear();
        self.connector.answer(&statement.sql, statement.params)
    }

    async fn bulk(&mut self, sql: Arc<str>) -> Result<OneByOne<'_, Self>> {
        Ok(OneByOne::new(self, sql))
    }

    async fn run_script(&mut self, sql: Arc<str>) -> Result<()> {
        self.chunks.clear();
        self.connector.answer(&sql, Params::None).map(drop)
    }

    async fn run_stream(&mut self, statement: Statement, chunk: usize) -> Result<()> {
        self.chunks.clear();
        let rows = self.connector.answer(&statement.sql, statement.params)?;
        let all: Vec<_> = rows.iter().collect();
        for part in all.chunks(chunk.max(1)) {
            let mut builder = RowsBuilder::new(rows.columns().iter().cloned());
            part.iter().flat_map(Row::iter).for_each(|(_, value)| builder.push(value));
            self.chunks.push_back(builder.finish());
        }
        Ok(())
    }

    async fn next_chunk(&mut self) -> Result<Option<Rows>> {
        Ok(self.chunks.pop_front())
    }

    async fn begin(&mut self, mode: TransactionMode) -> Result<()> {
        self.step(Call::Begin(mode), ResourceState::InTransaction);
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        self.step(Call::Commit, ResourceState::Idle);
        Ok(())
    }

    async fn rollback(&mut self) -> Result<()> {
        self.chunks.clear();
        if self.state != ResourceState::Idle {
            self.step(Call::Rollback, ResourceState::Idle);
        }
        Ok(())
    }

    async fn savepoint(&mut self, depth: u32) -> Result<()> {
        self.step(Call::Savepoint(depth), self.state);
        Ok(())
    }

    async fn release(&mut self, depth: u32) -> Result<()> {
        self.step(Call::Release(depth), self.state);
        Ok(())
    }

    async fn rollback_to(&mut self, depth: u32) -> Result<()> {
        self.step(Call::RollbackTo(depth), self.state);
        Ok(())
    }

    async fn table_exists(&mut self, name: &str) -> Result<bool> {
        self.chunks.clear();
        Ok(self.connector.lock().tables.contains(name))
    }

    fn native(&mut self) -> &mut () {
        &mut self.native
    }
}
