//! What is told of statements of the lane whose calls are observed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Span;

use super::observed;
use crate::connector::{Connection, Statement, StatementEffort};
use crate::error::Result;
use crate::observer::{Event, Observers};
use crate::row::Rows;

/// A statement whose call is observed.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) sql: Arc<str>,
    /// From when on it counts as slow.
    slow: Option<Duration>,
    /// That of the call.
    span: Option<Span>,
}

impl Observed {
    /// Whatever the call that runs here wants to have told.
    pub(super) fn of(statement: Statement) -> (Statement, Option<Self>) {
        if !observed::is_observed() {
            return (statement, None);
        }
        let (sql, slow) = (Arc::clone(&statement.sql), observed::slow());
        let measured = slow.is_some();
        (Statement { measured, ..statement }, Some(Self { sql, slow, span: observed::span() }))
    }

    /// The span of its call, which shall not be kept open.
    pub(super) fn take_span(&mut self) -> Option<Span> {
        self.span.take()
    }
}

/// Tells observers of a group that ran. Its span ends here, before its callers are answered.
pub(super) fn note(observers: &Observers, results: &[Result<Rows>], began: Instant, span: Span) {
    if observers.are_there() || !span.is_disabled() {
        let failed = results.iter().filter(|result| result.is_err()).count();
        span.record("strongroom.failed", failed);
        observers.tell(&Event::GroupRan { statements: results.len(), failed, took: began.elapsed() });
    }
}

/// What the statements cost that were slow. Of a text that ran more than once, the engine knows only what its last run cost.
pub(super) fn efforts<'o, K: Connection>(
    connection: &mut K,
    group: impl Iterator<Item = Option<&'o Observed>> + Clone,
    took: Duration,
) -> Vec<Option<StatementEffort>> {
    let times = |sql: &str| group.clone().flatten().filter(|other| *other.sql == *sql).count();
    let effort = |observed: Option<&Observed>| {
        let Observed { sql, slow, .. } = observed?;
        let is_slow = slow.is_some_and(|slow| took >= slow);
        if is_slow && times(sql) == 1 { connection.effort(sql) } else { None }
    };
    group.clone().map(effort).collect()
}
