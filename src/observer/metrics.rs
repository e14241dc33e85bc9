//! Numbers about what a database does, without any other crate.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::histogram::{Histogram, SharedHistogram};
use super::{CallKind, CallOutcome, Event, Observer};
use crate::connector::EngineEvent;

/// What was measured so far; see `AsyncDatabase::metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// The calls that have ended, by their kind.
    pub calls: BTreeMap<CallKind, CallMetrics>,
    /// What was done with connections.
    pub connections: ConnectionMetrics,
    /// How often statements that waited for the writer were run together.
    pub groups: u64,
    /// How many statements that were.
    pub grouped_statements: u64,
    /// How often a transaction was run again.
    pub transactions_repeated: u64,
    /// How often a reader began a read transaction that stays open for the reads that follow.
    pub snapshots_kept: u64,
    /// How long it took to copy the log into the file, each time, also where that failed.
    pub log_copying: Histogram,
    /// How long key sources took to answer, also where they failed.
    pub key_asking: Histogram,
}

/// Calls of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallMetrics {
    /// How many failed, or were dropped.
    pub failed: u64,
    /// How many rows they gave.
    pub rows_returned: u64,
    /// How many rows they changed.
    pub rows_affected: u64,
    /// How long they waited for a connection or their turn. Its count is that of the calls.
    pub waiting: Histogram,
    /// How long they ran after that.
    pub running: Histogram,
}

/// What was done with connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionMetrics {
    /// Attempts to open one that failed.
    pub failed: u64,
    /// Calls that got none in time.
    pub timeouts: u64,
    /// How many were closed.
    pub closed: u64,
    /// How long it took to open one. Its count is that of the connections.
    pub opening: Histogram,
    /// How long borrowers waited for one. Its count is that of the loans.
    pub waiting: Histogram,
    /// For how long they were lent. Its count is that of the loans that ended.
    pub used: Histogram,
}

impl Metrics {
    /// Adds what was measured elsewhere.
    pub fn merge(&mut self, other: &Self) {
        for (kind, theirs) in &other.calls {
            let ours = self.calls.entry(*kind).or_default();
            ours.failed += theirs.failed;
            ours.rows_returned += theirs.rows_returned;
            ours.rows_affected += theirs.rows_affected;
            ours.waiting.merge(&theirs.waiting);
            ours.running.merge(&theirs.running);
        }
        let (ours, theirs) = (&mut self.connections, &other.connections);
        ours.failed += theirs.failed;
        ours.timeouts += theirs.timeouts;
        ours.closed += theirs.closed;
        ours.opening.merge(&theirs.opening);
        ours.waiting.merge(&theirs.waiting);
        ours.used.merge(&theirs.used);
        self.groups += other.groups;
        self.grouped_statements += other.grouped_statements;
        self.transactions_repeated += other.transactions_repeated;
        self.snapshots_kept += other.snapshots_kept;
        self.log_copying.merge(&other.log_copying);
        self.key_asking.merge(&other.key_asking);
    }
}

/// The observer that keeps [`Metrics`], in 13 KiB and 5 more for each kind of call that is made. Several databases may share
/// one, in an [`Arc`](std::sync::Arc).
// Each number counts by itself, so `Relaxed` does.
#[derive(Debug, Default)]
pub struct MetricsRecorder {
    calls: [OnceLock<CallRecording>; CallKind::ALL.len()],
    failed: AtomicU64,
    timeouts: AtomicU64,
    closed: AtomicU64,
    opening: SharedHistogram,
    waiting: SharedHistogram,
    used: SharedHistogram,
    groups: AtomicU64,
    grouped_statements: AtomicU64,
    transactions_repeated: AtomicU64,
    snapshots_kept: AtomicU64,
    log_copying: SharedHistogram,
    key_asking: SharedHistogram,
}

#[derive(Debug, Default)]
struct CallRecording {
    failed: AtomicU64,
    rows_returned: AtomicU64,
    rows_affected: AtomicU64,
    waiting: SharedHistogram,
    running: SharedHistogram,
}

impl MetricsRecorder {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was measured so far. While others work, the numbers are not all of the same moment.
    pub fn snapshot(&self) -> Metrics {
        let calls = CallKind::ALL.into_iter().zip(&self.calls);
        let calls = calls.filter_map(|(kind, calls)| Some((kind, calls.get()?.snapshot())));
        Metrics {
            calls: calls.collect(),
            connections: ConnectionMetrics {
                failed: self.failed.load(Relaxed),
                timeouts: self.timeouts.load(Relaxed),
                closed: self.closed.load(Relaxed),
                opening: self.opening.snapshot(),
                waiting: self.waiting.snapshot(),
                used: self.used.snapshot(),
            },
            groups: self.groups.load(Relaxed),
            grouped_statements: self.grouped_statements.load(Relaxed),
            transactions_repeated: self.transactions_repeated.load(Relaxed),
            snapshots_kept: self.snapshots_kept.load(Relaxed),
            log_copying: self.log_copying.snapshot(),
            key_asking: self.key_asking.snapshot(),
        }
    }
}

impl Observer for MetricsRecorder {
    fn observe(&self, event: &Event<'_>) {
        match *event {
            Event::CallEnded(call, outcome) => {
                if let Some(calls) = self.calls.get(call.kind as usize) {
                    calls.get_or_init(CallRecording::default).add(&outcome);
                }
            }
            Event::ConnectionOpened { took, .. } => self.opening.record(took),
            Event::ConnectFailed { .. } => add(&self.failed, 1),
            Event::ConnectionLent { waited, .. } => self.waiting.record(waited),
            Event::ConnectionReturned { used, .. } => self.used.record(used),
            Event::ConnectionClosed { .. } => add(&self.closed, 1),
            Event::GroupRan { statements, .. } => {
                add(&self.groups, 1);
                add(&self.grouped_statements, statements as u64);
            }
            Event::TransactionRepeated { .. } => add(&self.transactions_repeated, 1),
            Event::WaitedInVain { .. } => add(&self.timeouts, 1),
            Event::Engine(EngineEvent::SnapshotKept) => add(&self.snapshots_kept, 1),
            Event::Engine(EngineEvent::LogCopied { took, .. }) => self.log_copying.record(*took),
            Event::Engine(EngineEvent::KeyAsked { took, .. }) => self.key_asking.record(*took),
            Event::CallBegan(_) | Event::Engine(EngineEvent::SnapshotEnded { .. }) => {}
        }
    }
}

impl CallRecording {
    fn add(&self, outcome: &CallOutcome<'_>) {
        add(&self.failed, u64::from(outcome.error.is_some()));
        add(&self.rows_returned, outcome.rows_returned);
        add(&self.rows_affected, outcome.rows_affected);
        self.waiting.record(outcome.waiting);
        self.running.record(outcome.running);
    }

    fn snapshot(&self) -> CallMetrics {
        CallMetrics {
            failed: self.failed.load(Relaxed),
            rows_returned: self.rows_returned.load(Relaxed),
            rows_affected: self.rows_affected.load(Relaxed),
            waiting: self.waiting.snapshot(),
            running: self.running.snapshot(),
        }
    }
}

fn add(to: &AtomicU64, count: u64) {
    if count > 0 {
        to.fetch_add(count, Relaxed);
    }
}
