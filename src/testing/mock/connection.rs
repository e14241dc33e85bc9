//! A mock of connections.

use std::sync::Arc;

use super::{expect_provided, mock_around, provided};
use crate::connector::{
    Backup, BackupReport, BulkInsert, Canceller, CheckDepth, CheckStep, Connection, Maintained, Maintenance, Outcome,
    PendingCommit, Resource, ResourceState, Scope, Statement, StatementEffort, StatementKind, StatementSummary,
    TransactionMode,
};
use crate::error::Result;
use crate::feed::ChangeFeed;
use crate::params::ParamSets;
use crate::row::{Changes, RowSink, Rows};

mockall::mock! {
    /// A mock of [`BulkInsert`](crate::engine::BulkInsert).
    pub Bulk {}

    impl BulkInsert for Bulk {
        fn add(&mut self, sets: ParamSets) -> impl Future<Output = Result<Option<Changes>>> + Send;
        fn end(self) -> impl Future<Output = Result<Changes>> + Send;
    }
}

mockall::mock! {
    /// The expectations of a [`MockConnection`].
    pub Calls {}

    impl Resource for Calls {
        fn state(&self) -> ResourceState;
        fn canceller(&self) -> Canceller;
        fn ping(&mut self) -> impl Future<Output = Result<()>> + Send;
        fn reset(&mut self) -> impl Future<Output = Result<()>> + Send;
        fn baseline(&mut self);
        fn close(self) -> impl Future<Output = Result<()>> + Send;
    }

    impl Connection for Calls {
        type Native = ();
        type Bulk<'c> = MockBulk;
        fn classify(&mut self, sql: &str) -> Result<StatementKind>;
        fn run(&mut self, statement: Statement) -> impl Future<Output = Result<Rows>> + Send;
        fn run_in(&mut self, statement: Statement, scope: Scope) -> impl Future<Output = Result<Outcome>> + Send;
        fn bulk(&mut self, sql: Arc<str>) -> impl Future<Output = Result<MockBulk>> + Send;
        fn run_many(&mut self, sql: Arc<str>, sets: ParamSets) -> impl Future<Output = Result<Changes>> + Send;
        fn run_group(&mut self, group: Vec<Statement>) -> impl Future<Output = Vec<Result<Rows>>> + Send;
        fn run_script(&mut self, sql: Arc<str>) -> impl Future<Output = Result<()>> + Send;
        fn run_stream(&mut self, statement: Statement, chunk: usize) -> impl Future<Output = Result<()>> + Send;
        fn next_chunk(&mut self) -> impl Future<Output = Result<Option<Rows>>> + Send;
        fn begin(&mut self, mode: TransactionMode) -> impl Future<Output = Result<()>> + Send;
        fn commit(&mut self) -> impl Future<Output = Result<()>> + Send;
        fn rollback(&mut self) -> impl Future<Output = Result<()>> + Send;
        fn savepoint(&mut self, depth: u32) -> impl Future<Output = Result<()>> + Send;
        fn release(&mut self, depth: u32) -> impl Future<Output = Result<()>> + Send;
        fn rollback_to(&mut self, depth: u32) -> impl Future<Output = Result<()>> + Send;
        fn table_exists(&mut self, name: &str) -> impl Future<Output = Result<bool>> + Send;
        fn check_step(
            &mut self,
            depth: CheckDepth,
            number: usize,
            limit: usize,
        ) -> impl Future<Output = Result<CheckStep>> + Send;
        fn maintain(&mut self, task: Maintenance) -> impl Future<Output = Result<Maintained>> + Send;
        fn back_up(&mut self, backup: Backup) -> impl Future<Output = Result<BackupReport>> + Send;
        fn run_into(&mut self, statement: Statement, scope: Scope, sink: &mut Box<dyn RowSink>) -> impl Future<Output = Result<Outcome<Changes>>> + Send;
        fn commit_early(&mut self) -> impl Future<Output = Result<Option<PendingCommit>>> + Send;
        fn follow(&mut self, feed: &ChangeFeed) -> impl Future<Output = Result<()>> + Send;
        fn tables_read(&mut self, statement: &Statement) -> impl Future<Output = Result<Vec<Arc<str>>>> + Send;
        fn install_feed(&mut self, tables: Vec<String>, rows: bool) -> impl Future<Output = Result<()>> + Send;
        fn remove_feed(&mut self, tables: Vec<String>) -> impl Future<Output = Result<()>> + Send;
        fn summary(&mut self, sql: &str) -> Option<StatementSummary>;
        fn effort(&mut self, sql: &str) -> Option<StatementEffort>;
        fn look_elsewhere(&mut self, feed: &ChangeFeed) -> Result<bool>;
        fn native(&mut self) -> &mut ();
    }
}

mock_around! {
    /// A mock of [`Resource`](crate::engine::Resource) and [`Connection`](crate::Connection), of every method. A database
    /// calls `run_in` for one-liners, and a pool `baseline` when it has opened one. What shows rows while they come, follows
    /// changes or tells of statements does what the contract provides, until it is expected:
    ///
    /// ```
    /// use strongroom::Connection;
    /// use strongroom::testing::MockConnection;
    ///
    /// let mut connection = MockConnection::new();
    /// assert!(connection.summary("SELECT 1").is_none());
    /// connection.expect_summary().times(1).returning(|_| Some(strongroom::engine::StatementSummary::new("SELECT", None)));
    /// assert!(connection.summary("SELECT 1").is_some());
    /// ```
    MockConnection, ConnectionDefaults, MockCalls
}

expect_provided! {
    MockConnection, __mock_MockCalls_Connection:
    /// Expects a call of [`Connection::run_into`].
    run_into __run_into expect_run_into;
    /// Expects a call of [`Connection::commit_early`].
    commit_early __commit_early expect_commit_early;
    /// Expects a call of [`Connection::follow`].
    follow __follow expect_follow;
    /// Expects a call of [`Connection::tables_read`].
    tables_read __tables_read expect_tables_read;
    /// Expects a call of [`Connection::install_feed`].
    install_feed __install_feed expect_install_feed;
    /// Expects a call of [`Connection::remove_feed`].
    remove_feed __remove_feed expect_remove_feed;
    /// Expects a call of [`Connection::summary`].
    summary __summary expect_summary;
    /// Expects a call of [`Connection::effort`].
    effort __effort expect_effort;
    /// Expects a call of [`Connection::look_elsewhere`].
    look_elsewhere __look_elsewhere expect_look_elsewhere;
}

/// With the provided methods as the contract has them.
#[derive(Default)]
struct ConnectionDefaults(MockCalls);

impl Resource for ConnectionDefaults {
    fn state(&self) -> ResourceState {
        self.0.state()
    }

    fn canceller(&self) -> Canceller {
        self.0.canceller()
    }

    async fn ping(&mut self) -> Result<()> {
        self.0.ping().await
    }

    async fn reset(&mut self) -> Result<()> {
        self.0.reset().await
    }

    fn baseline(&mut self) {
        self.0.baseline();
    }

    async fn close(self) -> Result<()> {
        self.0.close().await
    }
}

impl Connection for ConnectionDefaults {
    type Native = ();
    type Bulk<'c> = MockBulk;

    fn classify(&mut self, sql: &str) -> Result<StatementKind> {
        self.0.classify(sql)
    }

    async fn run(&mut self, statement: Statement) -> Result<Rows> {
        self.0.run(statement).await
    }

    async fn run_in(&mut self, statement: Statement, scope: Scope) -> Result<Outcome> {
        self.0.run_in(statement, scope).await
    }

    async fn bulk(&mut self, sql: Arc<str>) -> Result<MockBulk> {
        self.0.bulk(sql).await
    }

    async fn run_script(&mut self, sql: Arc<str>) -> Result<()> {
        self.0.run_script(sql).await
    }

    async fn run_stream(&mut self, statement: Statement, chunk: usize) -> Result<()> {
        self.0.run_stream(statement, chunk).await
    }

    async fn next_chunk(&mut self) -> Result<Option<Rows>> {
        self.0.next_chunk().await
    }

    async fn begin(&mut self, mode: TransactionMode) -> Result<()> {
        self.0.begin(mode).await
    }

    async fn commit(&mut self) -> Result<()> {
        self.0.commit().await
    }

    async fn table_exists(&mut self, name: &str) -> Result<bool> {
        self.0.table_exists(name).await
    }

    fn native(&mut self) -> &mut () {
        self.0.native()
    }
}

impl Resource for MockConnection {
    fn state(&self) -> ResourceState {
        self.calls.0.state()
    }

    fn canceller(&self) -> Canceller {
        self.calls.0.canceller()
    }

    async fn ping(&mut self) -> Result<()> {
        self.calls.0.ping().await
    }

    async fn reset(&mut self) -> Result<()> {
        self.calls.0.reset().await
    }

    fn baseline(&mut self) {
        self.calls.0.baseline();
    }

    async fn close(self) -> Result<()> {
        self.calls.0.close().await
    }
}

impl Connection for MockConnection {
    type Native = ();
    type Bulk<'c> = MockBulk;

    fn classify(&mut self, sql: &str) -> Result<StatementKind> {
        self.calls.0.classify(sql)
    }

    async fn run(&mut self, statement: Statement) -> Result<Rows> {
        self.calls.0.run(statement).await
    }

    async fn run_in(&mut self, statement: Statement, scope: Scope) -> Result<Outcome> {
        self.calls.0.run_in(statement, scope).await
    }

    async fn bulk(&mut self, sql: Arc<str>) -> Result<MockBulk> {
        self.calls.0.bulk(sql).await
    }

    async fn run_script(&mut self, sql: Arc<str>) -> Result<()> {
        self.calls.0.run_script(sql).await
    }

    async fn run_stream(&mut self, statement: Statement, chunk: usize) -> Result<()> {
        self.calls.0.run_stream(statement, chunk).await
    }

    async fn next_chunk(&mut self) -> Result<Option<Rows>> {
        self.calls.0.next_chunk().await
    }

    async fn begin(&mut self, mode: TransactionMode) -> Result<()> {
        self.calls.0.begin(mode).await
    }

    async fn commit(&mut self) -> Result<()> {
        self.calls.0.commit().await
    }

    async fn table_exists(&mut self, name: &str) -> Result<bool> {
        self.calls.0.table_exists(name).await
    }

    async fn run_many(&mut self, sql: Arc<str>, sets: ParamSets) -> Result<Changes> {
        self.calls.0.run_many(sql, sets).await
    }

    async fn run_group(&mut self, group: Vec<Statement>) -> Vec<Result<Rows>> {
        self.calls.0.run_group(group).await
    }

    async fn rollback(&mut self) -> Result<()> {
        self.calls.0.rollback().await
    }

    async fn savepoint(&mut self, depth: u32) -> Result<()> {
        self.calls.0.savepoint(depth).await
    }

    async fn release(&mut self, depth: u32) -> Result<()> {
        self.calls.0.release(depth).await
    }

    async fn rollback_to(&mut self, depth: u32) -> Result<()> {
        self.calls.0.rollback_to(depth).await
    }

    async fn check_step(&mut self, depth: CheckDepth, number: usize, limit: usize) -> Result<CheckStep> {
        self.calls.0.check_step(depth, number, limit).await
    }

    async fn maintain(&mut self, task: Maintenance) -> Result<Maintained> {
        self.calls.0.maintain(task).await
    }

    async fn back_up(&mut self, backup: Backup) -> Result<BackupReport> {
        self.calls.0.back_up(backup).await
    }

    async fn run_into(
        &mut self,
        statement: Statement,
        scope: Scope,
        sink: &mut Box<dyn RowSink>,
    ) -> Result<Outcome<Changes>> {
        provided!(self, run_into(statement, scope, sink).await)
    }

    async fn commit_early(&mut self) -> Result<Option<PendingCommit>> {
        provided!(self, commit_early().await)
    }

    async fn follow(&mut self, feed: &ChangeFeed) -> Result<()> {
        provided!(self, follow(feed).await)
    }

    async fn tables_read(&mut self, statement: &Statement) -> Result<Vec<Arc<str>>> {
        provided!(self, tables_read(statement).await)
    }

    async fn install_feed(&mut self, tables: Vec<String>, rows: bool) -> Result<()> {
        provided!(self, install_feed(tables, rows).await)
    }

    async fn remove_feed(&mut self, tables: Vec<String>) -> Result<()> {
        provided!(self, remove_feed(tables).await)
    }

    fn summary(&mut self, sql: &str) -> Option<StatementSummary> {
        provided!(self, summary(sql))
    }

    fn effort(&mut self, sql: &str) -> Option<StatementEffort> {
        provided!(self, effort(sql))
    }

    fn look_elsewhere(&mut self, feed: &ChangeFeed) -> Result<bool> {
        provided!(self, look_elsewhere(feed))
    }

    fn native(&mut self) -> &mut () {
        self.calls.0.native()
    }
}
