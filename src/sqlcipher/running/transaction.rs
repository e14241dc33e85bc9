//! Transactions and savepoints, begun and ended by us.

use super::engine::Engine;
use crate::connector::{Access, StatementKind, TransactionMode};
use crate::error::{ErrorKind, Phase, Result};
use crate::sqlcipher::errors::{classify, in_commit};
use crate::sqlcipher::ffi::commits;
use crate::sqlcipher::statement::watch::Mode;

impl Engine {
    pub(crate) fn begin(&mut self, mode: TransactionMode) -> Result<()> {
        self.permit(StatementKind::Read)?;
        let begin = if mode.access == Access::Write { "BEGIN IMMEDIATE" } else { "BEGIN" };
        self.control(begin, Phase::Begin)?;
        self.session.begun(mode.access);
        Ok(())
    }

    pub(crate) fn savepoint(&mut self, depth: u32) -> Result<()> {
        self.permit(StatementKind::Read)?;
        self.control(&format!("SAVEPOINT strongroom_{depth}"), Phase::Begin)
    }

    pub(crate) fn release(&mut self, depth: u32) -> Result<()> {
        self.permit(StatementKind::Read)?;
        self.control(&format!("RELEASE strongroom_{depth}"), Phase::Commit)
    }

    pub(crate) fn rollback_to(&mut self, depth: u32) -> Result<()> {
        self.permit(StatementKind::Read)?;
        self.control(&format!("ROLLBACK TO strongroom_{depth}"), Phase::Rollback)?;
        self.control(&format!("RELEASE strongroom_{depth}"), Phase::Rollback)
    }

    /// Commits; whatever fails, no transaction is open afterwards.
    pub(crate) fn commit(&mut self) -> Result<()> {
        self.watch.look(Mode::Open);
        let before = commits::count(&self.connection);
        let committed = self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.raw_execute());
        if committed.is_ok() {
            self.session.ended();
        }
        committed.map(drop).map_err(|error| {
            let begun = commits::count(&self.connection) != before;
            let error = in_commit(classify(error), begun).during(Phase::Commit);
            match self.rollback() {
                Err(failed) if error.kind() != ErrorKind::OutcomeUnknown => failed.caused_by(error),
                _ => error,
            }
        })
    }

    pub(crate) fn rollback(&mut self) -> Result<()> {
        self.session.ended();
        if self.in_transaction() { self.control("ROLLBACK", Phase::Rollback) } else { Ok(()) }
    }

    /// Runs a statement of our own that controls the transaction.
    pub(crate) fn control(&mut self, sql: &str, phase: Phase) -> Result<()> {
        self.watch.look(Mode::Open);
        let done = self.connection.prepare_cached(sql).and_then(|mut statement| statement.raw_execute());
        done.map(drop).map_err(|error| classify(error).during(phase))
    }
}
