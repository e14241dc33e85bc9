//! What a statement gives: its rows, or what a sink makes of them.

use std::future::Future;

use super::observed;
use crate::connector::{Connection, Outcome, Scope, Statement};
use crate::error::Result;
use crate::row::{RowSink, Rows};

/// What becomes of the rows of a statement, whatever connection runs it.
pub(super) trait Yields: Send {
    type Made: Send;

    /// Runs a statement if `scope` admits what it does, or gives it back.
    fn run<K: Connection>(
        &mut self,
        connection: &mut K,
        statement: Statement,
        scope: Scope,
    ) -> impl Future<Output = Result<Outcome<Self::Made>>> + Send;

    /// Takes the rows of a statement that somebody else has run.
    fn collected(&mut self, rows: Rows) -> Self::Made;
}

/// The rows are collected.
pub(super) struct Collected;

impl Yields for Collected {
    type Made = Rows;

    async fn run<K: Connection>(
        &mut self,
        connection: &mut K,
        mut statement: Statement,
        scope: Scope,
    ) -> Result<Outcome> {
        if observed::is_observed() {
            observed::runs(&mut statement);
        }
        let outcome = match scope {
            Scope::Session => connection.run(statement).await.map(Outcome::Ran),
            _ => connection.run_in(statement, scope).await,
        };
        if observed::is_observed() {
            observed::ran(connection);
            if let Ok(Outcome::Ran(rows)) = &outcome {
                observed::gave(rows.len(), rows.changes());
            }
        }
        outcome
    }

    fn collected(&mut self, rows: Rows) -> Rows {
        rows
    }
}

/// The rows are shown to a sink.
pub(super) struct Shown(pub(super) Box<dyn RowSink>);

impl Yields for Shown {
    type Made = ();

    async fn run<K: Connection>(
        &mut self,
        connection: &mut K,
        mut statement: Statement,
        scope: Scope,
    ) -> Result<Outcome<()>> {
        if observed::is_observed() {
            observed::runs(&mut statement);
        }
        let outcome = connection.run_into(statement, scope, &mut self.0).await;
        if observed::is_observed() {
            observed::ran(connection);
            if let Ok(Outcome::Ran(changes)) = &outcome {
                observed::gave(self.0.taken(), *changes);
            }
        }
        Ok(outcome?.map(drop))
    }

    fn collected(&mut self, rows: Rows) {
        rows.show_to(self.0.as_mut());
    }
}
