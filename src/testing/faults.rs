//! The plan of what goes wrong.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

#[cfg(doc)]
use crate::connector::{BulkInsert, Connection, Connector, Resource, ResourceState};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::lock::{Guard, Lock};

/// What goes wrong at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The call is not made and fails with this kind; `Busy`, `Serialization`, `Connection` and `Timeout` are
    /// transient.
    Fail(ErrorKind),
    /// The call is not made and fails, and the connection is [`Broken`](ResourceState::Broken) from then on.
    Break,
    /// The call is made, its answer is lost, and the connection is broken: `OutcomeUnknown` for a commit.
    LoseAnswer,
    /// The call is never made, nor answered. [`Connection::classify`], which cannot wait, fails instead.
    Hang,
    /// The call panics.
    Panic,
    /// The call is made after this time. No effect on [`Connection::classify`].
    Slow(Duration),
}

/// Where something can go wrong: one for each call of [`Connector`], [`Resource`] and [`Connection`] that does
/// something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "named like the methods")]
pub enum Point {
    Connect,
    Ping,
    Reset,
    Close,
    Classify,
    /// Also [`Connection::run_in`].
    Run,
    /// Also [`BulkInsert::add`].
    RunMany,
    /// [`BulkInsert::end`].
    EndMany,
    RunScript,
    RunStream,
    NextChunk,
    RunGroup,
    Begin,
    Commit,
    Rollback,
    Savepoint,
    Release,
    RollbackTo,
    TableExists,
    CheckStep,
    /// [`Connection::maintain`].
    Maintain,
    BackUp,
    Follow,
    TablesRead,
    InstallFeed,
    RemoveFeed,
}

/// The plan of a [`FaultyConnector`](super::FaultyConnector); clones share it.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    plan: Arc<Lock<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    calls: u64,
    next: Vec<(Point, Fault)>,
    countdowns: Vec<(u64, Fault)>,
    random: Option<(fastrand::Rng, u32, Vec<Fault>)>,
}

impl Faults {
    /// Lets the next call at `point` go wrong. Several for one point come one after another.
    pub fn at(&self, point: Point, fault: Fault) {
        self.lock().next.push((point, fault));
    }

    /// Lets the `n`-th call from now go wrong, wherever it is; the next one is number 1.
    pub fn nth(&self, n: u64, fault: Fault) {
        let mut plan = self.lock();
        let call = plan.calls + n;
        plan.countdowns.push((call, fault));
    }

    /// Lets one call in `one_in` go wrong with one of `faults`, at random, but the same for the same `seed` and calls.
    pub fn random(&self, seed: u64, one_in: u32, faults: impl IntoIterator<Item = Fault>) {
        let random = (fastrand::Rng::with_seed(seed), one_in, faults.into_iter().collect());
        self.lock().random = Some(random);
    }

    /// Lets nothing go wrong any more.
    pub fn heal(&self) {
        let mut plan = self.lock();
        *plan = Plan { calls: plan.calls, ..Plan::default() };
    }

    /// How many calls there were; with [`nth`](Self::nth), a test can walk through all of them.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    fn lock(&self) -> Guard<'_, Plan> {
        self.plan.lock()
    }

    pub(super) fn next(&self, point: Point) -> Option<Fault> {
        let mut plan = self.lock();
        plan.calls += 1;
        let call = plan.calls;
        if let Some(index) = plan.next.iter().position(|(at, _)| *at == point) {
            return Some(plan.next.remove(index).1);
        }
        if let Some(index) = plan.countdowns.iter().position(|(at, _)| *at == call) {
            return Some(plan.countdowns.remove(index).1);
        }
        let (random, one_in, faults) = plan.random.as_mut()?;
        (random.u32(..(*one_in).max(1)) == 0).then(|| random.choice(faults.iter()).copied()).flatten()
    }

    /// What stands before a call: passes, waits, fails or panics. Says whether the answer is to be lost.
    pub(super) async fn before(&self, point: Point, broken: &mut bool) -> Result<bool> {
        match self.next(point) {
            None => Ok(false),
            Some(Fault::LoseAnswer) => Ok(true),
            Some(Fault::Slow(time)) => {
                tokio::time::sleep(time).await;
                Ok(false)
            }
            Some(Fault::Hang) => pending().await,
            Some(Fault::Panic) => panic!("injected panic at {point:?}"),
            Some(Fault::Fail(kind)) => Err(failure(point, kind)),
            Some(Fault::Break) => {
                *broken = true;
                Err(failure(point, ErrorKind::Connection).because(Reason::Broken))
            }
        }
    }
}

pub(super) fn failure(point: Point, kind: ErrorKind) -> Error {
    let error = Error::new(kind, format!("injected failure at {point:?}"));
    let passes =
        matches!(kind, ErrorKind::Busy | ErrorKind::Serialization | ErrorKind::Connection | ErrorKind::Timeout);
    if passes { error.transient() } else { error }
}

pub(super) fn lost(point: Point) -> Error {
    let kind = if point == Point::Commit { ErrorKind::OutcomeUnknown } else { ErrorKind::Connection };
    Error::new(kind, format!("injected loss of the answer at {point:?}")).because(Reason::Broken)
}
