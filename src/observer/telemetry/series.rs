//! What is measured of calls and connections, wherever it goes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::names::{
    CONNECT_FAILURES, COPY_TIME, CREATE_TIME, GROUP_SIZE, Instrument, KEY_TIME, OPERATION_DURATION, OPERATION_WAIT,
    REPEATS, RETURNED_ROWS, USE_TIME, WAIT_TIME,
};
use super::table::GrowingTable;
use crate::connector::{EngineEvent, EngineReadings, StatementSummary};
use crate::error::{Error, ErrorKind};
use crate::lock::Lock;
use crate::observer::{CallKind, CallOutcome, Event, ObservedCall, ObservedPool, Observer, PoolReadings};

/// The name and the value of an attribute.
pub(super) type Attribute = (&'static str, Cow<'static, str>);

/// Carries numbers on.
pub(super) trait Sink: Clone + Send + Sync + 'static {
    /// An instrument with attributes.
    type Series: Send + Sync;

    fn series(&self, instrument: &'static Instrument, attributes: &[Attribute]) -> Self::Series;

    /// Adds a value to a histogram.
    fn record(&self, series: &Self::Series, value: f64);

    /// Adds one to a counter.
    fn increment(&self, series: &Self::Series);
}

/// The pools that are measured, for what is read when somebody collects.
#[derive(Default)]
pub(super) struct Pools(Lock<MeasuredPools>);

#[derive(Default)]
struct MeasuredPools {
    /// With what was read of each last.
    pools: Vec<(ObservedPool, PoolReadings)>,
    /// What those have counted that are gone: a database that is opened again goes on counting, as who reads counters takes one
    /// that falls for a program that was started anew.
    counted: BTreeMap<Vec<Attribute>, PoolReadings>,
}

/// The observer of one pool.
pub(super) struct PoolSeries<S: Sink> {
    sink: S,
    /// Those that are read live as long as one of them is told of what happens.
    _pools: Arc<Pools>,
    /// Of the pool, for its calls.
    attributes: Vec<Attribute>,
    calls: GrowingTable<CallSeries<S>>,
    hasher: RandomState,
    create_time: S::Series,
    wait_time: S::Series,
    use_time: S::Series,
    group_size: S::Series,
    /// Those of pools, for what their engine may never tell.
    pool_attributes: Vec<Attribute>,
    copy_time: OnceLock<S::Series>,
    key_time: OnceLock<S::Series>,
    connect_failures: S::Series,
    repeats: S::Series,
}

/// Calls that are alike.
struct CallSeries<S: Sink> {
    alike: Alike<Arc<str>>,
    duration: S::Series,
    wait: S::Series,
    rows: Option<S::Series>,
}

/// By what calls are told apart. `Text` is owned, or that of a call.
#[derive(Clone, PartialEq, Eq)]
struct Alike<Text> {
    kind: CallKind,
    is_batch: bool,
    operation: Option<&'static str>,
    table: Option<Text>,
    is_from_text: bool,
    error: Option<ErrorKind>,
    code: Option<Text>,
}

/// Of so many sorts of calls of one pool, all is told. Of what comes later neither the table nor the engine's code is, so that
/// a program that makes a table for each of its customers does not make a time series for each.
const MOST: usize = 1000;
const OTHER: &str = "_OTHER";

impl Pools {
    fn add(&self, pool: &ObservedPool) {
        self.0.lock().pools.push((pool.clone(), PoolReadings::default()));
    }

    /// What they do at the moment, by their attributes. Pools of the same names are added up. Those that are closed are empty, and
    /// keep what they have counted.
    pub(super) fn read(&self) -> BTreeMap<Vec<Attribute>, PoolReadings> {
        let pools: Vec<_> = self.0.lock().pools.iter().map(|(pool, _)| pool.clone()).collect();
        let read: Vec<_> = pools.into_iter().map(|pool| (pool.readings(), pool)).collect();
        let mut measured = self.0.lock();
        let MeasuredPools { pools, counted } = &mut *measured;
        for (readings, pool) in &read {
            let Some(at) = pools.iter().position(|(known, _)| known == pool) else { continue };
            if let Some(readings) = readings {
                pools[at].1 = *readings;
                continue;
            }
            let (pool, last) = pools.swap_remove(at);
            let name = of_pool(&pool);
            if counted.len() < MOST || counted.contains_key(&name) {
                add(counted.entry(name).or_default(), &so_far(&last));
            }
        }
        let mut sums = counted.clone();
        drop(measured);
        for (readings, pool) in &read {
            add(sums.entry(of_pool(pool)).or_default(), &readings.unwrap_or_default());
        }
        sums
    }
}

/// What was counted, without what is so at a moment.
fn so_far(readings: &PoolReadings) -> PoolReadings {
    let engine = EngineReadings { database_bytes: None, log_bytes: None, log_frames: None, ..readings.engine };
    PoolReadings { timeouts: readings.timeouts, engine, ..PoolReadings::default() }
}

fn add(ours: &mut PoolReadings, theirs: &PoolReadings) {
    ours.max_connections += theirs.max_connections;
    ours.min_connections += theirs.min_connections;
    ours.idle_connections += theirs.idle_connections;
    ours.active_connections += theirs.active_connections;
    ours.waiting += theirs.waiting;
    ours.timeouts += theirs.timeouts;
    // Of what only one of the two knows, that is kept.
    let add = |ours: &mut Option<u64>, theirs: Option<u64>| {
        *ours = ours.zip(theirs).map(|(ours, theirs)| ours + theirs).or(*ours).or(theirs);
    };
    let (ours, theirs) = (&mut ours.engine, &theirs.engine);
    add(&mut ours.database_bytes, theirs.database_bytes);
    add(&mut ours.log_bytes, theirs.log_bytes);
    add(&mut ours.log_frames, theirs.log_frames);
    add(&mut ours.failed_checkpoints, theirs.failed_checkpoints);
    add(&mut ours.snapshot_hits, theirs.snapshot_hits);
    add(&mut ours.statement_hits, theirs.statement_hits);
    add(&mut ours.statement_misses, theirs.statement_misses);
    add(&mut ours.page_cache_hits, theirs.page_cache_hits);
    add(&mut ours.page_cache_misses, theirs.page_cache_misses);
}

/// What tells a pool from others.
fn of_pool(pool: &ObservedPool) -> Vec<Attribute> {
    let mut attributes = of_calls(pool);
    attributes.push(("db.client.connection.pool.name", Cow::Owned(pool.name().to_owned())));
    attributes
}

/// What the calls of a pool have in common.
fn of_calls(pool: &ObservedPool) -> Vec<Attribute> {
    let namespace = pool.namespace().map(|name| ("db.namespace", Cow::Owned(name.to_owned())));
    [("db.system.name", Cow::Borrowed(pool.system()))].into_iter().chain(namespace).collect()
}

impl<S: Sink> PoolSeries<S> {
    pub(super) fn new(sink: S, pool: &ObservedPool, pools: &Arc<Pools>) -> Self {
        pools.add(pool);
        let of_pool = of_pool(pool);
        let series = |instrument| sink.series(instrument, &of_pool);
        Self {
            _pools: Arc::clone(pools),
            attributes: of_calls(pool),
            calls: GrowingTable::default(),
            hasher: RandomState::default(),
            create_time: series(&CREATE_TIME),
            wait_time: series(&WAIT_TIME),
            use_time: series(&USE_TIME),
            group_size: series(&GROUP_SIZE),
            connect_failures: series(&CONNECT_FAILURES),
            repeats: series(&REPEATS),
            copy_time: OnceLock::new(),
            key_time: OnceLock::new(),
            pool_attributes: of_pool,
            sink,
        }
    }

    fn rare(&self, series: &OnceLock<S::Series>, instrument: &'static Instrument, took: Duration) {
        let series = series.get_or_init(|| self.sink.series(instrument, &self.pool_attributes));
        self.sink.record(series, took.as_secs_f64());
    }

    fn ended(&self, call: &ObservedCall<'_>, outcome: &CallOutcome<'_>) {
        let series = self.of_call(Alike::of(call, outcome));
        self.sink.record(&series.duration, (outcome.waiting + outcome.running).as_secs_f64());
        self.sink.record(&series.wait, outcome.waiting.as_secs_f64());
        if let Some(rows) = &series.rows {
            #[allow(clippy::cast_precision_loss, reason = "a count of rows")]
            self.sink.record(rows, outcome.rows_returned as f64);
        }
    }

    fn of_call(&self, alike: Alike<&str>) -> &CallSeries<S> {
        // These tell nearly all apart, and each call pays for what is hashed.
        let hash = self.hasher.hash_one((alike.kind as u8, alike.table, alike.code));
        match self.calls.find(hash, |series| series.alike.borrowed() == alike) {
            Some(series) => series,
            None if self.calls.len() >= MOST && !alike.is_coarse() => self.of_call(alike.coarse()),
            None => self.add(hash, &alike),
        }
    }

    #[cold]
    fn add(&self, hash: u64, alike: &Alike<&str>) -> &CallSeries<S> {
        let mut attributes = self.attributes.clone();
        alike.describe(&mut attributes);
        let series = |instrument| self.sink.series(instrument, &attributes);
        let series = CallSeries {
            alike: alike.owned(),
            duration: series(&OPERATION_DURATION),
            wait: series(&OPERATION_WAIT),
            rows: alike.gives_rows().then(|| series(&RETURNED_ROWS)),
        };
        self.calls.add(hash, series)
    }
}

impl<S: Sink> Observer for PoolSeries<S> {
    fn observe(&self, event: &Event<'_>) {
        let Self { sink, .. } = self;
        match event {
            // To borrow a connection is no operation: it waits, and that is told of the connection.
            Event::CallEnded(call, outcome) if call.kind != CallKind::Borrow => self.ended(call, outcome),
            Event::ConnectionOpened { took, .. } => sink.record(&self.create_time, took.as_secs_f64()),
            Event::ConnectFailed { .. } => sink.increment(&self.connect_failures),
            Event::ConnectionLent { waited, .. } => sink.record(&self.wait_time, waited.as_secs_f64()),
            Event::ConnectionReturned { used, .. } => sink.record(&self.use_time, used.as_secs_f64()),
            #[allow(clippy::cast_precision_loss, reason = "a count of statements")]
            Event::GroupRan { statements, .. } => sink.record(&self.group_size, *statements as f64),
            Event::TransactionRepeated { .. } => sink.increment(&self.repeats),
            Event::Engine(EngineEvent::LogCopied { took, .. }) => self.rare(&self.copy_time, &COPY_TIME, *took),
            Event::Engine(EngineEvent::KeyAsked { took, .. }) => self.rare(&self.key_time, &KEY_TIME, *took),
            // Timeouts and reads of snapshots are counted where they happen, and read.
            Event::CallBegan(_)
            | Event::CallEnded(..)
            | Event::ConnectionClosed { .. }
            | Event::WaitedInVain { .. }
            | Event::Engine(EngineEvent::SnapshotKept | EngineEvent::SnapshotEnded { .. }) => {}
        }
    }
}

impl<'a> Alike<&'a str> {
    fn of(call: &ObservedCall<'a>, outcome: &CallOutcome<'a>) -> Self {
        Self {
            kind: call.kind,
            is_batch: outcome.sets > 1,
            operation: call.summary.map(|summary| summary.operation),
            table: call.summary.and_then(|summary| summary.table.as_deref()),
            is_from_text: call.summary.is_some_and(StatementSummary::is_from_text),
            error: outcome.error.map(Error::kind),
            code: outcome.error.and_then(Error::code),
        }
    }

    fn is_coarse(&self) -> bool {
        self.table.is_none_or(|table| table == OTHER) && self.code.is_none()
    }

    fn coarse(self) -> Self {
        Self { table: self.table.map(|_| OTHER), code: None, ..self }
    }

    fn gives_rows(&self) -> bool {
        matches!(self.kind, CallKind::Fetch | CallKind::FetchStream) && self.error.is_none()
    }

    fn owned(&self) -> Alike<Arc<str>> {
        let Self { kind, is_batch, operation, is_from_text, error, .. } = *self;
        Alike {
            kind,
            is_batch,
            operation,
            table: self.table.map(Arc::from),
            is_from_text,
            error,
            code: self.code.map(Arc::from),
        }
    }

    /// Adds the attributes of such calls.
    fn describe(&self, attributes: &mut Vec<Attribute>) {
        attributes.push(("strongroom.call", Cow::Borrowed(self.kind.name())));
        if let Some(operation) = self.operation {
            let batch = if self.is_batch { "BATCH " } else { "" };
            let operation = format!("{batch}{operation}");
            let table = self.table.map(|table| format!(" {table}")).unwrap_or_default();
            attributes.push(("db.query.summary", Cow::Owned(format!("{operation}{table}"))));
            // The conventions want these two from the engine, and not out of the text.
            if !self.is_from_text {
                attributes.push(("db.operation.name", Cow::Owned(operation)));
                let table = self.table.map(|table| ("db.collection.name", Cow::Owned(table.to_owned())));
                attributes.extend(table);
            }
        }
        if let Some(error) = self.error {
            attributes.push(("error.type", Cow::Owned(format!("{error:?}"))));
        }
        if let Some(code) = self.code {
            attributes.push(("db.response.status_code", Cow::Owned(code.to_owned())));
        }
    }
}

impl Alike<Arc<str>> {
    fn borrowed(&self) -> Alike<&str> {
        let Self { kind, is_batch, operation, is_from_text, error, .. } = *self;
        let (table, code) = (self.table.as_deref(), self.code.as_deref());
        Alike { kind, is_batch, operation, table, is_from_text, error, code }
    }
}
