//! What a program asked a database for, recorded.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;

use crate::error::ErrorKind;
use crate::lock::Lock;
use crate::observer::{CallKind, Event, Observer};

/// An observer that keeps the statements of a test: how many there were, and which ran again and again. On every engine.
///
/// ```
/// use strongroom::AsyncDatabase;
/// use strongroom::testing::StatementRecorder;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// let recorder = StatementRecorder::new();
/// let db = AsyncDatabase::builder(":memory:").observer(recorder.clone()).open().await?;
/// db.execute_script("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)").await?;
///
/// let request = recorder.during(db.fetch_all("SELECT id, name FROM users", ())).await;
/// request.statements.assert_at_most(3);
/// request.statements.assert_none_repeated(1);
/// assert!(request.answer?.is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct StatementRecorder {
    statements: Arc<Lock<Vec<RecordedStatement>>>,
}

/// A statement, or a script, whose call has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordedStatement {
    /// How it was called.
    pub kind: CallKind,
    /// Its text, as the program wrote it.
    pub sql: String,
    /// How many rows it gave.
    pub rows_returned: u64,
    /// How many rows it changed.
    pub rows_affected: u64,
    /// The kind of its error.
    pub error: Option<ErrorKind>,
    /// Where the call was made.
    pub location: &'static Location<'static>,
}

/// Statements in the order in which they ended.
#[derive(Clone, Debug, Default)]
pub struct RecordedStatements(pub Vec<RecordedStatement>);

/// What a piece of a test gave, and the statements that ended while it ran.
#[derive(Debug)]
#[non_exhaustive]
pub struct RecordedBlock<T> {
    /// What it gave.
    pub answer: T,
    /// Its statements, and those that other tasks ran meanwhile.
    pub statements: RecordedStatements,
}

impl StatementRecorder {
    /// One that has seen nothing. Its clones share what they record.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what was recorded so far.
    pub fn take(&self) -> RecordedStatements {
        RecordedStatements(std::mem::take(&mut *self.statements.lock()))
    }

    /// Runs a piece of a test, and gives what ended while it ran. What was recorded before stays, and is given by
    /// [`take`](Self::take).
    pub async fn during<T>(&self, block: impl Future<Output = T>) -> RecordedBlock<T> {
        let before = self.statements.lock().len();
        let answer = block.await;
        let mut all = self.statements.lock();
        let first = before.min(all.len());
        let statements = RecordedStatements(all.split_off(first));
        drop(all);
        RecordedBlock { answer, statements }
    }
}

impl RecordedStatements {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Panics with the statements if there are more than so many.
    ///
    /// # Panics
    /// That is what it is for.
    #[track_caller]
    pub fn assert_at_most(&self, most: usize) {
        assert!(self.len() <= most, "{} statements where at most {most} should be:\n{}", self.len(), self.listed());
    }

    /// Panics if one text ran more than so often: what a loop asks row by row, and could ask at once ("N+1").
    ///
    /// # Panics
    /// That is what it is for.
    #[track_caller]
    pub fn assert_none_repeated(&self, most: usize) {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for statement in &self.0 {
            *times.entry(&statement.sql).or_default() += 1;
        }
        for (sql, times) in times {
            assert!(
                times <= most,
                "a statement ran {times} times, where {most} should do: {sql}\nall:\n{}",
                self.listed()
            );
        }
    }

    fn listed(&self) -> String {
        let lines: Vec<_> = self.0.iter().map(|run| format!("  {} at {}", run.sql, run.location)).collect();
        lines.join("\n")
    }
}

impl Observer for StatementRecorder {
    fn observe(&self, event: &Event<'_>) {
        let Event::CallEnded(call, outcome) = event else { return };
        let Some(sql) = call.sql else { return };
        let statement = RecordedStatement {
            kind: call.kind,
            sql: sql.to_owned(),
            rows_returned: outcome.rows_returned,
            rows_affected: outcome.rows_affected,
            error: outcome.error.map(crate::error::Error::kind),
            location: call.location,
        };
        self.statements.lock().push(statement);
    }
}
