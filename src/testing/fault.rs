//! A wrapper that makes any connector fail, hang, panic or dawdle where a test wants it to.

use std::sync::Arc;

use super::faults::{Fault, Faults, Point, failure, lost};
use crate::connector::{
    Access, Backup, BackupReport, BulkInsert, Canceller, Capabilities, CheckDepth, CheckStep, Connection, Connector,
    EngineListener, EngineReadings, Maintained, Maintenance, Outcome, PendingCommit, Rekeying, Resource, ResourceState,
    Scope, Statement, StatementEffort, StatementKind, StatementSummary, TellProgress, TransactionMode,
};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::feed::ChangeFeed;
use crate::key::KeySource;
use crate::params::ParamSets;
use crate::row::{Changes, RowSink, Rows};

/// Wraps a connector; its [`Faults`] decide what goes wrong, and when.
///
/// ```
/// use strongroom::testing::{Fault, FaultyConnector, Point, ScriptedConnector};
/// use strongroom::engine::{Access, Statement};
/// use strongroom::{Connection, Connector, ErrorKind};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// let connector = FaultyConnector::new(ScriptedConnector::new().changes("DELETE FROM t", 1));
/// let faults = connector.faults();
/// faults.at(Point::Run, Fault::Fail(ErrorKind::Busy));
///
/// let mut connection = connector.connect(Access::Write).await?;
/// let delete = Statement::new("DELETE FROM t", ())?;
/// assert!(connection.run(delete.clone()).await.unwrap_err().is_transient());
/// assert_eq!(connection.run(delete).await?.changes().rows_affected, 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct FaultyConnector<C> {
    inner: C,
    faults: Faults,
}

impl<C> FaultyConnector<C> {
    /// Wraps `inner`; nothing goes wrong until its [`faults`](Self::faults) say so.
    pub fn new(inner: C) -> Self {
        Self { inner, faults: Faults::default() }
    }

    /// The plan of what goes wrong.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }
}

impl<C: Connector> Connector for FaultyConnector<C> {
    type Connection = FaultyConnection<C::Connection>;

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn connect(&self, access: Access) -> Result<Self::Connection> {
        let is_lost = self.faults.before(Point::Connect, &mut false).await?;
        let inner = self.inner.connect(access).await?;
        if is_lost {
            return Err(lost(Point::Connect).transient());
        }
        Ok(FaultyConnection { inner, faults: self.faults.clone(), broken: false })
    }

    fn usable(&self) -> Result<()> {
        self.inner.usable()
    }

    async fn release(&self) -> Result<()> {
        self.inner.release().await
    }

    async fn rekey(&self, source: Box<dyn KeySource>, progress: Option<TellProgress>) -> Result<Rekeying> {
        self.inner.rekey(source, progress).await
    }

    fn readings(&self) -> EngineReadings {
        self.inner.readings()
    }

    fn observed(&self, listener: EngineListener) {
        self.inner.observed(listener);
    }

    async fn shut_down(&self) {
        self.inner.shut_down().await;
    }
}

/// A connection of a [`FaultyConnector`].
#[derive(Debug)]
pub struct FaultyConnection<K> {
    inner: K,
    faults: Faults,
    broken: bool,
}

/// Makes a call through the faults.
macro_rules! call {
    ($self:ident, $point:ident, $call:expr) => {
        call!($self, &mut $self.broken, $point, $call)
    };
    ($self:ident, $broken:expr, $point:ident, $call:expr) => {{
        let is_lost = $self.faults.before(Point::$point, $broken).await?;
        let answer = $call.await;
        if is_lost {
            *$broken = true;
            return Err(lost(Point::$point));
        }
        answer
    }};
}

#[deny(clippy::missing_trait_methods, reason = "a provided body would go around the wrapped one")]
impl<K: Resource> Resource for FaultyConnection<K> {
    fn state(&self) -> ResourceState {
        if self.broken { ResourceState::Broken } else { self.inner.state() }
    }

    fn canceller(&self) -> Canceller {
        self.inner.canceller()
    }

    async fn ping(&mut self) -> Result<()> {
        call!(self, Ping, self.inner.ping())
    }

    async fn reset(&mut self) -> Result<()> {
        call!(self, Reset, self.inner.reset())
    }

    fn baseline(&mut self) {
        self.inner.baseline();
    }

    async fn close(mut self) -> Result<()> {
        call!(self, Close, self.inner.close())
    }
}

#[deny(clippy::missing_trait_methods, reason = "a provided body would go around the wrapped one")]
impl<K: Connection> Connection for FaultyConnection<K> {
    type Native = K::Native;
    type Bulk<'c> = FaultyBulk<'c, K>;

    fn classify(&mut self, sql: &str) -> Result<StatementKind> {
        match self.faults.next(Point::Classify) {
            None | Some(Fault::Slow(_)) => self.inner.classify(sql),
            Some(Fault::Panic) => panic!("injected panic at Classify"),
            Some(Fault::Fail(kind)) => Err(failure(Point::Classify, kind)),
            Some(Fault::Break | Fault::LoseAnswer | Fault::Hang) => {
                self.broken = true;
                Err(failure(Point::Classify, ErrorKind::Connection).because(Reason::Broken))
            }
        }
    }

    async fn run(&mut self, statement: Statement) -> Result<Rows> {
        call!(self, Run, self.inner.run(statement))
    }

    async fn run_in(&mut self, statement: Statement, scope: Scope) -> Result<Outcome> {
        call!(self, Run, self.inner.run_in(statement, scope))
    }

    async fn run_into(
        &mut self,
        statement: Statement,
        scope: Scope,
        sink: &mut Box<dyn RowSink>,
    ) -> Result<Outcome<Changes>> {
        call!(self, Run, self.inner.run_into(statement, scope, sink))
    }

    async fn bulk(&mut self, sql: Arc<str>) -> Result<FaultyBulk<'_, K>> {
        let Self { inner, faults, broken } = self;
        Ok(FaultyBulk { inner: inner.bulk(sql).await?, faults, broken })
    }

    async fn run_many(&mut self, sql: Arc<str>, sets: ParamSets) -> Result<Changes> {
        call!(self, RunMany, self.inner.run_many(sql, sets))
    }

    async fn run_script(&mut self, sql: Arc<str>) -> Result<()> {
        call!(self, RunScript, self.inner.run_script(sql))
    }

    async fn run_stream(&mut self, statement: Statement, chunk: usize) -> Result<()> {
        call!(self, RunStream, self.inner.run_stream(statement, chunk))
    }

    async fn next_chunk(&mut self) -> Result<Option<Rows>> {
        call!(self, NextChunk, self.inner.next_chunk())
    }

    /// A fault hits the whole group: every statement gets the error.
    async fn run_group(&mut self, group: Vec<Statement>) -> Vec<Result<Rows>> {
        let size = group.len();
        let is_lost = match self.faults.before(Point::RunGroup, &mut self.broken).await {
            Ok(is_lost) => is_lost,
            Err(error) => {
                let again = || Err(failure(Point::RunGroup, error.kind()).because(error.reason()));
                return (0..size).map(|_| again()).collect();
            }
        };
        let results = self.inner.run_group(group).await;
        if is_lost {
            self.broken = true;
            let outcome_unknown = || Error::new(ErrorKind::OutcomeUnknown, "injected loss of the answer at RunGroup");
            return (0..size).map(|_| Err(outcome_unknown().because(Reason::Broken))).collect();
        }
        results
    }

    async fn begin(&mut self, mode: TransactionMode) -> Result<()> {
        call!(self, Begin, self.inner.begin(mode))
    }

    async fn commit(&mut self) -> Result<()> {
        call!(self, Commit, self.inner.commit())
    }

    async fn commit_early(&mut self) -> Result<Option<PendingCommit>> {
        call!(self, Commit, self.inner.commit_early())
    }

    async fn rollback(&mut self) -> Result<()> {
        call!(self, Rollback, self.inner.rollback())
    }

    async fn savepoint(&mut self, depth: u32) -> Result<()> {
        call!(self, Savepoint, self.inner.savepoint(depth))
    }

    async fn release(&mut self, depth: u32) -> Result<()> {
        call!(self, Release, self.inner.release(depth))
    }

    async fn rollback_to(&mut self, depth: u32) -> Result<()> {
        call!(self, RollbackTo, self.inner.rollback_to(depth))
    }

    async fn table_exists(&mut self, name: &str) -> Result<bool> {
        call!(self, TableExists, self.inner.table_exists(name))
    }

    async fn check_step(&mut self, depth: CheckDepth, number: usize, limit: usize) -> Result<CheckStep> {
        call!(self, CheckStep, self.inner.check_step(depth, number, limit))
    }

    async fn maintain(&mut self, task: Maintenance) -> Result<Maintained> {
        call!(self, Maintain, self.inner.maintain(task))
    }

    async fn back_up(&mut self, backup: Backup) -> Result<BackupReport> {
        call!(self, BackUp, self.inner.back_up(backup))
    }

    async fn follow(&mut self, feed: &ChangeFeed) -> Result<()> {
        call!(self, Follow, self.inner.follow(feed))
    }

    async fn tables_read(&mut self, statement: &Statement) -> Result<Vec<Arc<str>>> {
        call!(self, TablesRead, self.inner.tables_read(statement))
    }

    async fn install_feed(&mut self, tables: Vec<String>, rows: bool) -> Result<()> {
        call!(self, InstallFeed, self.inner.install_feed(tables, rows))
    }

    async fn remove_feed(&mut self, tables: Vec<String>) -> Result<()> {
        call!(self, RemoveFeed, self.inner.remove_feed(tables))
    }

    fn summary(&mut self, sql: &str) -> Option<StatementSummary> {
        self.inner.summary(sql)
    }

    fn effort(&mut self, sql: &str) -> Option<StatementEffort> {
        self.inner.effort(sql)
    }

    fn look_elsewhere(&mut self, feed: &ChangeFeed) -> Result<bool> {
        self.inner.look_elsewhere(feed)
    }

    fn native(&mut self) -> &mut K::Native {
        self.inner.native()
    }
}

/// A bulk insert of a [`FaultyConnection`].
#[derive(Debug)]
pub struct FaultyBulk<'c, K: Connection> {
    inner: K::Bulk<'c>,
    faults: &'c Faults,
    broken: &'c mut bool,
}

impl<K: Connection> BulkInsert for FaultyBulk<'_, K> {
    async fn add(&mut self, sets: ParamSets) -> Result<Option<Changes>> {
        call!(self, self.broken, RunMany, self.inner.add(sets))
    }

    async fn end(self) -> Result<Changes> {
        call!(self, self.broken, EndMany, self.inner.end())
    }
}
