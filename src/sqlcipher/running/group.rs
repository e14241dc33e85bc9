//! Group commit: statements of several callers in one transaction.

use std::sync::Arc;

use super::control::Control;
use super::engine::Engine;
use crate::connector::{Scope, Statement, StatementKind};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::row::Rows;

impl Engine {
    /// Runs statements that waited together, each with its own result and atomic by itself. What may not run on a
    /// connection that was lent for one call is refused.
    pub(crate) fn run_group(&mut self, group: &[Statement]) -> Vec<Result<Rows>> {
        let mut verdict = |statement: &Statement| Scope::Write.check(self.classify(&statement.sql)?);
        let refused: Vec<_> = group.iter().map(|statement| verdict(statement).err()).collect();
        let admitted = group.iter().zip(&refused).filter(|(_, refused)| refused.is_none());
        let admitted: Vec<_> = admitted.map(|(statement, _)| statement).collect();
        let mut results = self.run_admitted(&admitted).into_iter();
        let result = |refused: Option<Error>| match refused {
            Some(error) => Some(Err(error)),
            None => results.next(),
        };
        refused.into_iter().filter_map(result).collect()
    }

    /// Runs statements in one transaction if that works out.
    fn run_admitted(&mut self, group: &[&Statement]) -> Vec<Result<Rows>> {
        let alone = |engine: &mut Self| group.iter().map(|statement| engine.run(statement)).collect();
        if group.len() < 2 || self.in_transaction() || !group.iter().all(|statement| self.may_join(&statement.sql)) {
            return alone(self);
        }
        if let Err(error) = self.control("BEGIN IMMEDIATE", Phase::Begin) {
            return group.iter().map(|_| Err(error.clone())).collect();
        }
        if let Some(results) = self.run_together(group, &mut || true) {
            return results;
        }
        // Nobody was told anything yet, and nothing is kept: each gets a transaction of its own.
        match self.rollback() {
            Ok(()) => alone(self),
            Err(error) => group.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// The same on the caller's own task, unless a statement is refused or known to be long, or the commit is. `None`: it
    /// has had no effect; run it on a thread.
    pub(crate) fn run_group_inline(&mut self, group: &[Statement], control: &Control) -> Option<Vec<Result<Rows>>> {
        let all_short = group.iter().all(|statement| {
            self.plans.get(&statement.sql).is_some_and(|plan| {
                plan.kind() == StatementKind::Write && !plan.seen().needs_holder() && plan.try_inline()
            })
        });
        if !all_short || self.in_transaction() || self.is_checkpoint_due() {
            return None;
        }
        let mut done = 0;
        let (results, stopped) = control.inline(|| {
            self.control("BEGIN IMMEDIATE", Phase::Begin).ok()?;
            self.run_together(&group.iter().collect::<Vec<_>>(), &mut || {
                done += 1;
                control.renew()
            })
        });
        if stopped && let Some(statement) = group.get(done - 1) {
            self.plans.get(&statement.sql)?.was_stopped();
        }
        match results {
            Some(results) => {
                self.tally.inline.add(results.len());
                Some(results)
            }
            None => match self.rollback() {
                Ok(()) => None,
                Err(error) => Some(group.iter().map(|_| Err(error.clone())).collect()),
            },
        }
    }

    /// [Completes](Self::complete_error) the errors of a group; true: the connection is of no use any more.
    pub(crate) fn complete_errors<T>(&self, results: &mut [Result<T>]) -> bool {
        let mut spoiled = false;
        for error in results.iter_mut().filter_map(|result| result.as_mut().err()) {
            spoiled |= self.complete_error(error);
        }
        spoiled
    }

    /// Whether a statement can share a transaction with others, which may have to be run again.
    fn may_join(&mut self, sql: &Arc<str>) -> bool {
        // A statement that cannot be prepared fails by itself and disturbs nobody.
        self.prepare(sql).is_err()
            || self.plans.get(sql).is_some_and(|plan| {
                plan.may_run_twice()
                    && !plan.may_stop_halfway()
                    && matches!(plan.kind(), StatementKind::Read | StatementKind::Write)
            })
    }

    /// Inside a transaction; ends it. `go_on` is asked after each statement. `None` when it came to nothing.
    fn run_together(&mut self, group: &[&Statement], go_on: &mut dyn FnMut() -> bool) -> Option<Vec<Result<Rows>>> {
        let mut results = Vec::with_capacity(group.len());
        for statement in group {
            results.push(self.run(statement));
            // `OR ROLLBACK`, a full disk: what the others did is gone.
            if !go_on() || !self.in_transaction() {
                return None;
            }
        }
        match self.commit() {
            Ok(()) => {
                self.tally.groups.add(1);
                self.tally.grouped.add(results.len());
                Some(results)
            }
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {
                let undone = |error: &Error| error.phase() != Some(Phase::Answer);
                let told = |result: Result<Rows>| Err(result.err().filter(undone).unwrap_or_else(|| error.clone()));
                Some(results.into_iter().map(told).collect())
            }
            // A deferred constraint: one of them is to blame.
            Err(_) => None,
        }
    }
}
