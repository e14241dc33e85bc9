//! The synchronous side of a connection: statements in, rows out. Runs on a thread that may block.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::fallible_iterator::FallibleIterator;

use super::checkpoint::{Log, WORTH_COPYING};
use super::control::Control;
use super::errors::{self, classify, classify_refused, in_commit, poisons};
use super::ffi::{commits, running};
use super::inline::KeptSnapshot;
use super::plan::{self, Plan, Plans};
use super::ready::Step;
use super::session::Session;
use super::stats::Tally;
use super::tuning::Checkpoints;
use super::watch::{Mode, Watch};
use crate::{Changes, Error, ErrorKind, ParamSets, Reason, Result, Rows, RowsBuilder, Statement, StatementKind};

/// One SQLite connection with what is known of its statements.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) connection: Connection,
    pub(super) watch: Arc<Watch>,
    pub(super) plans: Plans,
    pub(super) kept: KeptSnapshot,
    pub(super) tally: Arc<Tally>,
    pub(super) session: Session,
    /// Who copies the log into the file.
    pub(super) checkpoints: Checkpoints,
    pub(super) log: Arc<Log>,
}

/// What SQLite counts between two questions whether to stop: some twenty microseconds of work.
const STEPS_BETWEEN_QUESTIONS: i32 = 1000;

impl Engine {
    pub(super) fn new(connection: Connection, watch: Arc<Watch>, tally: Arc<Tally>, log: Arc<Log>) -> Self {
        let (plans, kept, session) = (Plans::default(), KeptSnapshot::default(), Session::default());
        Self { connection, watch, plans, kept, tally, session, checkpoints: Checkpoints::default(), log }
    }

    /// Puts our handlers in place.
    pub(super) fn install(&mut self, control: &Arc<Control>, busy_timeout: Duration) -> rusqlite::Result<()> {
        let (progress, busy, watch) = (Arc::clone(control), Arc::clone(control), Arc::clone(&self.watch));
        running::ask(&mut self.connection, STEPS_BETWEEN_QUESTIONS, move || progress.should_stop())?;
        let mut since = None;
        self.connection
            .busy_handler(Some(move |tries: i32| busy.wait_for_lock(tries.unsigned_abs(), busy_timeout, &mut since)))?;
        self.connection.authorizer(Some(move |context: rusqlite::hooks::AuthContext<'_>| watch.judge(&context)))
    }

    pub(super) fn raw(&mut self) -> &mut Connection {
        &mut self.connection
    }

    pub(super) fn into_raw(self) -> Connection {
        self.connection
    }

    /// Whether a transaction of the caller's is open; a kept snapshot is none.
    pub(super) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit() && !self.keeps_snapshot()
    }

    /// The connection, for a caller who is not watched: it counts as altered.
    pub(super) fn give_away(&mut self) -> &mut Connection {
        self.watch.look(Mode::Open);
        self.session.alter(true);
        &mut self.connection
    }

    /// Takes the session as it is for how it shall be.
    pub(super) fn baseline(&mut self) {
        if self.session.is_altered() {
            self.session.accept(&self.connection);
        }
    }

    /// Whether the file was moved, replaced or deleted under the connection.
    pub(super) fn has_moved(&self) -> bool {
        let mut moved = 0;
        let asked = self.connection.file_control(Some(rusqlite::MAIN_DB), rusqlite::FileControl::HasMoved(&mut moved));
        asked.is_ok() && moved != 0
    }

    /// Whether SQLCipher has given the connection up, because it met a page that it could not authenticate. It may have
    /// said so in an integrity check only.
    pub(super) fn is_given_up(&self) -> bool {
        let status = || self.connection.prepare_cached("PRAGMA cipher_status")?.query_row((), |row| row.get(0));
        self.watch.is_encrypted() && status().is_ok_and(|status: String| status == "0")
    }

    /// Sees to it that a connection that met damage without an error is closed instead of lent again.
    pub(super) fn retire_if_given_up(&mut self) {
        self.session.alter(self.is_given_up());
    }

    /// Whether the connection must not be used again after this error. What cannot be written stays so for the
    /// connection that was told, also when the file can be written again.
    pub(super) fn is_spoiled_by(&self, error: &Error) -> bool {
        if error.reason() == Reason::Io && self.session.index().is_some() {
            self.log.distrust(&self.connection);
        }
        let read_only = || self.connection.is_readonly(rusqlite::MAIN_DB).unwrap_or(false);
        poisons(error) || (error.reason() == Reason::NotWritable && (self.is_given_up() || read_only()))
    }

    /// Prepares `sql` without letting it do anything, and says what it would do.
    pub(super) fn classify(&mut self, sql: &str) -> Result<StatementKind> {
        if let Some(plan) = self.plans.get(sql) {
            return Ok(plan.kind());
        }
        self.watch.look(Mode::Guarded);
        let prepared = Plan::prepare(sql, &self.connection, &self.watch);
        let seen = self.watch.seen();
        let plan = match prepared {
            Err(_) if seen.refusal().is_none() && seen.kind(true) == StatementKind::Control => {
                return Ok(StatementKind::Control);
            }
            prepared => prepared?,
        };
        let kind = plan.kind();
        self.plans.remember(sql.into(), plan);
        Ok(kind)
    }

    /// Where the plan of a statement is, made by preparing it if need be. May act: some pragmas do while they are
    /// prepared.
    pub(super) fn prepare(&mut self, sql: &Arc<str>) -> Result<usize> {
        if let Some(place) = self.plans.find(sql) {
            return Ok(place);
        }
        self.watch.look(Mode::Open);
        let prepared = Plan::prepare(sql, &self.connection, &self.watch);
        // Some pragmas act while they are prepared, also in a text that is then refused.
        self.session.alter(self.watch.seen().alters_session());
        Ok(self.plans.remember(Arc::clone(sql), prepared?))
    }

    /// What a statement does; for one that is about to run.
    pub(super) fn kind(&mut self, sql: &Arc<str>) -> Result<StatementKind> {
        let place = self.prepare(sql)?;
        Ok(self.plans.at(place).kind())
    }

    /// Refuses what may not run where it would run now.
    pub(super) fn permit(&self, kind: StatementKind) -> Result<()> {
        self.session.permit(kind, || self.in_transaction())
    }

    /// Runs one statement and hands its rows to `take`, which says whether to go on.
    fn stepping(
        &mut self,
        statement: &Statement,
        take: &mut dyn FnMut(Step<'_, '_>) -> Result<bool>,
    ) -> Result<Changes> {
        let Statement { sql, params } = statement;
        let (mut ready, values) = self.ready(sql, |plan| plan.values(params))?;
        let (kind, changes) = (ready.kind(), ready.run(&values, take));
        drop(ready);
        self.ran(kind);
        changes
    }

    /// Runs one statement and collects its rows.
    pub(super) fn run(&mut self, statement: &Statement) -> Result<Rows> {
        let mut builder = None;
        let changes = self.stepping(statement, &mut |step| match step {
            Step::Header(header) => {
                builder = Some(RowsBuilder::with_header(header));
                Ok(true)
            }
            Step::Row(row) => {
                if let Some(builder) = &mut builder {
                    plan::push_row(builder, row)?;
                }
                Ok(true)
            }
        })?;
        let mut builder = builder.unwrap_or_else(|| RowsBuilder::with_header(Arc::from([])));
        builder.changes(changes);
        Ok(builder.finish())
    }

    /// Runs one statement and hands its rows over in chunks, until `send` says that nobody wants more.
    pub(super) fn run_in_chunks(
        &mut self,
        statement: &Statement,
        chunk: usize,
        send: &mut dyn FnMut(Rows) -> bool,
    ) -> Result<()> {
        let mut builder: Option<RowsBuilder> = None;
        self.stepping(statement, &mut |step| match step {
            Step::Header(header) => {
                builder = Some(RowsBuilder::with_header(header));
                Ok(true)
            }
            Step::Row(row) => {
                let Some(filling) = &mut builder else { return Ok(false) };
                plan::push_row(filling, row)?;
                if filling.len() < chunk {
                    return Ok(true);
                }
                let empty = RowsBuilder::with_header(filling.header());
                Ok(send(std::mem::replace(filling, empty).finish()))
            }
        })?;
        if let Some(rest) = builder.filter(|rest| !rest.is_empty()) {
            send(rest.finish());
        }
        Ok(())
    }

    /// Runs one statement with many sets of parameters, from number `first` on, until `enough` says so of how many are
    /// done. Says how many that were.
    pub(super) fn run_many(
        &mut self,
        sql: &Arc<str>,
        sets: &ParamSets,
        first: usize,
        enough: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(usize, Changes)> {
        let (mut ready, sets) = self.ready(sql, |plan| plan.all_values(sets))?;
        let (kind, outcome) = (ready.kind(), ready.run_many(&sets, first, enough));
        drop(ready);
        self.ran(kind);
        outcome
    }

    /// Runs a text of several statements. Inside a transaction it may not end it.
    pub(super) fn run_script(&mut self, sql: &str) -> Result<()> {
        plan::refuse_nul(sql)?;
        let keeps = self.keeps_snapshot();
        let Self { connection, watch, session, .. } = self;
        let open = || !connection.is_autocommit() && !keeps;
        let mode = if open() { Mode::Guarded } else { Mode::Open };
        let mut rest = rusqlite::Batch::new(connection, sql);
        loop {
            watch.look(mode);
            let next = rest.next().map_err(|error| match watch.seen() {
                seen if mode == Mode::Guarded
                    && seen.refusal().is_none()
                    && seen.kind(true) == StatementKind::Control =>
                {
                    Error::new(
                        ErrorKind::Unsupported,
                        "a script inside a transaction cannot end it or alter the session",
                    )
                    .because(Reason::Control)
                    .hint("use the transaction's own commit and rollback")
                }
                seen => classify_refused(error, seen),
            })?;
            let Some(mut statement) = next else { return Ok(()) };
            let seen = watch.seen();
            session.alter(seen.alters_session());
            let kind = seen.kind(statement.readonly());
            session.permit(kind, open)?;
            watch.mode(Mode::Running);
            let before = commits::count(connection);
            let mut rows = statement.raw_query();
            let outcome = loop {
                match rows.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(error) => {
                        let error = classify_refused(error, watch.seen());
                        break Err(in_commit(error, commits::count(connection) != before));
                    }
                }
            };
            if kind == StatementKind::Control {
                session.note(open());
            }
            outcome?;
        }
    }

    pub(super) fn table_exists(&mut self, name: &str) -> Result<bool> {
        self.watch.look(Mode::Open);
        let sql = "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE";
        let found = self.connection.prepare_cached(sql).and_then(|mut statement| statement.exists([name]));
        found.map_err(classify)
    }

    /// Calls `user` with the raw connection, and puts back what it may have taken away.
    pub(super) fn interact<T>(
        &mut self,
        control: &Arc<Control>,
        busy_timeout: Duration,
        user: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let was_lost = self.session.has_lost_transaction(self.in_transaction());
        self.watch.look(Mode::Open);
        let before = commits::count(&self.connection);
        let outcome = user(&mut self.connection).map_err(|error| {
            let may_commit = errors::may_come_from_a_commit(&error) && self.connection.is_autocommit();
            let begun = may_commit && commits::count(&self.connection) != before;
            in_commit(classify_refused(error, self.watch.seen()), begun)
        });
        let seen = self.watch.seen();
        self.watch.look(Mode::Open);
        let still_watched = self.connection.prepare("SELECT 1").is_ok() && self.watch.seen().anything();
        self.session.alter(seen.alters_session() || !still_watched);
        self.retire_if_given_up();
        self.plans.forget();
        self.connection.flush_prepared_statement_cache();
        if !was_lost || self.in_transaction() {
            self.session.note(self.in_transaction());
        }
        self.install(control, busy_timeout).map_err(classify)?;
        outcome
    }

    /// The goodbye of a connection that wrote: statistics for the planner, and the log folded into the file.
    pub(super) fn settle(&mut self) -> rusqlite::Result<()> {
        self.watch.look(Mode::Open);
        self.connection.execute_batch("PRAGMA optimize")?;
        if self.checkpoints == Checkpoints::External {
            return Ok(());
        }
        self.log.checkpoint(&self.connection, "TRUNCATE").map(drop)
    }

    /// Copies a long log where the commit that made it long does that.
    pub(super) fn checkpoint_if_due(&mut self) {
        let due = || self.session.index().is_some_and(|index| index.pending(&index.mark()) >= WORTH_COPYING);
        if self.checkpoints == Checkpoints::AtCommit && self.connection.is_autocommit() && due() {
            self.watch.look(Mode::Open);
            // Who wrote is served either way, and the log is kept; whoever looks after the disk was told.
            self.log.checkpoint(&self.connection, "PASSIVE").ok();
        }
    }

    /// Keeps SQLite from copying the log by itself when this is the last connection, if it would copy too little.
    pub(super) fn keep_log_if_distrusted(&self) -> rusqlite::Result<()> {
        if self.log.is_trusted(&self.connection) {
            return Ok(());
        }
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
    }
}
