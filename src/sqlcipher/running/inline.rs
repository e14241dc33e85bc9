//! Short statements on the caller's own task: no thread, no wake-up, and for reads mostly no transaction either.
//!
//! What runs here has a budget and waits for nobody. Whatever does not fit is given up and runs again on a thread; it
//! has had no effect until then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::Control;
use super::engine::{Engine, STEPS_BETWEEN_QUESTIONS};
use crate::connector::{EngineEvent, Statement, StatementKind};
use crate::error::{ErrorKind, Result};
use crate::params::ParamSets;
use crate::row::Changes;
use crate::sqlcipher::ffi::wal_index::{Mark, WalIndex};
use crate::sqlcipher::log::checkpoint::EngineNews;
use crate::sqlcipher::log::snapshot::LONGEST_LOG;
use crate::sqlcipher::statement::watch::Mode;
use crate::sqlcipher::tuning::Checkpoints;
use crate::turn;

/// How long a bulk insert keeps the runtime's thread at a time.
const SLICE: Duration = Duration::from_micros(100);

/// When two slices, or two writes in transactions, in a row take longer than this, as when the disk is slow, they are the
/// last ones for a while.
const LONG: Duration = Duration::from_millis(2);

/// How many sets run between two looks at the clock.
const BETWEEN_LOOKS: usize = 32;

/// More than this of values, in bytes, is written on a thread.
const MOST_INSIDE: usize = 64 << 10;

/// A read that is known to take so many steps, some two microseconds, is measured: others wait for its thread.
const MEASURED: u32 = 100;

/// What a connection may do inline.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each read by its own caller")]
pub(crate) struct InlineRights {
    /// Short reads.
    pub(crate) reads: bool,
    /// Short writes that commit by themselves without waiting for the disk, and commits.
    pub(crate) writes: bool,
    /// Short writes in transactions, which wait for nothing before the commit.
    pub(crate) inside: bool,
    /// Short writes and commits that wait for the disk, on a thread that the runtime can do without.
    pub(crate) in_place: bool,
    /// Keep the snapshot of a read for the next one.
    pub(crate) keep: bool,
    /// The file was opened as unchanging, and another process may write to it all the same.
    pub(crate) change: bool,
}

impl Engine {
    /// Runs a statement here by `run`, unless it is known to be long. `None`: it has had no effect; run it on a thread.
    pub(crate) fn run_inline<T>(
        &mut self,
        statement: &Statement,
        control: &Control,
        may: InlineRights,
        run: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Option<Result<T>> {
        let in_transaction = self.in_transaction();
        let may_write = !in_transaction && may.writes && !self.is_checkpoint_due();
        let plan = self.plans.get(&statement.sql)?;
        let allowed = match plan.kind() {
            StatementKind::Write if in_transaction => {
                return if may.inside { self.write_inside(statement, control, run) } else { None };
            }
            StatementKind::Read => may.reads,
            StatementKind::Write => may_write,
            _ => false,
        };
        if !allowed || !plan.try_inline() {
            return None;
        }
        let (reads, steps) = (plan.kind() == StatementKind::Read, plan.cost());
        if reads && !in_transaction && self.freshen(may.keep).is_err() {
            return None;
        }
        let (outcome, stopped) = {
            let began = (!reads || steps >= MEASURED).then(Instant::now);
            let done = control.inline_beyond(steps / STEPS_BETWEEN_QUESTIONS, || run(self));
            if let Some(began) = began {
                turn::took(began.elapsed());
            }
            done
        };
        match outcome {
            // The file has changed meanwhile: what runs on a thread gets that as its error.
            Ok(_) if !self.is_still() => None,
            Ok(rows) => {
                self.tally.inline.add(1);
                Some(Ok(rows))
            }
            Err(error) => {
                self.end_snapshot();
                if stopped {
                    self.plans.get(&statement.sql)?.was_stopped();
                }
                let elsewhere = match error.kind() {
                    // It may be done already, and is never done twice.
                    ErrorKind::OutcomeUnknown => false,
                    ErrorKind::Busy | ErrorKind::Serialization => true,
                    _ => stopped,
                };
                if elsewhere { None } else { Some(Err(error)) }
            }
        }
    }

    /// Runs a write of the open transaction here. To stop it would cost the whole transaction, so that it runs only if
    /// it cannot be long: each step of its program is taken once. `None`: not to be run here.
    fn write_inside<T>(
        &mut self,
        statement: &Statement,
        control: &Control,
        run: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Option<Result<T>> {
        let sql = &statement.sql;
        let place = self.plans.find(sql)?;
        if !self.is_writing() {
            return None;
        }
        self.watch.look(Mode::Open);
        let plan = self.plans.at(place);
        if plan.bytes(&statement.params) > MOST_INSIDE
            || !plan.goes_straight(&self.connection, sql)
            || !plan.try_inline()
        {
            return None;
        }
        let began = Instant::now();
        let outcome = control.inline_to_the_end(|| run(self));
        let took = began.elapsed();
        turn::took(took);
        self.worked += took;
        if let Some(plan) = self.plans.get(sql) {
            plan.took_long(took > LONG);
        }
        self.tally.inline.add(1);
        Some(outcome)
    }

    /// Runs sets of a plain insert here for about as long as [`SLICE`]. `None`: not to be run here.
    ///
    /// In a transaction that writes already, none of them waits for a lock. They have no budget: to be stopped would
    /// cost the transaction.
    pub(crate) fn run_many_inline(
        &mut self,
        sql: &Arc<str>,
        sets: &ParamSets,
        first: usize,
    ) -> Option<Result<(usize, Changes)>> {
        let writes = self.is_writing();
        let plan = self.plans.get(sql)?;
        if !writes || !plan.only_inserts() || !plan.try_inline() {
            return None;
        }
        let began = Instant::now();
        let mut enough = |done: usize| done.is_multiple_of(BETWEEN_LOOKS) && began.elapsed() > SLICE;
        let outcome = self.run_many(sql, sets, first, &mut enough);
        self.tally.inline.add(1);
        let took = began.elapsed();
        self.worked += took;
        if let Some(plan) = self.plans.get(sql) {
            plan.took_long(took > LONG);
        }
        Some(outcome)
    }

    /// Sees to it that a read sees everything committed before this moment: in the kept transaction, in a new one to be
    /// kept, or in none.
    fn freshen(&mut self, may_keep: bool) -> rusqlite::Result<()> {
        let now = self.session.index().map(WalIndex::mark);
        self.kept.used = true;
        if may_keep && now.is_some() && now == self.kept.since {
            self.tally.kept.add(1);
            return Ok(());
        }
        self.end_snapshot();
        if self.keeps_snapshot() {
            return Err(rusqlite::Error::InvalidQuery);
        }
        // A long log can start over only when no reader is left in it.
        if may_keep && now.is_some_and(|now| !self.log_is_long(&now)) {
            // The mark was taken before the transaction begins, so it is never newer than what the transaction sees.
            self.transaction_control("BEGIN")?;
            self.kept.since = now;
            self.note_kept();
        }
        Ok(())
    }

    pub(crate) fn keeps_snapshot(&self) -> bool {
        self.kept.since.is_some()
    }

    /// Ends the kept transaction, if there is one. If it is still kept afterwards, the connection is of no use any more.
    pub(crate) fn end_snapshot(&mut self) {
        // It only read, so ending it either way loses nothing.
        let end = |engine: &mut Self| {
            engine.transaction_control("COMMIT").or_else(|_| engine.transaction_control("ROLLBACK")).is_ok()
        };
        if self.keeps_snapshot() && end(self) {
            self.kept.since = None;
            if let Some(began) = self.kept.began.take() {
                self.news.push(EngineEvent::SnapshotEnded { kept: began.elapsed() });
            }
        }
    }

    fn note_kept(&mut self) {
        if self.log.listener().is_some() {
            self.kept.began = Some(Instant::now());
            self.news.push(EngineEvent::SnapshotKept);
        }
    }

    /// What observers have to be told once the engine is free.
    #[inline]
    pub(crate) fn take_news(&mut self) -> Option<EngineNews> {
        if self.news.is_empty() { None } else { self.log.news(std::mem::take(&mut self.news)) }
    }

    /// Ends the kept transaction unless it was used since the last call; says whether it is still open.
    pub(crate) fn sweep_snapshot(&mut self) -> bool {
        if !std::mem::take(&mut self.kept.used) {
            self.end_snapshot();
        }
        self.keeps_snapshot()
    }

    /// Outside of any budget: an interrupted COMMIT would leave the snapshot open.
    fn transaction_control(&mut self, sql: &str) -> rusqlite::Result<()> {
        self.watch.mode(Mode::Running);
        self.connection.prepare_cached(sql)?.raw_execute().map(drop)
    }

    fn log_is_long(&self, mark: &Mark) -> bool {
        self.session.index().is_some_and(|index| index.pending(mark) > LONGEST_LOG)
    }

    /// Whether the next commit may be the one that checkpoints.
    pub(crate) fn is_checkpoint_due(&self) -> bool {
        self.checkpoints == Checkpoints::AtCommit
            && self.session.index().is_some_and(|index| self.log_is_long(&index.mark()))
    }

    /// How many frames of the log wait for somebody else to copy them.
    pub(crate) fn frames_to_copy(&self) -> u32 {
        let index = self.session.index().filter(|_| self.checkpoints == Checkpoints::Background);
        index.map_or(0, |index| index.pending(&index.mark()))
    }
}
