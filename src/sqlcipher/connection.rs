//! The async side of a connection: every call is a numbered job, or runs inline if it is short.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::thread;

use super::bulk::SqlCipherBulk;
use super::copies;
use super::errors::classify;
use super::log::alone::Alone;
use super::opening::abandoned::Connected;
use super::opening::opened::Opened;
use super::running::control::Control;
use super::running::delivery::{ToRows, ToSink};
use super::running::engine::Engine;
use super::running::inline::InlineRights;
use super::running::job::{Shared, StopOnDrop, on_thread, state_of};
use super::running::stream::OpenStream;
use super::running::transaction::Boundary;
use super::running::turns::{TURN, Turns};
use super::statements::Inlined;
use crate::clock;
use crate::connector::{
    Access, Backup, BackupReport, CheckDepth, CheckStep, Connection, Maintained, Maintenance, Outcome, PendingCommit,
    Resource, ResourceState, Scope, Statement, StatementEffort, StatementKind, StatementSummary, TransactionMode,
};
use crate::crypto::exit_gate;
use crate::error::{Error, Phase, Result};
use crate::feed::ChangeFeed;
use crate::row::{Changes, RowSink, Rows};

/// A connection to a SQLite or SQLCipher database.
///
/// Reached through the guards of the pool and the database; [`interact`](SqlCipherConnection::interact) gives all of
/// rusqlite.
pub struct SqlCipherConnection {
    pub(super) shared: Arc<Shared>,
    pub(super) opened: Arc<Opened>,
    pub(super) access: Access,
    pub(super) may: InlineRights,
    pub(super) state: ResourceState,
    pub(super) job: u64,
    pub(super) stream: Option<OpenStream>,
    turns: Turns,
}

impl SqlCipherConnection {
    pub(super) async fn open(opened: Arc<Opened>, access: Access) -> Result<Self> {
        let opens = Arc::clone(&opened);
        let work = move || {
            let control = Arc::new(Control::default());
            let engine = opens.connect(access, &control)?;
            let may = opens.inline(access, engine.session.index().is_some(), engine.still.is_some());
            let turns = Turns::new(if access == Access::Write { engine.data_version() } else { None });
            let shared = Arc::new(Shared::new(control, engine));
            if may.keep {
                opens.snapshots().register(&shared);
            }
            Ok((shared, may, turns))
        };
        let is_fit = |(shared, ..): &Connected| !shared.has_moved() && opened.refuse_emptied().is_ok();
        let (shared, may, turns) = opened.abandoned().connect(access, is_fit, work).await?;
        Ok(Self { shared, opened, access, may, state: ResourceState::Idle, job: 0, stream: None, turns })
    }

    /// Runs `work` on a thread that may block. Dropping the future stops it.
    pub(super) async fn job<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Engine) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.opened.refuse_child()?;
        self.end_stream().await;
        self.refuse_unsynced()?;
        let (job, guard) = self.next_job();
        let shared = Arc::clone(&self.shared);
        let done = on_thread(move || shared.work(job, work)).await?;
        guard.disarm();
        self.state = done.state;
        if self.access == Access::Write {
            self.turns.worked();
            let frames = self.shared.try_lock().map_or(0, |engine| engine.frames_to_copy());
            self.opened.look_after_log(frames);
        }
        done.outcome
    }

    /// Before a write: leaves the lock to another process for a while, if that is its turn. Nothing has begun yet.
    pub(super) async fn take_turns(&mut self) {
        let Self { access: Access::Write, state: ResourceState::Idle, turns, shared, .. } = self else { return };
        if turns.is_over(|| shared.try_lock()?.data_version()) && clock::check().is_ok() {
            Box::pin(clock::sleep(TURN)).await;
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
            let errors = results.iter_mut().filter_map(|result| result.as_mut().err());
            let mut spoiled = false;
            for error in errors {
                spoiled |= engine.complete_error(error);
            }
            Some((results, spoiled))
        });
        results.unwrap_or_else(|_panic| Some(group.iter().map(|_| Err(Error::panicked("engine"))).collect()))
    }

    /// Does short work on this task, if nobody else is at it. The work says whether it spoiled the connection.
    pub(super) fn here<T>(
        &mut self,
        work: impl FnOnce(&mut Engine, &Control) -> Option<(T, bool)>,
    ) -> thread::Result<Option<T>> {
        if self.stream.is_some() || self.opened.refuse_child().is_err() || self.refuse_unsynced().is_err() {
            return Ok(None);
        }
        let _pass = exit_gate::enter();
        let Some(mut engine) = self.shared.try_lock() else { return Ok(None) };
        engine.begin_work();
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut engine, &self.shared.control)));
        let spoiled = done.as_ref().map_or(true, |done| done.as_ref().is_some_and(|(_, spoiled)| *spoiled));
        self.state = if engine.stiffen().is_err() || spoiled { ResourceState::Broken } else { state_of(&engine) };
        let (keeps, frames, told) = (engine.keeps_snapshot(), engine.frames_to_copy(), engine.tell());
        let news = engine.take_news();
        // What follows may start a thread, or wake somebody.
        drop(engine);
        if let Some(feed) = told {
            feed.wake();
        }
        if let Some(news) = news {
            news.tell();
        }
        if keeps {
            self.opened.snapshots().sweep();
        } else if self.access == Access::Write {
            self.opened.look_after_log(frames);
        }
        Ok(done?.map(|(outcome, _)| outcome))
    }

    /// What a job takes along to have the file to itself, where that matters.
    pub(super) fn alone(&self) -> Alone {
        Alone::new(&self.opened, self.access)
    }

    /// Numbers a job. Until it is done, nobody can say what state the connection is in.
    fn next_job(&mut self) -> (u64, StopOnDrop) {
        self.job += 1;
        self.state = ResourceState::Unknown;
        (self.job, StopOnDrop::new(&self.shared.control, self.job))
    }

    pub(super) async fn end_stream(&mut self) {
        // The stream leaves its place only once it has ended, so that dropping this future loses nothing.
        if let Some(stream) = &mut self.stream {
            self.state = ResourceState::Unknown;
            self.state = stream.end().await;
            self.stream = None;
        }
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
        engine.classify(sql)
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
        let count = group.len();
        let results = self.job(move |engine| Ok(engine.run_group(&group))).await;
        results.unwrap_or_else(|error| (0..count).map(|_| Err(error.clone())).collect())
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

impl Drop for SqlCipherConnection {
    fn drop(&mut self) {
        if self.opened.refuse_child().is_err() {
            // Closing it would disturb the parent, so the child never does.
            std::mem::forget((Arc::clone(&self.shared), Arc::clone(&self.opened), self.stream.take()));
        }
    }
}

impl fmt::Debug for SqlCipherConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlCipherConnection")
            .field("access", &self.access)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
