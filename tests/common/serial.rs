//! A connector whose calls each end within one poll, whatever threads work on them: so that everything that happens
//! happens in one order, which a seed replays.
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use strongroom::database::BackupReport;
use strongroom::engine::{
    Access, Backup, BulkInsert, Canceller, Changes, CheckDepth, CheckStep, EngineListener, EngineReadings, Maintained,
    Maintenance, Outcome, PendingCommit, Resource, ResourceState, RowSink, Scope, Statement, StatementKind,
    TransactionMode,
};
use strongroom::values::ParamSets;
use strongroom::{Capabilities, Connection, Connector, Result, Rows};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future here and now, without letting anything else run on this thread.
fn now<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}

pub struct Serial<C>(pub C);

impl<C: Connector> Connector for Serial<C> {
    type Connection = SerialConnection<C::Connection>;

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn connect(&self, access: Access) -> Result<Self::Connection> {
        now(self.0.connect(access)).map(SerialConnection)
    }

    fn usable(&self) -> Result<()> {
        self.0.usable()
    }

    async fn release(&self) -> Result<()> {
        now(self.0.release())
    }

    fn readings(&self) -> EngineReadings {
        self.0.readings()
    }

    fn observed(&self, listener: EngineListener) {
        self.0.observed(listener);
    }

    async fn shut_down(&self) {
        now(self.0.shut_down());
    }
}

pub struct SerialConnection<K>(K);

impl<K: Resource> Resource for SerialConnection<K> {
    fn state(&self) -> ResourceState {
        self.0.state()
    }

    fn canceller(&self) -> Canceller {
        self.0.canceller()
    }

    async fn ping(&mut self) -> Result<()> {
        now(self.0.ping())
    }

    async fn reset(&mut self) -> Result<()> {
        now(self.0.reset())
    }

    fn baseline(&mut self) {
        self.0.baseline();
    }

    async fn close(self) -> Result<()> {
        now(self.0.close())
    }
}

impl<K: Connection> Connection for SerialConnection<K> {
    type Native = K::Native;
    type Bulk<'c> = SerialBulk<'c, K>;

    fn classify(&mut self, sql: &str) -> Result<StatementKind> {
        self.0.classify(sql)
    }

    async fn run(&mut self, statement: Statement) -> Result<Rows> {
        now(self.0.run(statement))
    }

    async fn run_in(&mut self, statement: Statement, scope: Scope) -> Result<Outcome> {
        now(self.0.run_in(statement, scope))
    }

    async fn run_into(
        &mut self,
        statement: Statement,
        scope: Scope,
        sink: &mut Box<dyn RowSink>,
    ) -> Result<Outcome<Changes>> {
        now(self.0.run_into(statement, scope, sink))
    }

    async fn bulk(&mut self, sql: Arc<str>) -> Result<SerialBulk<'_, K>> {
        now(self.0.bulk(sql)).map(SerialBulk)
    }

    async fn run_many(&mut self, sql: Arc<str>, sets: ParamSets) -> Result<Changes> {
        now(self.0.run_many(sql, sets))
    }

    async fn run_script(&mut self, sql: Arc<str>) -> Result<()> {
        now(self.0.run_script(sql))
    }

    async fn run_stream(&mut self, statement: Statement, chunk: usize) -> Result<()> {
        now(self.0.run_stream(statement, chunk))
    }

    async fn next_chunk(&mut self) -> Result<Option<Rows>> {
        now(self.0.next_chunk())
    }

    async fn run_group(&mut self, group: Vec<Statement>) -> Vec<Result<Rows>> {
        now(self.0.run_group(group))
    }

    async fn begin(&mut self, mode: TransactionMode) -> Result<()> {
        now(self.0.begin(mode))
    }

    async fn commit(&mut self) -> Result<()> {
        now(self.0.commit())
    }

    async fn commit_early(&mut self) -> Result<Option<PendingCommit>> {
        now(self.0.commit_early())
    }

    async fn rollback(&mut self) -> Result<()> {
        now(self.0.rollback())
    }

    async fn savepoint(&mut self, depth: u32) -> Result<()> {
        now(self.0.savepoint(depth))
    }

    async fn release(&mut self, depth: u32) -> Result<()> {
        now(self.0.release(depth))
    }

    async fn rollback_to(&mut self, depth: u32) -> Result<()> {
        now(self.0.rollback_to(depth))
    }

    async fn table_exists(&mut self, name: &str) -> Result<bool> {
        now(self.0.table_exists(name))
    }

    async fn check_step(&mut self, depth: CheckDepth, number: usize, limit: usize) -> Result<CheckStep> {
        now(self.0.check_step(depth, number, limit))
    }

    async fn maintain(&mut self, task: Maintenance) -> Result<Maintained> {
        now(self.0.maintain(task))
    }

    async fn back_up(&mut self, backup: Backup) -> Result<BackupReport> {
        now(self.0.back_up(backup))
    }

    fn native(&mut self) -> &mut K::Native {
        self.0.native()
    }
}

pub struct SerialBulk<'c, K: Connection + 'c>(K::Bulk<'c>);

impl<K: Connection> BulkInsert for SerialBulk<'_, K> {
    async fn add(&mut self, sets: ParamSets) -> Result<Option<Changes>> {
        now(self.0.add(sets))
    }

    async fn end(self) -> Result<Changes> {
        now(self.0.end())
    }
}
