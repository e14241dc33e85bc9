//! An engine that keeps a set of numbers in memory and waits at every step, so that calls meet and are dropped anywhere.
//!
//! `put N` adds a number, `get` counts them, `begin` is a statement that may not run. It knows what a lock is: two who
//! write at once on an engine with one writer are noted as a collision, which nobody above may ever cause.
#![allow(dead_code, unreachable_pub, reason = "shared by tests that each use a part of it")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strongroom::engine::{
    Access, BulkInsert, Canceller, Changes, Dialect, Params, Resource, ResourceState, RowsBuilder, Statement,
    StatementKind, TransactionMode,
};
use strongroom::values::ParamSets;
use strongroom::{Capabilities, Connection, Connector, Error, ErrorKind, Reason, Result, Rows, Value};

/// What tests see of the store.
pub struct World {
    capabilities: Capabilities,
    random: Mutex<fastrand::Rng>,
    /// How often each number was committed.
    committed: Mutex<BTreeMap<i64, u32>>,
    pub opened: AtomicU64,
    pub closed: AtomicU64,
    pub dropped: AtomicU64,
    writing: AtomicBool,
    pub collisions: AtomicU64,
    /// No step waits any more.
    pub hurry: AtomicBool,
}

impl World {
    pub fn new(seed: u64, capabilities: Capabilities) -> Arc<Self> {
        Arc::new(Self {
            capabilities,
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            committed: Mutex::default(),
            opened: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            writing: AtomicBool::new(false),
            collisions: AtomicU64::new(0),
            hurry: AtomicBool::new(false),
        })
    }

    pub fn capabilities(single_writer: bool, concurrent_readers: bool, group_commit: bool) -> Capabilities {
        let mut capabilities = Capabilities::new("store", Dialect::Sqlite);
        capabilities.single_writer = single_writer;
        capabilities.concurrent_readers = concurrent_readers;
        capabilities.group_commit = group_commit;
        capabilities
    }

    pub fn times(&self, number: i64) -> u32 {
        self.committed.lock().unwrap().get(&number).copied().unwrap_or_default()
    }

    pub fn size(&self) -> usize {
        self.committed.lock().unwrap().len()
    }

    pub fn live(&self) -> u64 {
        self.opened.load(SeqCst) - self.dropped.load(SeqCst)
    }

    fn commit(&self, numbers: impl IntoIterator<Item = i64>) {
        let mut committed = self.committed.lock().unwrap();
        for number in numbers {
            *committed.entry(number).or_default() += 1;
        }
    }

    /// Waits not at all, for a turn, or for a while.
    async fn step(&self) {
        if self.hurry.load(SeqCst) {
            return;
        }
        let (kind, time) = {
            let mut random = self.random.lock().unwrap();
            (random.u8(0..4), random.u64(1..40))
        };
        match kind {
            0 => {}
            1 | 2 => tokio::task::yield_now().await,
            _ => tokio::time::sleep(Duration::from_millis(time)).await,
        }
    }
}

#[derive(Clone)]
pub struct Store(pub Arc<World>);

impl Connector for Store {
    type Connection = Stored;

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities.clone()
    }

    async fn connect(&self, _: Access) -> Result<Stored> {
        self.0.step().await;
        self.0.opened.fetch_add(1, SeqCst);
        let world = Arc::clone(&self.0);
        let (pending, marks) = (Vec::new(), Vec::new());
        let stored = Stored { world, inside: false, known: true, pending, marks, locks: false, left: 0, native: () };
        self.0.step().await;
        Ok(stored)
    }
}

pub struct Stored {
    world: Arc<World>,
    /// A transaction is open.
    inside: bool,
    /// No call is on its way.
    known: bool,
    /// What the open transaction has added, and where its savepoints begin.
    pending: Vec<i64>,
    marks: Vec<usize>,
    locks: bool,
    /// Chunks of the open stream.
    left: u32,
    native: (),
}

impl Stored {
    /// A call begins: nobody knows the state until it is done.
    async fn enter(&mut self) {
        self.left = 0;
        self.known = false;
        self.world.step().await;
    }

    async fn leave(&mut self) {
        self.world.step().await;
        self.known = true;
    }

    fn lock(&mut self) {
        if self.world.capabilities.single_writer && !self.locks {
            self.locks = true;
            if self.world.writing.swap(true, SeqCst) {
                self.world.collisions.fetch_add(1, SeqCst);
            }
        }
    }

    fn unlock(&mut self) {
        if std::mem::take(&mut self.locks) {
            self.world.writing.store(false, SeqCst);
        }
    }

    async fn put(&mut self, numbers: Vec<i64>) {
        self.lock();
        self.world.step().await;
        if self.inside {
            self.pending.extend(numbers);
        } else {
            self.world.commit(numbers);
            self.unlock();
        }
    }

    fn roll_back(&mut self) {
        self.inside = false;
        self.pending.clear();
        self.marks.clear();
        self.unlock();
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.unlock();
        self.world.dropped.fetch_add(1, SeqCst);
    }
}

fn number(sql: &str) -> Result<Option<i64>> {
    match sql.split_once(' ') {
        Some(("put", number)) => Ok(number.parse().ok()),
        None if sql == "get" => Ok(None),
        _ => Err(Error::new(ErrorKind::Query, "the store does not understand this").because(Reason::Syntax)),
    }
}

impl Resource for Stored {
    fn state(&self) -> ResourceState {
        match (self.known && self.left == 0, self.inside) {
            (false, _) => ResourceState::Unknown,
            (true, true) => ResourceState::InTransaction,
            (true, false) => ResourceState::Idle,
        }
    }

    fn canceller(&self) -> Canceller {
        Canceller::none()
    }

    async fn ping(&mut self) -> Result<()> {
        self.enter().await;
        self.leave().await;
        Ok(())
    }

    async fn reset(&mut self) -> Result<()> {
        self.enter().await;
        self.roll_back();
        self.leave().await;
        Ok(())
    }

    async fn close(mut self) -> Result<()> {
        self.enter().await;
        self.world.closed.fetch_add(1, SeqCst);
        Ok(())
    }
}

impl Connection for Stored {
    type Native = ();
    type Bulk<'c> = StoredBulk<'c>;

    fn classify(&mut self, sql: &str) -> Result<StatementKind> {
        Ok(match number(sql) {
            _ if sql == "begin" => StatementKind::Control,
            Ok(None) => StatementKind::Read,
            _ => StatementKind::Write,
        })
    }

    async fn run(&mut self, statement: Statement) -> Result<Rows> {
        self.enter().await;
        let outcome = match number(&statement.sql) {
            Ok(Some(number)) => {
                self.put(vec![number]).await;
                Ok(Rows::changed(Changes::new(1, None)))
            }
            Ok(None) => {
                let mut rows = RowsBuilder::new(["size"]);
                rows.push_row(&[Value::Integer(i64::try_from(self.world.size()).unwrap())]);
                Ok(rows.finish())
            }
            Err(error) => Err(error),
        };
        self.leave().await;
        outcome
    }

    async fn bulk(&mut self, _: Arc<str>) -> Result<StoredBulk<'_>> {
        Ok(StoredBulk(self))
    }

    async fn run_script(&mut self, sql: Arc<str>) -> Result<()> {
        for sql in sql.split(';') {
            self.run(Statement::new(sql.trim(), ())?).await?;
        }
        Ok(())
    }

    async fn run_stream(&mut self, _: Statement, _: usize) -> Result<()> {
        self.enter().await;
        self.leave().await;
        self.left = 3;
        Ok(())
    }

    async fn next_chunk(&mut self) -> Result<Option<Rows>> {
        self.world.step().await;
        self.left = self.left.saturating_sub(1);
        let mut rows = RowsBuilder::new(["size"]);
        rows.push_row(&[Value::Integer(7)]);
        Ok((self.left > 0).then(|| rows.finish()))
    }

    async fn begin(&mut self, mode: TransactionMode) -> Result<()> {
        assert_eq!(self.state(), ResourceState::Idle, "begun on a connection that was lent unfinished");
        self.enter().await;
        if mode.access == Access::Write {
            self.lock();
        }
        self.inside = true;
        self.leave().await;
        Ok(())
    }

    async fn commit(&mut self) -> Result<()> {
        self.enter().await;
        let pending = std::mem::take(&mut self.pending);
        self.world.commit(pending);
        self.roll_back();
        self.leave().await;
        Ok(())
    }

    async fn rollback(&mut self) -> Result<()> {
        self.reset().await
    }

    async fn savepoint(&mut self, _: u32) -> Result<()> {
        self.enter().await;
        self.marks.push(self.pending.len());
        self.leave().await;
        Ok(())
    }

    async fn release(&mut self, depth: u32) -> Result<()> {
        self.enter().await;
        self.marks.truncate(depth as usize - 1);
        self.leave().await;
        Ok(())
    }

    async fn rollback_to(&mut self, depth: u32) -> Result<()> {
        self.enter().await;
        // Unless the call that set it never came to that.
        if let Some(mark) = self.marks.get(depth as usize - 1).copied() {
            self.pending.truncate(mark);
            self.marks.truncate(depth as usize - 1);
        }
        self.leave().await;
        Ok(())
    }

    async fn table_exists(&mut self, _: &str) -> Result<bool> {
        self.enter().await;
        self.leave().await;
        Ok(true)
    }

    fn native(&mut self) -> &mut () {
        &mut self.native
    }
}

pub struct StoredBulk<'c>(&'c mut Stored);

impl BulkInsert for StoredBulk<'_> {
    async fn add(&mut self, sets: ParamSets) -> Result<Option<Changes>> {
        self.0.enter().await;
        let mut numbers = Vec::new();
        for set in sets.iter() {
            if let Params::Positional(values) = set {
                numbers.extend(values.iter().filter_map(|value| match value {
                    Value::Integer(number) => Some(*number),
                    _ => None,
                }));
            }
        }
        let changes = Changes::new(numbers.len() as u64, None);
        self.0.put(numbers).await;
        self.0.leave().await;
        Ok(Some(changes))
    }

    async fn end(self) -> Result<Changes> {
        Ok(Changes::default())
    }
}
