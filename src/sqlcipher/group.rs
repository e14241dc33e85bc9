//! Group commit: statements of several callers in one transaction.

use std::sync::Arc;

use super::engine::Engine;
use crate::{ErrorKind, Phase, Result, Rows, Statement, StatementKind};

impl Engine {
    /// Runs statements that waited together, each with its own result and atomic by itself, in one transaction if that
    /// works out.
    pub(super) fn run_group(&mut self, group: &[Statement]) -> Vec<Result<Rows>> {
        let alone = |engine: &mut Self| group.iter().map(|statement| engine.run(statement)).collect();
        if group.len() < 2 || self.in_transaction() || !group.iter().all(|statement| self.may_join(&statement.sql)) {
            return alone(self);
        }
        if let Err(error) = self.control("BEGIN IMMEDIATE", Phase::Begin) {
            return group.iter().map(|_| Err(error.clone())).collect();
        }
        match self.run_together(group) {
            Some(results) => results,
            // Nobody was told anything yet, and nothing was kept: each gets a transaction of its own.
            None => alone(self),
        }
    }

    /// Whether a statement can share a transaction with others, which may have to be run again.
    fn may_join(&mut self, sql: &Arc<str>) -> bool {
        // A statement that cannot be prepared fails by itself and disturbs nobody.
        self.prepare(sql).is_err()
            || self.plans.get(sql).is_some_and(|plan| {
                plan.may_run_twice() && matches!(plan.kind(), StatementKind::Read | StatementKind::Write)
            })
    }

    /// Inside a transaction; ends it. `None` when it came to nothing.
    fn run_together(&mut self, group: &[Statement]) -> Option<Vec<Result<Rows>>> {
        let mut results = Vec::with_capacity(group.len());
        for statement in group {
            results.push(self.run(statement));
            // `OR ROLLBACK`, a full disk: what the others did is gone.
            if !self.in_transaction() {
                return None;
            }
        }
        match self.commit() {
            Ok(()) => Some(results),
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {
                Some(results.into_iter().map(|result| result.and_then(|_| Err(error.clone()))).collect())
            }
            // A deferred constraint: one of them is to blame.
            Err(_) => None,
        }
    }
}
