//! The suite for connectors finds what it is there to find: each test runs it against a connector that breaks one
//! clause, and wants that clause named.
#![cfg(all(feature = "testing", feature = "sqlite"))]

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use futures_util::FutureExt;
use strongroom::engine::{
    Access, BulkInsert, Cancel, Canceller, Changes, Outcome, Params, Placeholders, Resource, ResourceState,
    RowsBuilder, Scope, Statement, StatementKind, TransactionMode,
};
use strongroom::sqlcipher::{SqlCipherBulk, SqlCipherConnection};
use strongroom::testing::conformance;
use strongroom::values::ParamSets;
use strongroom::{
    Capabilities, Connection, Connector, Error, ErrorKind, Result, Row, Rows, SqlCipherConnector, Value, rusqlite,
};

#[derive(Clone, Copy, PartialEq)]
enum Lie {
    AlwaysIdle,
    BindsByAppearance,
    IgnoresCounts,
    CommitForgets,
    RollbackKeeps,
    ResetDoesNothing,
    ResetForgetsStreams,
    ResetTrustsItsFlag,
    GroupStopsAtFailure,
    ChunksTooLarge,
    StreamHidesFailure,
    StreamSkipsRows,
    EveryTableExists,
    MergesColumns,
    HidesConstraints,
    EverythingIsTransient,
    RunsScripts,
    EmptyIsNull,
    RoundsFloats,
    CutsAtNul,
    StoresNanAsNull,
    CancelHitsNext,
    EverythingReads,
    ChangesNothing,
    LeavesHalf,
    CloseCommits,
    NestsBegin,
    SavepointForgets,
    ManyHidesFailure,
    ManyForgetsLater,
    RunsAnywhere,
    GroupControls,
    ScriptHidesFailure,
    ShowsValues,
}

struct Liar {
    inner: SqlCipherConnector,
    lie: Lie,
}

struct LiarConnection {
    inner: SqlCipherConnection,
    lie: Lie,
    hit: Arc<AtomicBool>,
    /// Whether a transaction or a stream was opened, as far as calls that came to their end go.
    flag: bool,
}

struct LateCancel(Canceller, Arc<AtomicBool>);

impl Cancel for LateCancel {
    fn cancel(&self) {
        self.0.cancel();
        self.1.store(true, SeqCst);
    }
}

impl Connector for Liar {
    type Connection = LiarConnection;

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn connect(&self, access: Access) -> Result<LiarConnection> {
        let inner = self.inner.connect(access).await?;
        Ok(LiarConnection { inner, lie: self.lie, hit: Arc::default(), flag: false })
    }
}

impl LiarConnection {
    /// What the lie makes of a statement.
    fn twist(&self, statement: Statement) -> Statement {
        let Statement { sql, params, .. } = statement;
        let Params::Positional(mut values) = params else { return rebuilt(&sql, params) };
        match self.lie {
            Lie::BindsByAppearance if sql.find("$2") < sql.find("$1") => values.reverse(),
            Lie::IgnoresCounts => {
                let count = Placeholders::scan(&sql, strongroom::engine::Dialect::Sqlite)
                    .map_or(values.len(), |found| found.count());
                values.resize(count, Value::Null);
            }
            Lie::EmptyIsNull => replace(&mut values, |value| *value == Value::Text(String::new()), || Value::Null),
            Lie::StoresNanAsNull => {
                replace(&mut values, |value| matches!(value, Value::Real(real) if real.is_nan()), || Value::Null);
            }
            _ => {}
        }
        for value in &mut values {
            match value {
                Value::Text(text) if self.lie == Lie::CutsAtNul => text.truncate(text.find('\0').unwrap_or(text.len())),
                #[allow(clippy::cast_possible_truncation, reason = "the lie")]
                Value::Real(real) if self.lie == Lie::RoundsFloats => *real = f64::from(*real as f32),
                _ => {}
            }
        }
        rebuilt(&sql, Params::Positional(values))
    }

    fn tell(&self, error: Error, statement: &Statement) -> Error {
        match self.lie {
            Lie::HidesConstraints if error.kind() == ErrorKind::Constraint => {
                Error::new(ErrorKind::Query, error.to_string())
            }
            Lie::EverythingIsTransient => error.transient(),
            Lie::ShowsValues => {
                let Params::Positional(values) = &statement.params else { return error };
                error.context(format!("{values:?}"))
            }
            _ => error,
        }
    }
}

fn rebuilt(sql: &Arc<str>, params: Params) -> Statement {
    Statement::new(Arc::clone(sql), params).unwrap()
}

fn replace(values: &mut [Value], which: impl Fn(&Value) -> bool, with: impl Fn() -> Value) {
    values.iter_mut().filter(|value| which(value)).for_each(|value| *value = with());
}

/// One column for each name.
fn merged(rows: &Rows) -> Rows {
    let columns = rows.columns();
    let first = |(index, name): &(usize, &Arc<str>)| columns.iter().position(|other| other == *name) == Some(*index);
    let kept: Vec<_> = columns.iter().enumerate().filter(first).map(|(index, _)| index).collect();
    let mut builder = RowsBuilder::new(kept.iter().map(|index| Arc::clone(&columns[*index])));
    let cells = |row: Row| kept.iter().map(move |index| row.get::<Value>(*index).unwrap()).collect::<Vec<_>>();
    rows.iter().for_each(|row| builder.push_row(&cells(row)));
    builder.changes(rows.changes());
    builder.finish()
}

impl Resource for LiarConnection {
    fn state(&self) -> ResourceState {
        if self.lie == Lie::AlwaysIdle { ResourceState::Idle } else { self.inner.state() }
    }

    fn canceller(&self) -> Canceller {
        match self.lie {
            Lie::CancelHitsNext => Canceller::new(LateCancel(self.inner.canceller(), Arc::clone(&self.hit))),
            _ => self.inner.canceller(),
        }
    }

    async fn ping(&mut self) -> Result<()> {
        self.inner.ping().await
    }

    async fn reset(&mut self) -> Result<()> {
        match self.lie {
            Lie::ResetDoesNothing => Ok(()),
            Lie::ResetForgetsStreams if self.inner.state() == ResourceState::Unknown => Ok(()),
            Lie::ResetTrustsItsFlag if !self.flag => self.inner.ping().await,
            _ => {
                self.flag = false;
                self.inner.reset().await
            }
        }
    }

    async fn close(mut self) -> Result<()> {
        if self.lie == Lie::CloseCommits && self.state() == ResourceState::InTransaction {
            self.inner.commit().await?;
        }
        self.inner.close().await
    }
}

impl Connection for LiarConnection {
    type Native = rusqlite::Connection;
    type Bulk<'c> = LiarBulk<'c>;

    fn classify(&mut self, sql: &str) -> Result<StatementKind> {
        if self.lie == Lie::EverythingReads { Ok(StatementKind::Read) } else { self.inner.classify(sql) }
    }

    async fn run_in(&mut self, statement: Statement, scope: Scope) -> Result<Outcome> {
        match self.classify(&statement.sql)? {
            kind if !scope.admits(kind) && self.lie != Lie::RunsAnywhere => Ok(Outcome::Refused(kind, statement)),
            _ => self.run(statement).await.map(Outcome::Ran),
        }
    }

    async fn run(&mut self, statement: Statement) -> Result<Rows> {
        if self.hit.swap(false, SeqCst) {
            return Err(Error::new(ErrorKind::Cancelled, "too late"));
        }
        if self.lie == Lie::RunsScripts && statement.sql.contains("; ") {
            self.inner.run_script(statement.sql).await?;
            return Ok(Rows::changed(Changes::default()));
        }
        let twisted = self.twist(statement.clone());
        match self.inner.run(twisted).await {
            Ok(rows) if self.lie == Lie::MergesColumns => Ok(merged(&rows)),
            Ok(rows) if self.lie == Lie::ChangesNothing && rows.columns().is_empty() => {
                Ok(Rows::changed(Changes::default()))
            }
            Ok(rows) => Ok(rows),
            Err(error) => {
                if let (Lie::LeavesHalf, Some((half, _))) = (self.lie, statement.sql.split_once("), ")) {
                    let _ = self.inner.run(rebuilt(&format!("{half})").into(), Params::None)).await;
                }
                Err(self.tell(error, &statement))
            }
        }
    }

    async fn bulk(&mut self, sql: Arc<str>) -> Result<LiarBulk<'_>> {
        Ok(LiarBulk { inner: self.inner.bulk(sql).await?, lie: self.lie, again: false })
    }

    async fn run_script(&mut self, sql: Arc<str>) -> Result<()> {
        let done = self.inner.run_script(sql).await;
        if self.lie == Lie::ScriptHidesFailure { Ok(()) } else { done }
    }

    async fn run_stream(&mut self, statement: Statement, chunk: usize) -> Result<()> {
        let chunk = if self.lie == Lie::ChunksTooLarge { chunk + 1 } else { chunk };
        self.flag = true;
        self.inner.run_stream(statement, chunk).await
    }

    async fn next_chunk(&mut self) -> Result<Option<Rows>> {
        if self.lie == Lie::StreamSkipsRows {
            self.inner.next_chunk().await?;
        }
        let next = self.inner.next_chunk().await;
        if self.lie == Lie::StreamHidesFailure { Ok(next.unwrap_or(None)) } else { next }
    }

    async fn run_group(&mut self, group: Vec<Statement>) -> Vec<Result<Rows>> {
        if self.lie == Lie::GroupControls {
            let mut results = Vec::new();
            for statement in group {
                results.push(self.inner.run(statement).await);
            }
            return results;
        }
        if self.lie != Lie::GroupStopsAtFailure {
            return self.inner.run_group(group).await;
        }
        let mut results = Vec::new();
        for statement in group {
            let failed = results.iter().any(Result::is_err);
            let refusal = || Err(Error::new(ErrorKind::Query, "an earlier one failed"));
            results.push(if failed {
                refusal()
            } else {
                self.inner.run_in(statement, Scope::Write).await.and_then(Outcome::rows)
            });
        }
        results
    }

    async fn begin(&mut self, mode: TransactionMode) -> Result<()> {
        if self.lie == Lie::NestsBegin && self.state() == ResourceState::InTransaction {
            return Ok(());
        }
        self.inner.begin(mode).await?;
        tokio::task::yield_now().await;
        self.flag = true;
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        if self.lie == Lie::CommitForgets { self.inner.rollback().await } else { self.inner.commit().await }
    }

    async fn rollback(&mut self) -> Result<()> {
        let is_open = self.state() == ResourceState::InTransaction;
        if self.lie == Lie::RollbackKeeps && is_open { self.inner.commit().await } else { self.inner.rollback().await }
    }

    async fn savepoint(&mut self, depth: u32) -> Result<()> {
        self.inner.savepoint(depth).await
    }

    async fn release(&mut self, depth: u32) -> Result<()> {
        self.inner.release(depth).await
    }

    async fn rollback_to(&mut self, depth: u32) -> Result<()> {
        if self.lie == Lie::SavepointForgets {
            return self.inner.release(depth).await;
        }
        self.inner.rollback_to(depth).await
    }

    async fn table_exists(&mut self, name: &str) -> Result<bool> {
        let exists = self.inner.table_exists(name).await;
        if self.lie == Lie::EveryTableExists { Ok(true) } else { exists }
    }

    fn native(&mut self) -> &mut rusqlite::Connection {
        self.inner.native()
    }
}

struct LiarBulk<'c> {
    inner: SqlCipherBulk<'c>,
    lie: Lie,
    again: bool,
}

impl BulkInsert for LiarBulk<'_> {
    async fn add(&mut self, sets: ParamSets) -> Result<Option<Changes>> {
        if self.lie == Lie::ManyForgetsLater && std::mem::replace(&mut self.again, true) {
            return Ok(None);
        }
        let done = self.inner.add(sets).await;
        if self.lie == Lie::ManyHidesFailure { Ok(done.unwrap_or_default()) } else { done }
    }

    async fn end(self) -> Result<Changes> {
        self.inner.end().await
    }
}

/// Runs the suite against the lie and gives the sentence it ends with.
async fn sentence(lie: Lie) -> String {
    let directory = tempfile::tempdir().unwrap();
    let make = || Liar { inner: SqlCipherConnector::new(directory.path().join("liar.db")), lie };
    let caught = AssertUnwindSafe(conformance::connector(make)).catch_unwind().await;
    let panic = caught.expect_err("the suite found nothing");
    *panic.downcast::<String>().expect("the suite panics with a sentence")
}

macro_rules! finds {
    ($($name:ident: $lie:ident, $clause:literal;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let sentence = sentence(Lie::$lie).await;
            assert!(sentence.starts_with("the contract is broken: ") && sentence.contains($clause), "{sentence}");
        }
    )*};
}

finds! {
    it_finds_a_state_that_is_not_honest: AlwaysIdle, "knows that it is in a transaction";
    it_finds_binding_by_appearance: BindsByAppearance, "bound by the number in the name";
    it_finds_wrong_counts_that_run: IgnoresCounts, "a wrong number of parameters is refused";
    it_finds_a_commit_that_forgets: CommitForgets, "every set of parameters runs";
    it_finds_a_rollback_that_keeps: RollbackKeeps, "a rollback undoes";
    it_finds_a_reset_that_does_nothing: ResetDoesNothing, "a reset rolls back";
    it_finds_a_reset_that_overlooks_streams: ResetForgetsStreams, "a reset ends it";
    it_finds_a_reset_that_overlooks_a_dropped_begin: ResetTrustsItsFlag, "Begin, dropped after";
    it_finds_a_group_that_stops: GroupStopsAtFailure, "each statement of a group has its own result";
    it_finds_chunks_that_are_too_large: ChunksTooLarge, "at most as many as were asked for";
    it_finds_streams_that_hide_a_failure: StreamHidesFailure, "a stream that fails says so";
    it_finds_streams_that_skip_rows: StreamSkipsRows, "every row once, in order";
    it_finds_tables_that_do_not_exist: EveryTableExists, "table_exists tells tables";
    it_finds_columns_that_were_merged: MergesColumns, "names that repeat";
    it_finds_constraints_that_are_not_classified: HidesConstraints, "classified as Constraint";
    it_finds_permanent_errors_marked_transient: EverythingIsTransient, "a violation is permanent";
    it_finds_several_statements_in_one: RunsScripts, "more than one statement is refused";
    it_finds_empty_text_stored_as_null: EmptyIsNull, "text is stored exactly";
    it_finds_floats_that_were_rounded: RoundsFloats, "64-bit floats are stored exactly";
    it_finds_text_cut_at_a_nul: CutsAtNul, "text with a NUL";
    it_finds_nan_stored_as_null: StoresNanAsNull, "floats that are no numbers";
    it_finds_a_cancel_that_hits_the_next_call: CancelHitsNext, "cancelling while nothing runs has no effect";
    it_finds_writes_classified_as_reads: EverythingReads, "never classified as one that reads";
    it_finds_changes_that_are_not_told: ChangesNothing, "how many rows it changed";
    it_finds_a_failed_statement_that_did_half: LeavesHalf, "a statement that fails has no effect";
    it_finds_a_close_that_commits: CloseCommits, "closing a connection undoes";
    it_finds_a_transaction_inside_another: NestsBegin, "cannot begin inside another";
    it_finds_a_savepoint_that_does_not_undo: SavepointForgets, "rolling back to a savepoint undoes";
    it_finds_many_sets_that_hide_a_failure: ManyHidesFailure, "the first set that fails";
    it_finds_sets_that_are_added_later_and_forgotten: ManyForgetsLater, "sets that are added one after another";
    it_finds_statements_that_run_where_they_may_not: RunsAnywhere, "may not run where it was asked for is given back";
    it_finds_a_group_that_begins_a_transaction: GroupControls, "a group refuses what begins";
    it_finds_scripts_that_hide_a_failure: ScriptHidesFailure, "a script fails with its first failing";
    it_finds_errors_that_show_values: ShowsValues, "never shows the values";
}

/// A suite that only ran in place could not be spawned by a user's test.
#[tokio::test]
async fn the_suite_can_be_spawned() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spawned.db");
    tokio::spawn(conformance::connector(move || SqlCipherConnector::new(&path))).await.unwrap();
}
