//! One statement on a connection: on the caller's task if it is short, or else as a job.

use super::connection::SqlCipherConnection;
use super::running::delivery::Delivery;
use super::running::engine::Engine;
use super::running::inline::InlineRights;
use crate::connector::{Connection as _, Outcome, ResourceState, Scope, Statement, StatementKind};
use crate::error::{Error, Phase, Result};

/// What became of a statement that was tried on the caller's task.
pub(super) enum Inlined<T> {
    Ran(Result<T>),
    /// It may not run here, or cannot be prepared.
    Refused(Result<StatementKind>),
    /// It may, but not on the caller's task.
    Elsewhere,
    /// It was not tried: another job has the engine, a stream is open, or nothing runs here at all.
    NotTried,
}

impl SqlCipherConnection {
    /// Runs a statement if `scope` admits it: on this task if it is short, or else on a thread.
    pub(super) async fn run_by<Y: Delivery>(
        &mut self,
        statement: Statement,
        scope: Scope,
        delivery: &mut Y,
    ) -> Result<Outcome<Y::Made>> {
        // What runs inline never waits; tokio counts it, so that the other tasks of this thread get their turn.
        tokio::task::consume_budget().await;
        self.take_turns().await;
        let mut inlined = self.inline(&statement, scope, delivery);
        if matches!(inlined, Inlined::NotTried) && scope != Scope::Session {
            // A look at kept snapshots is soon over; a stream that nobody reads is told to stop.
            let kind = self.classify(&statement.sql)?;
            if !scope.admits(kind) {
                return Ok(Outcome::Refused(kind, statement));
            }
            inlined = self.inline(&statement, scope, delivery);
        }
        match inlined {
            Inlined::Ran(outcome) => return outcome.map(Outcome::Ran).map_err(|error| error.during(Phase::Statement)),
            Inlined::Refused(kind) => return Ok(Outcome::Refused(kind?, statement)),
            Inlined::Elsewhere | Inlined::NotTried => {}
        }
        let alone = self.alone();
        let mut taken = delivery.take();
        let work = move |engine: &mut Engine| {
            let _alone = alone.for_statement(engine, &statement.sql)?;
            let made = taken.run(engine, &statement)?;
            Ok((made, taken))
        };
        // Boxed, so that the short way does not carry the state of the long one.
        let (made, taken) = Box::pin(self.job(work)).await.map_err(|error| error.during(Phase::Statement))?;
        *delivery = taken;
        Ok(Outcome::Ran(made))
    }

    /// Runs a short statement on this task, if `scope` admits it.
    pub(super) fn inline<Y: Delivery>(
        &mut self,
        statement: &Statement,
        scope: Scope,
        delivery: &mut Y,
    ) -> Inlined<Y::Made> {
        if !(self.may.reads || self.may.inside) {
            return Inlined::NotTried;
        }
        let may = InlineRights { keep: self.may.keep && self.opened.snapshots().allowed(), ..self.may_now() };
        let commits = may.in_place && self.state != ResourceState::InTransaction;
        let outcome = self.here_or_in_place(commits, |engine, control| {
            if scope != Scope::Session {
                match engine.classify(&statement.sql) {
                    Ok(kind) if scope.admits(kind) => {}
                    refused => return Some((Inlined::Refused(refused), false)),
                }
            }
            let Some(mut outcome) =
                engine.run_inline(statement, control, may, |engine| delivery.run(engine, statement))
            else {
                return Some((Inlined::Elsewhere, false));
            };
            let spoiled = outcome.as_mut().is_err_and(|error| engine.complete_error(error));
            Some((Inlined::Ran(outcome), spoiled))
        });
        match outcome {
            Ok(outcome) => outcome.unwrap_or(Inlined::NotTried),
            Err(_panic) => Inlined::Ran(Err(Error::panicked("SQL function"))),
        }
    }
}
