//! A statement that is about to run: what it does, found out by preparing it, whether it may, its steps and rows.

use std::ops::ControlFlow;
use std::sync::Arc;

use rusqlite::types::ValueRef as SqlRef;
use rusqlite::{Connection, StatementStatus};

use super::plan::Plan;
use super::seals::{self, SealCheck};
use super::seen::Seen;
use super::watch::{Mode, Watch};
use super::withhold::withhold;
use crate::connector::{StatementEffort, StatementKind};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::params::{Arranged, ArrangedSets};
use crate::row::{Changes, RowRef, RowSink, RowsBuilder};
use crate::sqlcipher::errors::{self, classify, classify_refused, in_commit};
use crate::sqlcipher::ffi::commits;
use crate::sqlcipher::running::engine::Engine;
use crate::value::ValueRef;

/// A prepared statement with its plan.
pub(crate) struct Ready<'e> {
    connection: &'e Connection,
    watch: &'e Watch,
    plan: &'e mut Plan,
    prepared: rusqlite::CachedStatement<'e>,
    /// How many statements the connection has prepared until now.
    statements: u64,
    seals: SealCheck,
    /// How many steps of SQLite's machine the last run took.
    steps: u32,
}

/// What a statement changed; and of one that writes, why its rows could not be read, which is no failure of its own.
pub(crate) type Effect = (Changes, Option<Error>);

/// What [`Ready::run`] hands out.
pub(crate) enum RowStep<'a, 'r> {
    Header(Arc<[Arc<str>]>),
    /// With whether the statement only reads.
    Row(&'a rusqlite::Row<'r>, bool),
}

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
            Err(_) if seen.walks() => Ok(ControlFlow::Break(StatementKind::Read)),
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

    /// Has a statement prepared, to be run once or several times. `fit` looks at the parameters; some statements act
    /// as soon as they are prepared to run, so it comes before that.
    pub(crate) fn ready<T>(&mut self, sql: &Arc<str>, fit: impl FnOnce(&Plan) -> Result<T>) -> Result<(Ready<'_>, T)> {
        let place = self.prepare(sql)?;
        let plan = self.plans.at(place);
        let (kind, writes, fitting) = (plan.kind(), plan.writes(), fit(plan)?);
        self.permit(kind)?;
        self.permit_writing(writes)?;
        // Preparing it anew may act again.
        let seen = self.plans.at(place).seen();
        self.session.alter(self.outlives(seen));
        let only_reads_here = kind == StatementKind::Read && !self.in_transaction() && !self.way.only_reads();
        let Self { connection, watch, plans, tally, .. } = self;
        let plan = plans.at(place);
        watch.look(Mode::Open);
        let prepared = connection.prepare_cached(plan.text(sql));
        let prepared = prepared.map_err(|error| classify_refused(error, watch.seen()))?;
        // The authorizer is asked only about a statement that is prepared anew.
        let fresh = watch.seen().anything();
        tally.run(connection, !fresh);
        let statements = plans.prepared(fresh);
        let plan = plans.at(place);
        watch.mode(Mode::Running);
        let seals = SealCheck::before(connection, watch.is_encrypted() && !plan.is_pragma(), only_reads_here);
        Ok((Ready { connection, watch, plan, prepared, statements, seals, steps: 0 }, fitting))
    }

    /// Comes after such a statement has run, however that went.
    pub(crate) fn ran(&mut self, (kind, seen): (StatementKind, Seen)) {
        if seen.defines() {
            self.plans.defined();
        }
        if kind == StatementKind::Control {
            self.session.note(self.in_transaction());
            self.plans.undone();
        }
        if kind == StatementKind::Control || seen.is_bounded() {
            // Not kept prepared: some pragmas act while they are prepared.
            self.connection.flush_prepared_statement_cache();
        }
    }
}

impl Ready<'_> {
    /// What is to be told to [`Engine::ran`].
    pub(crate) fn facts(&self) -> (StatementKind, Seen) {
        (self.plan.kind(), self.plan.seen())
    }

    fn kind(&self) -> StatementKind {
        self.plan.kind()
    }

    pub(crate) fn may_stop_halfway(&self) -> bool {
        self.plan.may_stop_halfway()
    }

    pub(crate) fn run(
        &mut self,
        values: &Arranged<'_>,
        take: &mut dyn FnMut(RowStep<'_, '_>) -> Result<bool>,
    ) -> Result<Effect> {
        let effect = self.telling_of_commits(|ready| ready.step(values, take));
        self.steps = self.take_steps();
        if effect.is_ok() {
            self.plan.learn(self.steps);
        }
        effect
    }

    /// The same, and keeps what it cost.
    pub(crate) fn run_measured(
        &mut self,
        values: &Arranged<'_>,
        take: &mut dyn FnMut(RowStep<'_, '_>) -> Result<bool>,
    ) -> Result<Effect> {
        // What earlier runs have left behind that nobody measured.
        self.take_effort();
        let effect = self.run(values, take);
        self.plan.effort = self.take_effort();
        effect
    }

    fn take_effort(&mut self) -> Option<StatementEffort> {
        if self.plan.is_empty() {
            return None;
        }
        let take = |count| u64::from(self.prepared.reset_status(count).cast_unsigned());
        let mut effort = StatementEffort { machine_steps: self.steps.into(), ..StatementEffort::default() };
        effort.full_scan_steps = take(StatementStatus::FullscanStep);
        effort.sorts = take(StatementStatus::Sort);
        effort.automatic_index_rows = take(StatementStatus::AutoIndex);
        Some(effort)
    }

    /// How many steps of SQLite's machine were taken since the last time.
    fn take_steps(&mut self) -> u32 {
        // Without a statement there is nothing to ask.
        if self.plan.is_empty() { 0 } else { self.prepared.reset_status(StatementStatus::VmStep).cast_unsigned() }
    }

    /// Whether it may commit: inside a transaction only what ends it does.
    fn commits(&self) -> bool {
        match self.kind() {
            StatementKind::Read => false,
            StatementKind::Write => self.connection.is_autocommit(),
            _ => true,
        }
    }

    /// Has the error of a statement that may commit say whether the commit is what failed.
    fn telling_of_commits<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if !self.commits() {
            return work(self);
        }
        let before = commits::count(self.connection);
        work(self).map_err(|error| in_commit(error, commits::count(self.connection) != before, self.connection))
    }

    fn step(&mut self, values: &Arranged<'_>, take: &mut dyn FnMut(RowStep<'_, '_>) -> Result<bool>) -> Result<Effect> {
        let commits = self.commits();
        let Self { connection, watch, plan, prepared, statements, .. } = self;
        plan.bind(prepared, values)?;
        if plan.is_empty() {
            take(RowStep::Header(Arc::from([])))?;
            return Ok((Changes::default(), None));
        }
        let reads = plan.kind() == StatementKind::Read;
        let forgotten = plan.forget_last_id(connection);
        // The header is known only after the first step: SQLite prepares anew there if the schema has changed.
        let (mut header_taken, mut unread) = (false, None);
        let mut rows = prepared.raw_query();
        while let Some(row) = rows.next().map_err(|error| failed(error, watch, plan, values))? {
            if !header_taken {
                take(RowStep::Header(plan.header(row.as_ref(), *statements)))?;
                header_taken = true;
            }
            match take(RowStep::Row(row, reads)) {
                Ok(true) => continue,
                Ok(false) if reads || !commits => break,
                Ok(false) => {}
                Err(error) if reads => return Err(error),
                // All that it writes was written before its first row. Source: "RETURNING", section 3 (processing order).
                Err(error) => unread = Some(error),
            }
            // To end it here would commit too, and hide how that went.
            while rows.next().map_err(|error| failed(error, watch, plan, values))?.is_some() {}
            break;
        }
        drop(rows);
        if let Err(damage) = self.look_at_seals() {
            if reads || !commits {
                return Err(damage);
            }
            unread = Some(damage);
        }
        let Self { connection, plan, prepared, statements, .. } = self;
        if !header_taken {
            take(RowStep::Header(plan.header(prepared, *statements)))?;
        }
        Ok((plan.changes(connection, connection.changes(), forgotten.as_ref()), unread))
    }

    /// Fails if the statement has met a page that is not what was written.
    #[inline]
    fn look_at_seals(&self) -> Result<()> {
        if self.seals.are_broken(self.connection) { Err(seals::broken()) } else { Ok(()) }
    }

    /// Runs it without looking at rows, and says how many it changed.
    fn execute(&mut self, values: &Arranged<'_>) -> Result<u64> {
        let Self { watch, plan, prepared, .. } = self;
        plan.bind(prepared, values)?;
        if plan.is_empty() {
            return Ok(0);
        }
        if prepared.column_count() == 0 {
            prepared.raw_execute().map_err(|error| failed(error, watch, plan, values))?;
        } else {
            let mut rows = prepared.raw_query();
            while rows.next().map_err(|error| failed(error, watch, plan, values))?.is_some() {}
        }
        self.look_at_seals()?;
        let Self { connection, plan, .. } = self;
        Ok(if plan.changes_rows() { connection.changes() } else { 0 })
    }

    /// Runs it once for every set of parameters from number `first` on, until `enough` says so of how many are done.
    /// Says how many that were.
    pub(crate) fn run_many(
        &mut self,
        sets: &ArrangedSets<'_>,
        first: usize,
        enough: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(usize, Changes)> {
        let (mut rows, mut done) = (0, 0);
        let forgotten = self.plan.forget_last_id(self.connection);
        // A transaction that is open stays open until a set fails.
        let commits = self.commits();
        for values in sets.iter_from(first) {
            let affected =
                if commits { self.telling_of_commits(|ready| ready.execute(&values)) } else { self.execute(&values) };
            done += 1;
            rows += affected.map_err(|error| error.context(format_args!("set {} of parameters", first + done)))?;
            if enough(done) {
                break;
            }
        }
        // They are not those of one run.
        self.take_steps();
        Ok((done, self.plan.changes(self.connection, rows, forgotten.as_ref())))
    }
}

/// Classifies the error of a statement that ran with these values.
#[cold]
fn failed(error: rusqlite::Error, watch: &Watch, plan: &Plan, values: &Arranged<'_>) -> Error {
    classify_refused(withhold(error, &mut plan.bound(values)), watch.seen())
}

/// Copies one row into the result.
pub(crate) fn push_row(builder: &mut RowsBuilder, row: &rusqlite::Row<'_>) -> Result<()> {
    for index in 0..row.as_ref().column_count() {
        builder.push(cell(row, index)?);
    }
    Ok(())
}

/// Shows one row to a sink; says whether it wants another.
pub(crate) fn show_row(sink: &mut dyn RowSink, columns: &[Arc<str>], row: &rusqlite::Row<'_>) -> Result<bool> {
    // Most rows are narrow, and need no memory for their cells.
    match columns.len() {
        0..=2 => show_in(&mut [ValueRef::Null; 2], sink, columns, row),
        3..=4 => show_in(&mut [ValueRef::Null; 4], sink, columns, row),
        5..=8 => show_in(&mut [ValueRef::Null; 8], sink, columns, row),
        wide => show_in(&mut vec![ValueRef::Null; wide], sink, columns, row),
    }
}

fn show_in<'r>(
    room: &mut [ValueRef<'r>],
    sink: &mut dyn RowSink,
    columns: &'r [Arc<str>],
    row: &'r rusqlite::Row<'_>,
) -> Result<bool> {
    let cells = &mut room[..columns.len()];
    for (index, place) in cells.iter_mut().enumerate() {
        *place = cell(row, index)?;
    }
    Ok(sink.take(RowRef::new(columns, cells)))
}

#[inline]
fn cell<'r>(row: &'r rusqlite::Row<'_>, index: usize) -> Result<ValueRef<'r>> {
    Ok(match row.get_ref(index).map_err(classify)? {
        SqlRef::Null => ValueRef::Null,
        SqlRef::Integer(value) => ValueRef::Integer(value),
        SqlRef::Real(value) => ValueRef::Real(value),
        SqlRef::Blob(value) => ValueRef::Blob(value),
        SqlRef::Text(text) => ValueRef::Text(std::str::from_utf8(text).map_err(|_| not_utf8(index))?),
    })
}

#[cold]
fn not_utf8(index: usize) -> Error {
    let message = format!("column number {index} holds text that is not UTF-8");
    Error::new(ErrorKind::Query, message).because(Reason::Type).hint("select cast(column as blob) to read its bytes")
}
