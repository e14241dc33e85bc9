//! What a statement does, found out by preparing it.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::engine::Engine;
use crate::connector::StatementKind;
use crate::error::Result;
use crate::sqlcipher::errors;
use crate::sqlcipher::statement::plan::Plan;
use crate::sqlcipher::statement::watch::{Mode, Seen};

impl Engine {
    /// Prepares `sql` without letting it do anything, and says what it would do.
    pub(crate) fn classify(&mut self, sql: &str) -> Result<StatementKind> {
        let place = match self.plans.find(sql) {
            Some(place) => place,
            None => match self.prepare_guarded(sql)? {
                ControlFlow::Continue(place) => place,
                ControlFlow::Break(kind) => return Ok(kind),
            },
        };
        let plan = self.plans.at(place);
        let (kind, seen) = (plan.kind(), plan.seen());
        if seen.needs_holder() && !self.in_transaction() {
            return Err(errors::needs_holder(seen));
        }
        Ok(kind)
    }

    /// Where the plan of a statement is, or the kind of one that must not be prepared before it runs.
    fn prepare_guarded(&mut self, sql: &str) -> Result<ControlFlow<StatementKind, usize>> {
        self.watch.look(Mode::Guarded);
        let mut prepared = Plan::prepare(sql, &self.connection, &self.watch);
        if prepared.is_err() && self.keeps_snapshot() {
            // What the statement names may be newer than the snapshot.
            self.end_snapshot();
            self.watch.look(Mode::Guarded);
            prepared = Plan::prepare(sql, &self.connection, &self.watch);
        }
        let seen = self.watch.seen();
        match prepared {
            Ok(plan) => Ok(ControlFlow::Continue(self.plans.remember(sql.into(), plan))),
            Err(error) if seen.refusal().is_some() => Err(error),
            Err(_) if seen.sets_foreign_keys() && self.in_transaction() => Err(errors::too_late_for_foreign_keys()),
            Err(_) if seen.kind(true) == StatementKind::Control => Ok(ControlFlow::Break(StatementKind::Control)),
            Err(_) if seen.is_bounded() && self.in_transaction() => Ok(ControlFlow::Break(StatementKind::Write)),
            Err(_) if seen.is_bounded() => Err(errors::needs_holder(seen)),
            Err(error) => Err(error),
        }
    }

    /// Where the plan of a statement is, made by preparing it if need be. May act: some pragmas do while they are
    /// prepared.
    pub(crate) fn prepare(&mut self, sql: &Arc<str>) -> Result<usize> {
        if let Some(place) = self.plans.find(sql) {
            return Ok(place);
        }
        self.watch.look(Mode::Open);
        let prepared = Plan::prepare(sql, &self.connection, &self.watch);
        self.note_prepared();
        Ok(self.plans.remember(Arc::clone(sql), prepared?))
    }

    /// Takes note of what was seen while something was prepared: some pragmas act there already, also in a text that is
    /// then refused.
    pub(crate) fn note_prepared(&mut self) {
        self.session.alter(self.outlives(self.watch.seen()));
    }

    /// Whether what a statement sets is still set when its caller gives the connection back.
    pub(crate) fn outlives(&self, seen: Seen) -> bool {
        seen.alters_session() || seen.is_bounded() && !self.in_transaction()
    }

    /// What a statement does; for one that is about to run.
    pub(crate) fn kind(&mut self, sql: &Arc<str>) -> Result<StatementKind> {
        let place = self.prepare(sql)?;
        Ok(self.plans.at(place).kind())
    }
}
