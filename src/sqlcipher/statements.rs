//! What the contract asks of a connection: statements, scripts, transactions and the rest, each on the caller's task if it
//! is short, or else as a job.

use std::sync::{Arc, PoisonError};
use std::thread;

use super::bulk::SqlCipherBulk;
use super::connection::SqlCipherConnection;
use super::copies;
use super::errors::classify;
use super::running::engine::Engine;
use super::running::inline::InlineRights;
use super::running::stream::OpenStream;
use super::running::transaction::Boundary;
use crate::connector::{
    Backup, BackupReport, CheckDepth, CheckStep, Connection, Maintained, Maintenance, Outcome, PendingCommit,
    ResourceState, Scope, Statement, StatementEffort, StatementKind, StatementSummary, TransactionMode,
};
use crate::crypto::exit_gate;
use crate::error::{Error, Phase, Result};
use crate::feed::ChangeFeed;
use crate::row::{Changes, RowSink, Rows};

/// What becomes of the rows of a statement, here or on another thread.
trait Delivery: Send + 'static {
    type Made: Send + 'static;

    fn run(&mut self, engine: &mut Engine, statement: &Statement) -> Result<Self::Made>;

    /// Moves it out, to be put back later.
    fn take(&mut self) -> Self;
}

/// The rows are collected.
struct ToRows;

impl Delivery for ToRows {
    type Made = Rows;

    fn run(&mut self, engine: &mut Engine, statement: &Statement) -> Result<Rows> {
        engine.run(statement)
    }

    fn take(&mut self) -> Self {
        Self
    }
}

/// The rows are shown to a sink.
struct ToSink(Box<dyn RowSink>);

impl Delivery for ToSink {
    type Made = Changes;

    fn run(&mut self, engine: &mut Engine, statement: &Statement) -> Result<Changes> {
        engine.run_into(statement, self.0.as_mut())
    }

    fn take(&mut self) -> Self {
        Self(std::mem::replace(&mut self.0, Box::new(())))
    }
}

/// What became of a statement that was tried on the caller's task.
enum Inlined<T> {
    Ran(Result<T>),
    /// It may not run here, or cannot be prepared.
    Refused(Result<StatementKind>),
    /// It may, but not on the caller's task.
    Elsewhere,
    /// It was not tried: another job has the engine, a stream is open, or nothing runs here at all.
    NotTried,
}

impl SqlCipherConnection {
    /// Runs a statement if `scope` admits it: on this task if it is short, or else on a thread.
    async fn run_by<Y: Delivery>(
        &mut self,
        statement: Statement,
        scope: Scope,
        delivery: &mut Y,
    ) -> Result<Outcome<Y::Made>> {
        // What runs inline never waits; tokio counts it, so that the other tasks of this thread get their turn.
        tokio::task::consume_budget().await;
        self.take_turns().await;
        let mut inlined = self.inline(&statement, scope, delivery);
        if matches!(inlined, Inlined::NotTried) && scope != Scope::Session {
            // A look at kept snapshots is soon over; a stream that nobody reads is told to stop.
            let kind = self.classify(&statement.sql)?;
            if !scope.admits(kind) {
                return Ok(Outcome::Refused(kind, statement));
            }
            inlined = self.inline(&statement, scope, delivery);
        }
        match inlined {
            Inlined::Ran(outcome) => return outcome.map(Outcome::Ran).map_err(|error| error.during(Phase::Statement)),
            Inlined::Refused(kind) => return Ok(Outcome::Refused(kind?, statement)),
            Inlined::Elsewhere | Inlined::NotTried => {}
        }
        let alone = self.alone();
        let mut taken = delivery.take();
        let work = move |engine: &mut Engine| {
            let _alone = alone.for_statement(engine, &statement.sql)?;
            let made = taken.run(engine, &statement)?;
            Ok((made, taken))
        };
        // Boxed, so that the short way does not carry the state of the long one.
        let (made, taken) = Box::pin(self.job(work)).await.map_err(|error| error.during(Phase::Statement))?;
        *delivery = taken;
        Ok(Outcome::Ran(made))
    }

    /// Runs a short statement on this task, if `scope` admits it.
    fn inline<Y: Delivery>(&mut self, statement: &Statement, scope: Scope, delivery: &mut Y) -> Inlined<Y::Made> {
        if !(self.may.reads || self.may.inside) {
            return Inlined::NotTried;
        }
        let may = InlineRights { keep: self.may.keep && self.opened.snapshots().allowed(), ..self.may_now() };
        let commits = may.in_place && self.state != ResourceState::InTransaction;
        let outcome = self.here_or_in_place(commits, |engine, control| {
            if scope != Scope::Session {
                match engine.classify(&statement.sql) {
                    Ok(kind) if scope.admits(kind) => {}
                    mut refused => {
                        let spoiled = refused.as_mut().is_err_and(|error| engine.complete_error(error));
                        return Some((Inlined::Refused(refused), spoiled));
                    }
                }
            }
            let Some(mut outcome) =
                engine.run_inline(statement, control, may, |engine| delivery.run(engine, statement))
            else {
                return Some((Inlined::Elsewhere, false));
            };
            let spoiled = outcome.as_mut().is_err_and(|error| engine.complete_error(error));
            Some((Inlined::Ran(outcome), spoiled))
        });
        match outcome {
            Ok(outcome) => outcome.unwrap_or(Inlined::NotTried),
            Err(_panic) => Inlined::Ran(Err(Error::panicked("SQL function"))),
        }
    }

    /// Runs short writes of several callers on this task, in one transaction. `None`: they have had no effect.
    fn inline_group(&mut self, group: &[Statement]) -> Option<Vec<Result<Rows>>> {
        if let [statement] = group {
            return match self.inline(statement, Scope::Write, &mut ToRows) {
                Inlined::Ran(outcome) => Some(vec![outcome]),
                Inlined::Refused(_) | Inlined::Elsewhere | Inlined::NotTried => None,
            };
        }
        if !self.may.writes {
            return None;
        }
        let results = self.here(|engine, control| {
            let mut results = engine.run_group_inline(group, control)?;
            let spoiled = engine.complete_errors(&mut results);
            Some((results, spoiled))
        });
        results.unwrap_or_else(|_panic| Some(group.iter().map(|_| Err(Error::panicked("engine"))).collect()))
    }

    /// Begins or ends a transaction or a savepoint: on this task if that is short, else on a thread. A commit may leave a
    /// sync to be waited for.
    pub(super) async fn cross(&mut self, boundary: Boundary) -> Result<Option<PendingCommit>> {
        let may = self.may_now();
        let commits = matches!(boundary, Boundary::Commit);
        let here = self.here_or_in_place(may.in_place && commits, |engine, control| {
            let mut outcome = engine.cross_inline(boundary, control, may)?;
            let spoiled = outcome.as_mut().is_err_and(|error| engine.complete_error(error));
            Some((outcome, spoiled))
        });
        let unsynced = match here {
            Ok(Some(outcome)) => outcome,
            // Boxed, so that the short way does not carry the state of the long one.
            Ok(None) => Box::pin(self.job(move |engine| engine.cross(boundary))).await,
            Err(_panic) => Err(Error::panicked("commit or rollback hook")),
        };
        Ok(unsynced?.map(|log| self.opened.log().syncs().owe(&log)))
    }
}

impl Connection for SqlCipherConnection {
    type Native = rusqlite::Connection;
    type Bulk<'c> = SqlCipherBulk<'c>;

    fn classify(&mut self, sql: &str) -> Result<StatementKind> {
        self.opened.refuse_child()?;
        let _pass = exit_gate::enter();
        // A stream nobody reads holds the engine; told to stop, it lets go.
        if let Some(stream) = &mut self.stream {
            stream.stop();
        }
        let mut engine = self.shared.lock();
        let mut classified = engine.classify(sql);
        let spoiled = classified.as_mut().is_err_and(|error| engine.complete_error(error));
        drop(engine);
        if spoiled {
            self.state = ResourceState::Broken;
        }
        classified
    }

    async fn run(&mut self, statement: Statement) -> Result<Rows> {
        self.run_by(statement, Scope::Session, &mut ToRows).await?.rows()
    }

    async fn run_in(&mut self, statement: Statement, scope: Scope) -> Result<Outcome> {
        self.run_by(statement, scope, &mut ToRows).await
    }

    async fn run_into(
        &mut self,
        statement: Statement,
        scope: Scope,
        sink: &mut Box<dyn RowSink>,
    ) -> Result<Outcome<Changes>> {
        let mut shown = ToSink(Box::new(()));
        std::mem::swap(sink, &mut shown.0);
        let outcome = self.run_by(statement, scope, &mut shown).await;
        *sink = shown.0;
        outcome
    }

    async fn run_group(&mut self, group: Vec<Statement>) -> Vec<Result<Rows>> {
        self.take_turns().await;
        if let Some(results) = self.inline_group(&group) {
            return results;
        }
        let (alone, count) = (self.alone(), group.len());
        let work = move |engine: &mut Engine| {
            // Classified, not prepared: some pragmas act while they are prepared, also those that are refused.
            let mut is_whole = |statement: &Statement| {
                matches!(engine.classify(&statement.sql), Ok(StatementKind::OutsideTransaction))
            };
            let _alone = group.iter().any(&mut is_whole).then(|| alone.always());
            let mut results = engine.run_group(&group);
            let spoiled = engine.complete_errors(&mut results);
            Ok((results, spoiled))
        };
        match self.job(work).await {
            Ok((results, spoiled)) => {
                if spoiled {
                    self.state = ResourceState::Broken;
                }
                results
            }
            Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
        }
    }

    async fn bulk(&mut self, sql: Arc<str>) -> Result<SqlCipherBulk<'_>> {
        Ok(SqlCipherBulk::new(self, sql))
    }

    async fn run_script(&mut self, sql: Arc<str>) -> Result<()> {
        self.take_turns().await;
        let alone = self.alone();
        let work = move |engine: &mut Engine| {
            let _alone = alone.always();
            engine.run_script(&sql)
        };
        self.job(work).await.map_err(|error| error.during(Phase::Statement))
    }

    async fn run_stream(&mut self, statement: Statement, chunk: usize) -> Result<()> {
        self.opened.refuse_child()?;
        self.end_stream().await;
        self.refuse_unsynced()?;
        let (job, guard) = self.next_job();
        self.stream = Some(OpenStream::start(Arc::clone(&self.shared), job, statement, chunk, guard));
        Ok(())
    }

    async fn next_chunk(&mut self) -> Result<Option<Rows>> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        if let Some(rows) = stream.next().await {
            return Ok(Some(rows));
        }
        let outcome = stream.outcome().await;
        self.end_stream().await;
        outcome.map(|()| None).map_err(|error| error.during(Phase::Statement))
    }

    async fn begin(&mut self, mode: TransactionMode) -> Result<()> {
        self.take_turns().await;
        self.cross(Boundary::Begin(mode)).await.map(drop)
    }

    async fn commit(&mut self) -> Result<()> {
        match self.commit_early().await? {
            Some(pending) => pending.wait().await,
            None => Ok(()),
        }
    }

    async fn commit_early(&mut self) -> Result<Option<PendingCommit>> {
        self.cross(Boundary::Commit).await
    }

    async fn rollback(&mut self) -> Result<()> {
        self.cross(Boundary::Rollback).await.map(drop)
    }

    async fn savepoint(&mut self, depth: u32) -> Result<()> {
        self.cross(Boundary::Savepoint(depth)).await.map(drop)
    }

    async fn release(&mut self, depth: u32) -> Result<()> {
        self.cross(Boundary::Release(depth)).await.map(drop)
    }

    async fn rollback_to(&mut self, depth: u32) -> Result<()> {
        self.cross(Boundary::RollbackTo(depth)).await.map(drop)
    }

    async fn table_exists(&mut self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.job(move |engine| engine.table_exists(&name)).await
    }

    async fn check_step(&mut self, depth: CheckDepth, number: usize, limit: usize) -> Result<CheckStep> {
        let step = self.job(move |engine| engine.check_step(depth, number, limit)).await?;
        if !step.problems.is_empty() {
            // It may have read a page that fails its seal, and would never be right again.
            self.state = ResourceState::Altered;
        }
        Ok(step)
    }

    async fn maintain(&mut self, task: Maintenance) -> Result<Maintained> {
        // Two checkpoints at once would wait for each other.
        self.opened.log_is_left_alone().await;
        let (alone, control, patience) = (self.alone(), Arc::clone(&self.shared.control), self.opened.busy_timeout());
        self.job(move |engine| {
            let _alone = alone.always();
            engine.maintain(task, &control, patience)
        })
        .await
    }

    async fn back_up(&mut self, backup: Backup) -> Result<BackupReport> {
        let (opened, control) = (Arc::clone(&self.opened), Arc::clone(&self.shared.control));
        self.job(move |engine| copies::back_up(engine, &opened, &control, backup)).await
    }

    async fn follow(&mut self, feed: &ChangeFeed) -> Result<()> {
        let (feed, others) = (feed.clone(), self.opened.following().begin(feed));
        self.job(move |engine| engine.follow(&feed, &others).map_err(classify)).await
    }

    async fn tables_read(&mut self, statement: &Statement) -> Result<Vec<Arc<str>>> {
        self.opened.refuse_child()?;
        let _pass = exit_gate::enter();
        self.shared.lock().tables_read(&statement.sql)
    }

    fn summary(&mut self, sql: &str) -> Option<StatementSummary> {
        let is_done = self.stream.is_none() && self.state != ResourceState::Unknown;
        // Then nobody has the engine for longer than it takes to end a kept snapshot.
        let mut engine = if is_done { self.shared.lock() } else { self.shared.try_lock()? };
        engine.plans.get(sql)?.summary()
    }

    fn effort(&mut self, sql: &str) -> Option<StatementEffort> {
        let _pass = exit_gate::enter();
        self.shared.try_lock()?.effort(sql)
    }

    fn look_elsewhere(&mut self, feed: &ChangeFeed) -> Result<bool> {
        self.opened.refuse_child()?;
        let _pass = exit_gate::enter();
        Ok(self.opened.following().look(&self.opened, &self.shared, feed))
    }

    /// rusqlite's connection, on this thread: its calls block. Prefer
    /// [`interact`](SqlCipherConnection::interact). If a dropped call is still stopping, this waits for it.
    fn native(&mut self) -> &mut rusqlite::Connection {
        if let Some(mut stream) = self.stream.take() {
            stream.stop();
        }
        self.shared.control.cancel(self.job);
        self.opened.snapshots().forget(&self.shared);
        while Arc::strong_count(&self.shared) > 1 {
            thread::yield_now();
        }
        self.state = ResourceState::Altered;
        let shared = Arc::get_mut(&mut self.shared).expect("jobs have ended, and nobody else looks at the engine");
        shared.engine.get_mut().unwrap_or_else(PoisonError::into_inner).give_away()
    }
}
