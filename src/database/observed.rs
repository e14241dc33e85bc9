//! The one hook for what observes calls: observers, and subscribers that take the spans of `tracing`.
//!
//! A call is wrapped once, where its handle is asked. What only the inside of the call knows (when it had its connection, what
//! the statement is, how many rows there were) is noted in passing, in a place of the thread that is there while the call is
//! polled. Where nobody observes there is no such place, and no clock is read.
//!
//! An observed call costs one allocation and one look at the clock: when it had its connection and gave it back, the pool knows.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::Either;
use tokio::time::Instant;
use tracing::{Level, Span};

use super::spans;
use crate::connector::{Connection, Statement, StatementEffort, StatementSummary};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::foreign;
use crate::observer::{CallKind, CallOutcome, Event, LoanMoments, ObservedCall, Observers, PoolObservers};
use crate::row::{Changes, Rows};

thread_local! {
    /// The call that is being polled, if it is observed.
    static HERE: RefCell<Observing> = const { RefCell::new(None) };
    /// Whether there is one: to ask this costs next to nothing.
    static IS_HERE: Cell<bool> = const { Cell::new(false) };
}

/// A call that is observed. Dropped before its end, it tells that.
pub(super) struct Observation {
    observers: Observers,
    id: u64,
    kind: CallKind,
    sql: Option<Arc<str>>,
    location: &'static Location<'static>,
    /// Whether it has its connection from the beginning.
    holds: bool,
    began: Option<Instant>,
    // What the inside of the call has noted:
    /// When it had its connection.
    lent: Option<Instant>,
    summary: Option<StatementSummary>,
    returned: u64,
    affected: u64,
    sets: u64,
    effort: Option<StatementEffort>,
    /// It went well; what the caller makes of the answer is not the database's.
    answered: bool,
    /// Of a subscriber that takes spans.
    span: Option<Span>,
}

/// Nothing, where nobody observes.
pub(super) type Observing = Option<Box<Observation>>;

/// Whether somebody takes spans.
#[inline]
pub(super) fn are_wanted() -> bool {
    tracing::enabled!(target: spans::TARGET, Level::DEBUG)
}

/// A call that is about to begin.
#[inline]
pub(super) fn observe(
    observers: &Observers,
    kind: CallKind,
    sql: Option<&Arc<str>>,
    location: &'static Location<'static>,
) -> Observing {
    if observers.are_there() || are_wanted() { Some(Observation::of(observers, kind, sql, location)) } else { None }
}

/// The same where there are observers. Whether somebody wants a span is asked in the call, by [`observe_span`]: who takes them
/// depends on where it is polled.
#[inline]
pub(super) fn observe_told(
    observers: &Observers,
    kind: CallKind,
    sql: &Arc<str>,
    location: &'static Location<'static>,
) -> Observing {
    if observers.are_there() { Some(Observation::of(observers, kind, Some(sql), location)) } else { None }
}

/// The same where somebody wants a span and there are no observers.
#[inline]
pub(super) fn observe_span(
    observers: &Observers,
    kind: CallKind,
    sql: &Arc<str>,
    location: &'static Location<'static>,
) -> Observing {
    let wanted = are_wanted() && !observers.are_there();
    if wanted { Some(Observation::of(observers, kind, Some(sql), location)) } else { None }
}

/// The same for calls that count every instruction: their future is not moved.
macro_rules! observed {
    ($observing:expr, $call:expr) => {
        match $observing {
            None => $call.await,
            observing => Box::pin($crate::database::observed::driven(observing, $call)).await,
        }
    };
}
pub(super) use observed;

/// Runs a call, and tells how it went.
pub(super) fn over<T>(observing: Observing, call: impl Future<Output = Result<T>>) -> impl Future<Output = Result<T>> {
    match observing {
        None => Either::Left(call),
        // Boxed, so that calls that nobody observes do not carry its state.
        observing => Either::Right(Box::pin(driven(observing, call))),
    }
}

/// The same for calls that are boxed anyway.
pub(super) async fn driven<T>(mut observing: Observing, call: impl Future<Output = Result<T>>) -> Result<T> {
    let mut call = pin!(call);
    poll_fn(|cx| drive(&mut observing, || call.as_mut().poll(cx))).await
}

/// Polls a call to its end, and tells how it went.
#[cold]
pub(super) fn drive<T>(observing: &mut Observing, poll: impl FnOnce() -> Poll<Result<T>>) -> Poll<Result<T>> {
    let polled = during(observing, poll);
    if let (Poll::Ready(outcome), Some(observation)) = (&polled, observing) {
        // Where its last act was to give its connection back, it ended then.
        let now = LoanMoments::take_end(&observation.observers).unwrap_or_else(Instant::now);
        let error = if observation.answered { None } else { outcome.as_ref().err() };
        observation.end(error, now);
    }
    polled
}

/// Polls a part of a call.
pub(super) fn during<R>(observing: &mut Observing, poll: impl FnOnce() -> Poll<R>) -> Poll<R> {
    let (began, span) = observing.as_mut().map_or((None, None), |observation| {
        let began = observation.begin();
        (began, observation.span.clone())
    });
    foreign();
    let _entered = span.as_ref().map(Span::enter);
    let _here = Here::enter(observing);
    LoanMoments::forget(began);
    poll()
}

impl Observation {
    #[cold]
    fn of(
        observers: &Observers,
        kind: CallKind,
        sql: Option<&Arc<str>>,
        location: &'static Location<'static>,
    ) -> Box<Self> {
        Box::new(Self {
            observers: observers.clone(),
            id: next_id(),
            kind,
            sql: sql.cloned(),
            location,
            holds: false,
            began: None,
            lent: None,
            summary: None,
            returned: 0,
            affected: 0,
            sets: 0,
            effort: None,
            answered: false,
            span: None,
        })
    }

    fn call(&self) -> ObservedCall<'_> {
        let Self { id, kind, location, .. } = *self;
        let PoolObservers { engine, dialect, .. } = *self.observers;
        let (sql, summary, namespace) =
            (self.sql.as_deref(), self.summary.as_ref(), self.observers.namespace.as_deref());
        ObservedCall { id, kind, sql, summary, location, engine, namespace, dialect }
    }

    /// Tells that the call begins, unless it has begun. Says when that was, if the call asks for a connection next.
    fn begin(&mut self) -> Option<Instant> {
        if self.began.is_some() {
            return None;
        }
        let now = Instant::now();
        self.began = Some(now);
        self.lent = self.began.filter(|_| self.holds);
        foreign();
        self.span = are_wanted().then(|| spans::of(&self.call()));
        self.observers.tell(&Event::CallBegan(self.call()));
        matches!(self.kind, CallKind::Fetch | CallKind::Execute).then_some(now)
    }

    /// The call has its connection from the beginning.
    pub(super) fn holding(mut self: Box<Self>) -> Box<Self> {
        self.holds = true;
        self
    }

    /// It has its connection, from now on if it had none.
    fn has_connection(&mut self) {
        if self.lent.is_none() {
            self.lent = Some(LoanMoments::take_begin().unwrap_or_else(Instant::now));
        }
    }

    /// Adds rows that the caller was given.
    pub(super) fn gave(&mut self, rows: usize) {
        self.returned += rows as u64;
    }

    /// Tells how the call ended, once.
    pub(super) fn end(&mut self, error: Option<&Error>, now: Instant) {
        let Some(began) = self.began.take() else { return };
        let now = now.max(began);
        let lent = self.lent.unwrap_or(now);
        // Mostly it had its connection at once.
        let waiting = if lent > began { lent.min(now) - began } else { Duration::ZERO };
        let outcome = CallOutcome {
            waiting,
            running: now - lent.clamp(began, now),
            rows_returned: self.returned,
            rows_affected: self.affected,
            sets: self.sets,
            effort: self.effort.as_ref(),
            error,
        };
        foreign();
        if let Some(span) = &self.span {
            spans::end(span, &self.call(), &outcome);
        }
        self.observers.tell(&Event::CallEnded(self.call(), outcome));
        self.span = None;
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if self.began.is_none() {
            return;
        }
        // A caller that has read enough of a stream drops it.
        let dropped = (self.kind != CallKind::FetchStream)
            .then(|| Error::new(ErrorKind::Cancelled, "the future of this call was dropped before it ended"));
        self.end(dropped.as_ref(), Instant::now());
    }
}

/// The place of the thread, as long as a call is being polled; then that of the call around it is there again.
struct Here<'o> {
    /// Meanwhile the call around it.
    observing: &'o mut Observing,
    is_inner: bool,
}

impl<'o> Here<'o> {
    fn enter(observing: &'o mut Observing) -> Self {
        HERE.with_borrow_mut(|here| mem::swap(here, observing));
        Self { observing, is_inner: IS_HERE.replace(true) }
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        LoanMoments::asks_later();
        IS_HERE.set(self.is_inner);
        HERE.with_borrow_mut(|here| mem::swap(here, self.observing));
    }
}

/// A number for a call. Threads take many at a time, so that they need not share a place for each. That no two get the same
/// follows from counting in one step, whatever the order: `Relaxed` does.
fn next_id() -> u64 {
    const AT_ONCE: u64 = 1 << 10;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static LAST: Cell<u64> = const { Cell::new(0) };
    }
    let last = LAST.get();
    let id = if last.is_multiple_of(AT_ONCE) { NEXT.fetch_add(AT_ONCE, Relaxed) } else { last } + 1;
    LAST.set(id);
    id
}

fn note(change: impl FnOnce(&mut Observation)) {
    if is_observed() {
        HERE.with_borrow_mut(|here| here.as_deref_mut().map(change));
    }
}

fn here<T>(look: impl FnOnce(&Observation) -> Option<T>) -> Option<T> {
    HERE.with_borrow(|here| look(here.as_deref()?))
}

/// From when on the call that runs here takes a statement for slow.
pub(super) fn slow() -> Option<Duration> {
    here(|call| call.observers.slow)
}

/// The span of the call that runs here.
pub(super) fn span() -> Option<Span> {
    here(|call| call.span.clone())
}

/// Whether the call that runs here is observed.
#[inline]
pub(super) fn is_observed() -> bool {
    IS_HERE.get()
}

/// The call has its connection, from now on if it had none.
pub(super) fn lent() {
    note(Observation::has_connection);
}

/// The connection that the call had was not the right one: it waits for another.
pub(super) fn waits_again() {
    note(|call| call.lent = None);
}

/// A statement of the call begins to run on a connection.
#[cold]
pub(super) fn runs(statement: &mut Statement) {
    note(|call| {
        call.has_connection();
        statement.measured = call.observers.slow.is_some();
    });
}

/// What somebody else has done on behalf of the call.
pub(super) fn ran_elsewhere(
    began: Option<Instant>,
    summary: Option<StatementSummary>,
    effort: Option<StatementEffort>,
    rows: Option<&Rows>,
) {
    note(|call| {
        call.lent = began.or(call.lent);
        (call.summary, call.effort) = (summary, effort);
        if let Some(rows) = rows {
            call.gave(rows.len());
            call.affected += rows.changes().rows_affected;
        }
    });
}

/// The call was given so many sets of parameters.
pub(super) fn given(sets: usize) {
    note(|call| call.sets += sets as u64);
}

/// The call has its answer; whether the caller's type takes it is another matter.
pub(super) fn answered() {
    note(|call| call.answered = true);
}

/// The statement of the call ran on `connection`, gave its caller so many rows and changed so much; how it went does not matter.
#[cold]
pub(super) fn ran<K: Connection>(connection: &mut K, rows: usize, changes: Changes) {
    // Taken out, because the connection is foreign.
    let taken = HERE.with_borrow_mut(|here| {
        let call = here.as_deref_mut()?;
        call.gave(rows);
        call.affected += changes.rows_affected;
        Some((call.sql.take()?, call.lent.zip(call.observers.slow)))
    });
    let Some((sql, slow)) = taken else { return };
    let is_slow = slow.is_some_and(|(lent, slow)| lent.elapsed() >= slow);
    let effort = if is_slow { connection.effort(&sql) } else { None };
    let summary = connection.summary(&sql);
    note(|call| {
        call.sql = Some(sql);
        call.effort = effort;
        // Of a stream it is asked before too.
        if summary.is_some() {
            call.summary = summary;
        }
    });
}
