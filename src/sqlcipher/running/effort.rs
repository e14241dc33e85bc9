//! What a statement cost, for observers.

use super::engine::Engine;
use crate::connector::{QueryPlan, StatementEffort};
use crate::error::Result;
use crate::row::RowsBuilder;
use crate::sqlcipher::errors::classify;
use crate::sqlcipher::statement::ready::push_row;
use crate::sqlcipher::statement::watch::Mode;

/// Operations of which there is a plan.
const ROWS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

impl Engine {
    /// What the last run of a text cost, with its plan. For what reads and writes rows; pragmas act when they are explained.
    pub(crate) fn effort(&mut self, sql: &str) -> Option<StatementEffort> {
        let plan = self.plans.get(sql)?;
        let mut effort = plan.effort.take()?;
        let has_plan = plan.summary().is_some_and(|summary| ROWS.contains(&summary.operation));
        let text = format!("EXPLAIN QUERY PLAN {}", plan.text(sql));
        effort.plan = if has_plan { self.explained(&text).ok() } else { None };
        Some(effort)
    }

    fn explained(&self, sql: &str) -> Result<QueryPlan> {
        self.watch.look(Mode::Guarded);
        let mut prepared = self.connection.prepare(sql).map_err(classify)?;
        self.watch.mode(Mode::Running);
        let mut steps = prepared.raw_query();
        let mut builder = RowsBuilder::new(["id", "parent", "notused", "detail"]);
        while let Some(step) = steps.next().map_err(classify)? {
            push_row(&mut builder, step)?;
        }
        QueryPlan::of_sqlite(&builder.finish())
    }
}
