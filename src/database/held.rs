//! A connection that a guard holds.

use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;

use super::call::{self, Deadline, Limit, Stage, within};
use super::observed::{Observation, Observing, observe, observe_span, observe_told};
use crate::connector::{Canceller, Connection, Connector, Resource as _, ResourceState, Statement, StatementKind};
use crate::error::Result;
use crate::observer::CallKind;
use crate::pool::Pooled;
use crate::row::Rows;

/// A connection that is lent for as long as its guard lives, and until when the calls of the guard have to be over.
pub(super) struct Held<C: Connector> {
    lent: Pooled<C>,
    deadline: Option<Deadline>,
    /// Where the guard was asked for.
    location: &'static Location<'static>,
}

impl<C: Connector> Held<C> {
    pub(super) fn new(lent: Pooled<C>, deadline: Option<Deadline>, location: &'static Location<'static>) -> Self {
        Self { lent, deadline, location }
    }

    /// A call of the guard that is about to begin, made at `location` if that is known.
    #[inline]
    pub(super) fn observe(
        &self,
        kind: CallKind,
        sql: Option<&Arc<str>>,
        location: Option<&'static Location<'static>>,
    ) -> Observing {
        observe(self.lent.observers(), kind, sql, location.unwrap_or(self.location)).map(Observation::holding)
    }

    /// The same where there are observers; of a span the call asks itself.
    #[inline]
    pub(super) fn observing(
        &self,
        kind: CallKind,
        statement: &Result<Statement>,
        location: &'static Location<'static>,
    ) -> Observing {
        let sql = &statement.as_ref().ok()?.sql;
        observe_told(self.lent.observers(), kind, sql, location).map(Observation::holding)
    }

    #[inline]
    pub(super) fn observe_span(
        &self,
        kind: CallKind,
        sql: &Arc<str>,
        location: &'static Location<'static>,
    ) -> Observing {
        observe_span(self.lent.observers(), kind, sql, location).map(Observation::holding)
    }

    /// What bounds a call of the guard.
    pub(super) fn limit(&self, stage: Stage) -> Limit {
        self.deadline.map(|deadline| (deadline, stage))
    }

    /// What bounds a call of the guard that has to be stopped.
    pub(super) fn limit_stopping(&self, stage: fn(Canceller) -> Stage) -> Limit {
        self.deadline.map(|deadline| (deadline, stage(self.lent.canceller())))
    }

    /// The deadline, if it has passed.
    pub(super) fn overdue(&self) -> Option<Deadline> {
        self.deadline.filter(|deadline| deadline.is_over())
    }
}

impl<C: Connector<Connection: Connection>> Held<C> {
    /// What bounds a stream, whose statement is known to read only, or is not.
    pub(super) fn limit_of_stream(&self, reads: bool) -> Limit {
        if reads { self.limit(Stage::Read) } else { self.limit_stopping(Stage::Write) }
    }

    /// The next rows of its stream.
    pub(super) async fn next_rows(&mut self, reads: bool) -> Result<Option<Rows>> {
        call::check(self.limit_of_stream(reads))?;
        within(self.limit_of_stream(reads), self.lent.next_chunk()).await
    }

    /// What bounds a statement of the guard: one that only reads changes nothing, whatever becomes of it. While a call that
    /// was given up may still be at work, nobody is asked what this one does, as that would wait for the other.
    pub(super) fn limit_of(&mut self, sql: &str) -> Limit {
        let deadline = self.deadline?;
        let is_at_rest = self.lent.state() != ResourceState::Unknown;
        let reads = is_at_rest && self.lent.classify(sql).is_ok_and(|kind| kind == StatementKind::Read);
        Some((deadline, if reads { Stage::Read } else { Stage::Write(self.lent.canceller()) }))
    }

    /// Rolls back whatever is open. With a deadline, the rollback is not awaited for ever either.
    pub(super) async fn undo_all(&mut self) -> Result<()> {
        let limit = self.deadline.and_then(|_| Deadline::grace()).map(|grace| (grace, Stage::Rollback));
        within(limit, self.lent.rollback()).await
    }
}

impl<C: Connector> Deref for Held<C> {
    type Target = Pooled<C>;

    fn deref(&self) -> &Pooled<C> {
        &self.lent
    }
}

impl<C: Connector> DerefMut for Held<C> {
    fn deref_mut(&mut self) -> &mut Pooled<C> {
        &mut self.lent
    }
}
