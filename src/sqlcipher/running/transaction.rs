//! Transactions and savepoints, begun and ended by us.

use std::time::Duration;

use rusqlite::TransactionState;

use super::control::Control;
use super::engine::Engine;
use super::inline::InlineRights;
use crate::connector::{Access, StatementKind, TransactionMode};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::sqlcipher::errors::classify;
use crate::sqlcipher::log::syncs::LogFile;
use crate::sqlcipher::statement::watch::Mode;

/// What begins or ends a transaction or a savepoint; savepoints are named by their depth.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Boundary {
    Begin(TransactionMode),
    Commit,
    Rollback,
    Savepoint(u32),
    Release(u32),
    RollbackTo(u32),
}

/// A transaction whose statements have run for longer than this may have changed many pages: to write them, and to seal
/// each where the file is encrypted, can take ten times as long.
const LIGHT: Duration = Duration::from_micros(100);

impl Engine {
    /// Gives the log if a commit has still to be synced.
    pub(crate) fn cross(&mut self, boundary: Boundary) -> Result<Option<LogFile>> {
        match boundary {
            Boundary::Begin(mode) => self.relax(mode.access).and_then(|()| self.begin(mode)),
            Boundary::Commit => return self.commit().map(|()| self.owed()),
            Boundary::Rollback => self.rollback(),
            Boundary::Savepoint(depth) => {
                self.permit(StatementKind::Read)?;
                self.control(&format!("SAVEPOINT strongroom_{depth}"), Phase::Begin)
            }
            Boundary::Release(depth) => {
                self.permit(StatementKind::Read)?;
                self.control(&format!("RELEASE strongroom_{depth}"), Phase::Commit)
            }
            Boundary::RollbackTo(depth) => {
                self.permit(StatementKind::Read)?;
                self.plans.undone();
                self.control(&format!("ROLLBACK TO strongroom_{depth}"), Phase::Rollback)?;
                self.control(&format!("RELEASE strongroom_{depth}"), Phase::Rollback)
            }
        }
        .map(|()| None)
    }

    /// The same on the caller's own task, where it is short and waits neither for the disk nor for another process.
    /// `None`: it has had no effect; do it on a thread.
    pub(crate) fn cross_inline(
        &mut self,
        boundary: Boundary,
        control: &Control,
        may: InlineRights,
    ) -> Option<Result<Option<LogFile>>> {
        if !self.is_short(boundary, may) || !self.is_still() {
            return None;
        }
        self.end_snapshot();
        if self.keeps_snapshot() {
            return None;
        }
        let outcome = control.inline_to_the_end(|| match boundary {
            Boundary::Commit => self.commit_if_possible().map(|()| self.owed()),
            _ => self.cross(boundary),
        });
        match outcome {
            Err(error) if error.kind() == ErrorKind::Busy => None,
            Err(error) if matches!(boundary, Boundary::Commit) => Some(Err(self.not_committed(error))),
            outcome => Some(outcome),
        }
    }

    fn is_short(&self, boundary: Boundary, may: InlineRights) -> bool {
        let (writes, light) = (self.is_writing(), self.worked < LIGHT);
        match boundary {
            Boundary::Begin(mode) if mode.access == Access::Write => may.inside,
            // An altered session may have left the log, and then each commit waits for the disk.
            Boundary::Commit if writes => {
                (may.writes || may.inside && self.sharing.is_relaxed())
                    && light
                    && !self.session.is_altered()
                    && !self.is_checkpoint_due()
            }
            Boundary::Rollback | Boundary::RollbackTo(_) if writes => may.inside && light,
            _ if writes => may.inside,
            _ => may.reads,
        }
    }

    /// Whether the lock of the writer is held, so that a statement has nothing to wait for.
    pub(crate) fn is_writing(&self) -> bool {
        let state = self.connection.transaction_state(Some(rusqlite::MAIN_DB));
        state.is_ok_and(|state| state == TransactionState::Write)
    }

    fn begin(&mut self, mode: TransactionMode) -> Result<()> {
        self.permit(StatementKind::Read)?;
        let begin = if mode.access == Access::Write { "BEGIN IMMEDIATE" } else { "BEGIN" };
        self.control(begin, Phase::Begin)?;
        self.session.begun(mode.access);
        self.worked = Duration::ZERO;
        Ok(())
    }

    /// Commits; whatever fails, no transaction is open afterwards.
    pub(crate) fn commit(&mut self) -> Result<()> {
        self.commit_if_possible().map_err(|error| self.not_committed(error))
    }

    /// Commits; if it fails, the transaction may be open still.
    fn commit_if_possible(&mut self) -> Result<()> {
        self.watch.look(Mode::Open);
        let committed = self.committing(|connection| connection.prepare_cached("COMMIT")?.raw_execute());
        committed.map_err(|error| error.during(Phase::Commit))?;
        self.session.ended();
        self.plans.committed();
        Ok(())
    }

    /// Rolls back what could not be committed.
    fn not_committed(&mut self, error: Error) -> Error {
        match self.rollback() {
            Err(failed) if error.kind() != ErrorKind::OutcomeUnknown => failed.caused_by(error),
            _ => error,
        }
    }

    pub(crate) fn rollback(&mut self) -> Result<()> {
        self.session.ended();
        self.plans.undone();
        if self.in_transaction() { self.control("ROLLBACK", Phase::Rollback) } else { Ok(()) }
    }

    /// Runs a statement of our own that controls the transaction.
    pub(crate) fn control(&mut self, sql: &str, phase: Phase) -> Result<()> {
        self.watch.look(Mode::Open);
        let done = self.connection.prepare_cached(sql).and_then(|mut statement| statement.raw_execute());
        done.map(|_| self.record_control(sql)).map_err(|error| classify(error).during(phase))
    }
}
