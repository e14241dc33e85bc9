//! A statement that is about to run: prepared, permitted, and with parameters that fit.

use std::sync::Arc;

use rusqlite::Connection;

use super::engine::Engine;
use super::errors::{classify_refused, in_commit};
use super::ffi::commits;
use super::plan::Plan;
use super::watch::{Mode, Watch};
use crate::{Arranged, ArrangedSets, Changes, Result, StatementKind};

/// A prepared statement with its plan.
pub(super) struct Ready<'e> {
    connection: &'e Connection,
    watch: &'e Watch,
    plan: &'e mut Plan,
    prepared: rusqlite::CachedStatement<'e>,
    /// Whether it was not found prepared.
    fresh: bool,
}

/// What [`Ready::run`] hands out.
pub(super) enum Step<'a, 'r> {
    Header(Arc<[Arc<str>]>),
    Row(&'a rusqlite::Row<'r>),
}

impl Engine {
    /// Has a statement prepared, to be run once or several times. `fit` looks at the parameters; some statements act
    /// as soon as they are prepared to run, so it comes before that.
    pub(super) fn ready<T>(&mut self, sql: &Arc<str>, fit: impl FnOnce(&Plan) -> Result<T>) -> Result<(Ready<'_>, T)> {
        let place = self.prepare(sql)?;
        let plan = self.plans.at(place);
        let (kind, fitting) = (plan.kind(), fit(plan)?);
        self.permit(kind)?;
        let Self { connection, watch, plans, session, tally, .. } = self;
        let plan = plans.at(place);
        watch.look(Mode::Open);
        let prepared = connection.prepare_cached(plan.text(sql));
        let prepared = prepared.map_err(|error| classify_refused(error, watch.seen()))?;
        // The authorizer is asked only about a statement that is prepared anew.
        let fresh = watch.seen().anything();
        if fresh { &tally.misses } else { &tally.hits }.add(1);
        watch.mode(Mode::Running);
        session.alter(plan.alters_session());
        Ok((Ready { connection, watch, plan, prepared, fresh }, fitting))
    }

    /// Comes after a statement of this kind has run, however that went.
    pub(super) fn ran(&mut self, kind: StatementKind) {
        if kind == StatementKind::Control {
            self.session.note(self.in_transaction());
            // Not kept prepared: some pragmas act while they are prepared.
            self.connection.flush_prepared_statement_cache();
        }
    }
}

impl Ready<'_> {
    pub(super) fn kind(&self) -> StatementKind {
        self.plan.kind()
    }

    pub(super) fn run(
        &mut self,
        values: &Arranged<'_>,
        take: &mut dyn FnMut(Step<'_, '_>) -> Result<bool>,
    ) -> Result<Changes> {
        self.telling_of_commits(|ready| ready.step(values, take))
    }

    /// Whoever may commit says so if that is where it failed.
    fn telling_of_commits<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.kind() == StatementKind::Read {
            return work(self);
        }
        let before = commits::count(self.connection);
        work(self).map_err(|error| in_commit(error, commits::count(self.connection) != before))
    }

    fn step(&mut self, values: &Arranged<'_>, take: &mut dyn FnMut(Step<'_, '_>) -> Result<bool>) -> Result<Changes> {
        let Self { connection, watch, plan, prepared, fresh } = self;
        plan.bind(prepared, values)?;
        // The header is known only after the first step: SQLite prepares anew there if the schema has changed.
        let mut header_taken = false;
        let mut rows = prepared.raw_query();
        while let Some(row) = rows.next().map_err(|error| classify_refused(error, watch.seen()))? {
            if !header_taken {
                take(Step::Header(plan.header(row.as_ref(), *fresh)))?;
                header_taken = true;
            }
            if !take(Step::Row(row))? {
                break;
            }
        }
        drop(rows);
        if !header_taken {
            take(Step::Header(plan.header(prepared, *fresh)))?;
        }
        Ok(plan.changes(connection, connection.changes()))
    }

    /// Runs it without looking at rows, and says how many it changed.
    fn execute(&mut self, values: &Arranged<'_>) -> Result<u64> {
        let Self { connection, watch, plan, prepared, .. } = self;
        plan.bind(prepared, values)?;
        if prepared.column_count() == 0 {
            prepared.raw_execute().map_err(|error| classify_refused(error, watch.seen()))?;
        } else {
            let mut rows = prepared.raw_query();
            while rows.next().map_err(|error| classify_refused(error, watch.seen()))?.is_some() {}
        }
        Ok(if plan.changes_rows() { connection.changes() } else { 0 })
    }

    /// Runs it once for every set of parameters from number `first` on, until `enough` says so of how many are done.
    /// Says how many that were.
    pub(super) fn run_many(
        &mut self,
        sets: &ArrangedSets<'_>,
        first: usize,
        enough: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(usize, Changes)> {
        let (mut rows, mut done) = (0, 0);
        for values in sets.iter_from(first) {
            let affected = self.telling_of_commits(|ready| ready.execute(&values));
            done += 1;
            rows += affected.map_err(|error| error.context(format_args!("set {} of parameters", first + done)))?;
            if enough(done) {
                break;
            }
        }
        Ok((done, self.plan.changes(self.connection, rows)))
    }
}
