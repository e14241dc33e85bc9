//! The one hook for those who observe calls: observers, and whoever takes the spans of `tracing`.
//!
//! A call is wrapped once, where its handle is asked. What only the inside of the call knows (when it had its connection, what
//! the statement is, how many rows there were) is noted in passing, in a place of the thread that is there while the call is
//! polled. Where nobody observes there is no such place, and no clock is read.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::mem;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::Either;
use tokio::time::Instant;
use tracing::Span;

use super::spans;
use crate::connector::{Connection, Statement, StatementEffort, StatementSummary};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::foreign;
use crate::observer::{CallKind, CallOutcome, Event, ObservedCall, Observers};
use crate::row::{Changes, Rows};

thread_local! {
    /// The call that is being polled, if it is observed.
    static HERE: RefCell<Option<Noted>> = const { RefCell::new(None) };
    /// Whether there is one: to ask this costs next to nothing.
    static IS_HERE: Cell<bool> = const { Cell::new(false) };
}

/// What the inside of a call has noted.
#[derive(Default)]
struct Noted {
    /// When it had its connection.
    lent: Option<Instant>,
    summary: Option<StatementSummary>,
    returned: u64,
    affected: u64,
    sets: u64,
    /// Of statements that run for at least so long, the effort is wanted.
    slow: Option<Duration>,
    effort: Option<StatementEffort>,
    /// Of somebody who takes spans.
    span: Option<Span>,
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
    noted: Noted,
}

/// Nothing, where nobody observes.
pub(super) type Observing = Option<Box<Observation>>;

/// A call that is about to begin.
#[inline]
pub(super) fn observe(
    observers: &Observers,
    kind: CallKind,
    sql: Option<&str>,
    location: &'static Location<'static>,
) -> Observing {
    if observers.are_there() || spans::are_wanted() {
        Some(Observation::of(observers, kind, sql, location))
    } else {
        None
    }
}

/// The same for calls that count every instruction: their future is not moved.
macro_rules! observed {
    ($observing:expr, $call:expr) => {
        match $observing {
            None => $call.await,
            Some(observation) => Box::pin(observation.over($call)).await,
        }
    };
}
pub(super) use observed;

/// Runs a call, and tells how it went.
pub(super) fn over<T>(observing: Observing, call: impl Future<Output = Result<T>>) -> impl Future<Output = Result<T>> {
    match observing {
        None => Either::Left(call),
        // Boxed, so that calls that nobody observes do not carry its state.
        Some(observation) => Either::Right(Box::pin(observation.over(call))),
    }
}

impl Observation {
    #[cold]
    fn of(observers: &Observers, kind: CallKind, sql: Option<&str>, location: &'static Location<'static>) -> Box<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (observers, id, sql) = (observers.clone(), NEXT.fetch_add(1, Relaxed), sql.map(Arc::from));
        let noted = Noted { slow: observers.slow, ..Noted::default() };
        Box::new(Self { observers, id, kind, sql, location, holds: false, began: None, noted })
    }

    fn call(&self) -> ObservedCall<'_> {
        let Self { observers: Observers { engine, dialect, .. }, id, kind, location, .. } = *self;
        let (sql, summary, namespace) =
            (self.sql.as_deref(), self.noted.summary.as_ref(), self.observers.namespace.as_deref());
        ObservedCall { id, kind, sql, summary, location, engine, namespace, dialect }
    }

    /// Tells that the call begins, unless it has begun.
    fn begin(&mut self) {
        if self.began.is_none() {
            self.began = Some(Instant::now());
            self.noted.lent = self.began.filter(|_| self.holds);
            foreign();
            self.noted.span = spans::are_wanted().then(|| spans::of(&self.call()));
            self.observers.tell(&Event::CallBegan(self.call()));
        }
    }

    /// The call has its connection from the beginning.
    pub(super) fn holding(mut self: Box<Self>) -> Box<Self> {
        self.holds = true;
        self
    }

    /// Polls a part of the call.
    pub(super) fn during<R>(&mut self, poll: impl FnOnce() -> R) -> R {
        self.begin();
        foreign();
        let span = self.noted.span.clone();
        let _entered = span.as_ref().map(Span::enter);
        let _here = Here::enter(&mut self.noted);
        poll()
    }

    pub(super) async fn over<T>(mut self: Box<Self>, call: impl Future<Output = Result<T>>) -> Result<T> {
        let mut call = pin!(call);
        let outcome = poll_fn(|cx| self.during(|| call.as_mut().poll(cx))).await;
        self.end(outcome.as_ref().err());
        outcome
    }

    /// Adds rows that the caller was given.
    pub(super) fn gave(&mut self, rows: usize) {
        self.noted.returned += rows as u64;
    }

    /// Tells how the call ended, once.
    pub(super) fn end(&mut self, error: Option<&Error>) {
        let Some(began) = self.began.take() else { return };
        let now = Instant::now();
        let lent = self.noted.lent.unwrap_or(now).clamp(began, now);
        let outcome = CallOutcome {
            waiting: lent - began,
            running: now - lent,
            rows_returned: self.noted.returned,
            rows_affected: self.noted.affected,
            sets: self.noted.sets,
            effort: self.noted.effort.as_ref(),
            error,
        };
        foreign();
        if let Some(span) = &self.noted.span {
            spans::end(span, &self.call(), &outcome);
        }
        self.observers.tell(&Event::CallEnded(self.call(), outcome));
        self.noted.span = None;
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if self.began.is_none() {
            return;
        }
        // Whoever has read enough of a stream drops it.
        let dropped = (self.kind != CallKind::FetchStream)
            .then(|| Error::new(ErrorKind::Cancelled, "the future of this call was dropped before it ended"));
        self.end(dropped.as_ref());
    }
}

/// The place of the thread, as long as a call is being polled; then that of the call around it is there again.
struct Here<'n> {
    noted: &'n mut Noted,
    outer: Option<Noted>,
}

impl<'n> Here<'n> {
    fn enter(noted: &'n mut Noted) -> Self {
        let outer = HERE.replace(Some(mem::take(noted)));
        IS_HERE.set(true);
        Self { noted, outer }
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        IS_HERE.set(self.outer.is_some());
        *self.noted = HERE.replace(self.outer.take()).unwrap_or_default();
    }
}

fn note(change: impl FnOnce(&mut Noted)) {
    HERE.with_borrow_mut(|here| {
        if let Some(noted) = here {
            change(noted);
        }
    });
}

/// A statement of the call begins to run; its text.
pub(super) fn runs(statement: &mut Statement) -> Arc<str> {
    lent();
    statement.measured = slow().is_some();
    Arc::clone(&statement.sql)
}

/// From when on the call that runs here takes a statement for slow.
pub(super) fn slow() -> Option<Duration> {
    HERE.with_borrow(|here| here.as_ref()?.slow)
}

/// The span of the call that runs here.
pub(super) fn span() -> Option<Span> {
    HERE.with_borrow(|here| here.as_ref()?.span.clone())
}

/// Whether the call that runs here is observed.
#[inline]
pub(super) fn is_observed() -> bool {
    IS_HERE.get()
}

/// The call has its connection, from now on if it had none.
pub(super) fn lent() {
    note(|noted| noted.lent = noted.lent.or_else(|| Some(Instant::now())));
}

/// What somebody else has done on behalf of the call.
pub(super) fn ran_elsewhere(
    began: Option<Instant>,
    summary: Option<StatementSummary>,
    effort: Option<StatementEffort>,
    rows: Option<&Rows>,
) {
    note(|noted| {
        noted.lent = began.or(noted.lent);
        (noted.summary, noted.effort) = (summary, effort);
    });
    if let Some(rows) = rows {
        gave(rows.len(), rows.changes());
    }
}

/// The call gave its caller so many rows, and changed so much.
pub(super) fn gave(rows: usize, changes: Changes) {
    note(|noted| {
        noted.returned += rows as u64;
        noted.affected += changes.rows_affected;
    });
}

/// The call was given so many sets of parameters.
pub(super) fn given(sets: usize) {
    note(|noted| noted.sets += sets as u64);
}

/// A statement ran on `connection`; how it went does not matter.
pub(super) fn ran<K: Connection>(connection: &mut K, sql: &str) {
    let lent = HERE.with_borrow(|here| here.as_ref()?.lent);
    let is_slow = slow().zip(lent).is_some_and(|(slow, lent)| lent.elapsed() >= slow);
    let effort = if is_slow { connection.effort(sql) } else { None };
    let summary = connection.summary(sql);
    note(|noted| {
        // Of a stream it is asked before too.
        noted.summary = summary.or_else(|| noted.summary.take());
        noted.effort = effort;
    });
}
