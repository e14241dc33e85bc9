//! A call under way, and the moment until which it, or all that is done with what it gave, has to be over.
//!
//! The caller has to learn what became of a call that a deadline stopped. A call that may have changed something is asked to stop, and its
//! answer is awaited for a short [`GRACE`]: only if that does not come either is the outcome unknown.

use std::future::Future;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use tokio::time::Instant;

use crate::clock::{self, timeout_at};
use crate::connector::{Access, Canceller, Connection, Connector, Resource as _, StatementKind};
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::pool::{Pool, Pooled};

/// Where a call was made, until when it has to be over, and what it is for: handed down from the handle that was asked.
#[derive(Clone, Copy)]
pub(super) struct Call<'l> {
    pub(super) location: &'static Location<'static>,
    pub(super) deadline: Option<Deadline>,
    pub(super) label: Option<&'l Arc<str>>,
}

impl Call<'_> {
    /// A connection for it.
    pub(super) fn lend<C: Connector>(
        self,
        pool: &Pool<C>,
        access: Access,
    ) -> impl Future<Output = Result<Pooled<C>>> + Send + use<'_, C> {
        let lending = pool.get_at(access, self.location);
        match self.deadline {
            None => Either::Left(lending),
            // Boxed, so that calls without a deadline do not carry its state.
            Some(deadline) => Either::Right(Box::pin(deadline.lend(lending, pool, access))),
        }
    }

    /// A connection for it if one is free.
    pub(super) fn lend_if_free<C: Connector>(
        self,
        pool: &Pool<C>,
        access: Access,
    ) -> impl Future<Output = Result<Option<Pooled<C>>>> + Send + use<'_, C> {
        let lending = pool.get_if_free(access, self.location);
        match self.deadline {
            None => Either::Left(lending),
            Some(deadline) => Either::Right(Box::pin(deadline.lend(lending, pool, access))),
        }
    }

    /// What bounds a step of it, of which `stage` says what is lost when the time is up.
    pub(super) fn limit(self, stage: impl FnOnce() -> Stage) -> Limit {
        self.deadline.map(|deadline| (deadline, stage()))
    }

    /// What bounds a statement of it on this connection. The kind says what a stop would lose, so it is asked for
    /// before the statement runs.
    pub(super) fn limit_of<C>(self, lent: &mut Pooled<C>, access: Access, sql: &str) -> Result<Limit>
    where
        C: Connector<Connection: Connection>,
    {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let reads = access == Access::Read || lent.classify(sql)? == StatementKind::Read;
        Ok(Some((deadline, if reads { Stage::Read } else { Stage::Write(lent.canceller()) })))
    }
}

/// How long a call whose time is up still waits for its answer, or for a rollback.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// A call that is to stop is asked again after this pause, then after twice that and so on: it may just have been
/// between two places where it listens.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// When the time is up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    limit: Duration,
    /// What ran out.
    name: &'static str,
}

/// What is under way when the time is up, and so what that means.
pub(super) enum Stage {
    /// What comes before the work itself, and by whom it is done: nothing of that has begun.
    Before(&'static str, Phase),
    /// What comes after the work, which is done.
    After(&'static str, Phase),
    /// Nothing is lost by dropping it.
    Begin,
    /// The same.
    Read,
    /// The same; the transaction around it is rolled back.
    InTransaction,
    /// A part of a transaction is undone; all of it is rolled back then.
    Undo,
    /// The closure of a transaction, which is rolled back then.
    Closure,
    /// May have taken effect, unless the engine says that it was stopped.
    Write(Canceller),
    /// Each statement of a script may have taken effect.
    Script(Canceller),
    /// The same of what a closure does with the engine itself.
    Native(Canceller),
    /// Cannot be stopped, only be waited for.
    Commit,
    Rollback,
}

impl Deadline {
    /// The moment `limit` from now; none if that is beyond all clocks.
    pub(super) fn after(limit: Duration) -> Option<Self> {
        Some(Self { at: Instant::now().checked_add(limit)?, limit, name: "time limit" })
    }

    /// The moment when a loan that begins now is ended by force.
    pub(super) fn of_age(limit: Duration) -> Option<Self> {
        Some(Self { name: "maximum age", ..Self::after(limit)? })
    }

    /// For tidying up when the time is up already.
    pub(super) fn grace() -> Option<Self> {
        Self::after(GRACE)
    }

    /// For tidying up that is not to be left out because the time is nearly up.
    pub(super) fn or_grace(self) -> Self {
        Self { at: self.at.max(Instant::now() + GRACE), ..self }
    }

    /// The earlier of two.
    pub(super) fn earlier(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        one.into_iter().chain(other).min_by_key(|deadline| deadline.at)
    }

    pub(super) fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.at
    }

    /// Runs `call` until the time is up.
    ///
    /// # Errors
    /// What the call answered; [`ErrorKind::Timeout`] when it was stopped, [`ErrorKind::OutcomeUnknown`] when it may
    /// have taken effect nevertheless.
    async fn bound<T>(self, stage: Stage, call: impl Future<Output = Result<T>>) -> Result<T> {
        clock::check()?;
        let began = Instant::now();
        let mut call = pin!(call);
        if let Ok(outcome) = timeout_at(self.at, &mut call).await {
            return outcome;
        }
        let took = began.elapsed();
        let canceller = match &stage {
            Stage::Write(canceller) | Stage::Script(canceller) | Stage::Native(canceller) => canceller.clone(),
            Stage::Commit => Canceller::none(),
            _ => return Err(self.passed(&stage, took)),
        };
        match timeout_at(Instant::now() + GRACE, stop(&canceller, call)).await {
            Ok(Err(error)) if error.kind() == ErrorKind::Cancelled => Err(self.passed(&stage, took)),
            // It was faster than the request to stop, or failed for a reason of its own.
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(self.unknown(&stage, took, Some(GRACE))),
        }
    }

    /// What `pool` lends, until the time is up.
    pub(super) async fn lend<C: Connector, T>(
        self,
        lending: impl Future<Output = Result<T>>,
        pool: &Pool<C>,
        access: Access,
    ) -> Result<T> {
        clock::check()?;
        match timeout_at(self.at, lending).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(self.waited("waiting for a connection", pool, access)),
        }
    }

    /// The error of a call that waited for a connection, or for the call that brings it one, until the time was up.
    pub(super) fn waited<C: Connector>(self, doing: &str, pool: &Pool<C>, access: Access) -> Error {
        let Self { limit, name, .. } = self;
        let message = format!("the {name} of {limit:?} ran out while {doing}: {}", pool.why_not(access));
        Error::new(ErrorKind::Timeout, message)
            .because(Reason::NotStarted)
            .during(Phase::Acquire)
            .hint("nothing had begun")
    }

    /// The error of a call on a guard whose time is up.
    #[cold]
    pub(super) fn over(self, reason: Reason, hint: &'static str) -> Error {
        let Self { limit, name, .. } = self;
        let message = format!("the {name} of {limit:?} had passed before this call");
        Error::new(ErrorKind::Timeout, message).because(reason).during(Phase::Statement).hint(hint)
    }

    /// The error of a call that was stopped after having run for `took`.
    #[cold]
    pub(super) fn passed(self, stage: &Stage, took: Duration) -> Error {
        let (doing, phase, hint) = match stage {
            Stage::Before(doing, phase) => (*doing, *phase, "nothing had begun"),
            Stage::After(doing, phase) => (*doing, *phase, "what came before it is done"),
            Stage::Begin => ("beginning the transaction", Phase::Begin, "nothing was changed"),
            Stage::Read => ("reading", Phase::Statement, "nothing was changed"),
            Stage::InTransaction => ("running a statement", Phase::Statement, "the transaction is rolled back"),
            Stage::Undo => ("undoing a nested transaction", Phase::Rollback, "the transaction is rolled back"),
            Stage::Closure => {
                ("running the closure of the transaction", Phase::Statement, "the transaction is rolled back")
            }
            Stage::Write(_) => ("running the statement", Phase::Statement, "it was stopped and rolled back"),
            Stage::Script(_) => {
                ("running the script", Phase::Statement, "it was stopped; what it had committed before stays done")
            }
            Stage::Native(_) => {
                ("running the closure", Phase::Statement, "it was stopped; what it had committed before stays done")
            }
            Stage::Commit => ("committing", Phase::Commit, "the transaction is rolled back"),
            Stage::Rollback => ("rolling back", Phase::Rollback, "the connection is closed instead"),
        };
        let Self { limit, name, .. } = self;
        let message = format!("the {name} of {limit:?} ran out after {took:.1?} of {doing}");
        let error = Error::new(ErrorKind::Timeout, message).during(phase).hint(hint);
        match stage {
            Stage::Script(_) | Stage::Native(_) | Stage::After(..) => error,
            Stage::Before(..) => error.because(Reason::NotStarted),
            _ => error.because(Reason::RolledBack),
        }
    }

    #[cold]
    pub(super) fn unknown(self, stage: &Stage, took: Duration, grace: Option<Duration>) -> Error {
        let (doing, phase) = match stage {
            Stage::Commit => ("committing", Phase::Commit),
            _ => ("running a statement that may commit by itself", Phase::Statement),
        };
        let Self { limit, name, .. } = self;
        let asked = grace.map(|grace| format!(", asking it to stop brought no answer within {grace:?}"));
        let asked = asked.unwrap_or_default();
        let message = format!(
            "the {name} of {limit:?} ran out after {took:.1?} of {doing}{asked}, and what became of it is not known"
        );
        Error::new(ErrorKind::OutcomeUnknown, message)
            .during(phase)
            .hint("look whether its effect is there before doing it again")
    }
}

/// What bounds a step of a call: nothing, or a deadline and what is lost when it passes.
pub(super) type Limit = Option<(Deadline, Stage)>;

/// Runs `call` within its limit.
pub(super) fn within<T>(limit: Limit, call: impl Future<Output = Result<T>>) -> impl Future<Output = Result<T>> {
    match limit {
        None => Either::Left(call),
        // Boxed, so that calls without a deadline do not carry its state.
        Some((deadline, stage)) => Either::Right(Box::pin(deadline.bound(stage, call))),
    }
}

/// Refuses to go on with a stream whose time was up while its reader did something else.
pub(super) fn check(limit: Limit) -> Result<()> {
    match limit.filter(|(deadline, _)| deadline.is_over()) {
        None => Ok(()),
        // All its rows may have been fetched, and then it has committed.
        Some((deadline, stage @ Stage::Write(_))) => Err(deadline.unknown(&stage, deadline.limit, None)),
        Some((deadline, stage)) => Err(deadline.passed(&stage, deadline.limit)),
    }
}

/// Asks `call` to stop until it has ended.
pub(super) async fn stop<T>(canceller: &Canceller, call: impl Future<Output = T>) -> T {
    let mut call = pin!(call);
    let mut pause = ASK_AGAIN;
    loop {
        canceller.cancel();
        if let Ok(outcome) = timeout_at(Instant::now() + pause, &mut call).await {
            return outcome;
        }
        pause = pause.saturating_mul(2);
    }
}
