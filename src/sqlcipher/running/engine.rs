//! The synchronous side of a connection: statements in, rows out. Runs on a thread that may block, or for a short while on
//! the task of the caller.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::hooks::Wal;
use rusqlite::{Connection, MAIN_DB};

use super::closing::ClosedInOrder;
use super::control::Control;
use super::session::{KeptSnapshot, Session, Sharing};
use crate::connector::{EngineEvent, Statement, StatementKind};
use crate::error::Result;
use crate::feed::ChangeFeed;
use crate::params::{Arranged, ParamSets};
use crate::row::{Changes, RowSink, Rows, RowsBuilder};
use crate::sqlcipher::changes::recorder::Recorder;
use crate::sqlcipher::changes::touched::Ran;
use crate::sqlcipher::errors::classify;
use crate::sqlcipher::ffi::{commits, running};
use crate::sqlcipher::log::checkpoint::{Log, WORTH_COPYING};
use crate::sqlcipher::opening::reading::Still;
use crate::sqlcipher::opening::way::Way;
use crate::sqlcipher::statement::plan::Plans;
use crate::sqlcipher::statement::ready::{Effect, Ready, RowStep, push_row, show_row};
use crate::sqlcipher::statement::watch::{Mode, Watch};
use crate::sqlcipher::stats::Tally;
use crate::sqlcipher::tuning::Checkpoints;

/// One SQLite connection with what is known of its statements.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Tells that the file is open, and so ends before it is closed.
    pub(crate) open: Arc<()>,
    pub(crate) connection: ClosedInOrder,
    pub(crate) watch: Arc<Watch>,
    pub(crate) plans: Plans,
    pub(crate) kept: KeptSnapshot,
    pub(crate) tally: Arc<Tally>,
    pub(crate) session: Session,
    /// How long the statements of the open transaction have run, as far as they may have written.
    pub(crate) worked: Duration,
    /// How many statements stay prepared.
    pub(crate) statement_cache: usize,
    /// Who copies the log into the file.
    pub(crate) checkpoints: Checkpoints,
    pub(crate) log: Arc<Log>,
    pub(crate) way: Way,
    /// What the connection takes for unchanging, if anything.
    pub(crate) still: Option<Still>,
    /// Records what it commits, while somebody listens.
    pub(crate) recorder: Option<Box<Recorder>>,
    /// SQLite's count of others' commits when it was last asked for listeners.
    pub(crate) seen_version: Option<u32>,
    pub(crate) sharing: Sharing,
    /// How many commits there were when the raw connection was first handed out, to be used where nobody watches.
    pub(crate) given_away: Option<i32>,
    /// What was done beside the calls, and is not told yet.
    pub(crate) news: Vec<EngineEvent>,
}

/// What SQLite counts between two questions whether to stop: some twenty microseconds of work.
pub(super) const STEPS_BETWEEN_QUESTIONS: u32 = 1000;

impl Engine {
    pub(crate) fn new(connection: Connection, watch: Arc<Watch>, tally: Arc<Tally>, log: Arc<Log>) -> Self {
        let (plans, kept, session) = (Plans::default(), KeptSnapshot::default(), Session::default());
        Self {
            open: Arc::default(),
            connection: ClosedInOrder::new(connection),
            watch,
            plans,
            kept,
            tally,
            session,
            worked: Duration::ZERO,
            statement_cache: 0,
            checkpoints: Checkpoints::default(),
            log,
            way: Way::default(),
            still: None,
            recorder: None,
            seen_version: None,
            sharing: Sharing::default(),
            given_away: None,
            news: Vec::new(),
        }
    }

    /// Puts our handlers in place.
    pub(crate) fn install(&mut self, control: &Arc<Control>, busy_timeout: Duration) -> rusqlite::Result<()> {
        let (progress, busy, watch) = (Arc::clone(control), Arc::clone(control), Arc::clone(&self.watch));
        running::ask(&mut self.connection, STEPS_BETWEEN_QUESTIONS.cast_signed(), move || progress.should_stop())?;
        let (mut since, log) = (None, Arc::clone(&self.log));
        self.connection.busy_handler(Some(move |tries: i32| {
            busy.wait_for_lock(tries.unsigned_abs(), busy_timeout, &mut since, || log.is_being_copied())
        }))?;
        self.connection.authorizer(Some(move |context: rusqlite::hooks::AuthContext<'_>| watch.judge(&context)))?;
        self.install_recorder()
    }

    pub(crate) fn raw(&mut self) -> &mut Connection {
        &mut self.connection
    }

    pub(crate) fn close(self) -> rusqlite::Result<()> {
        drop(self.open);
        self.connection.close()
    }

    /// Closes the file for good.
    pub(crate) fn let_go(&mut self) -> Result<()> {
        let nothing = ClosedInOrder::new(Connection::open_in_memory().map_err(classify)?);
        self.session.accept(None);
        let file = std::mem::replace(&mut self.connection, nothing);
        file.close().map_err(classify)
    }

    /// Whether a transaction of the caller's is open; a kept snapshot is none.
    pub(crate) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit() && !self.keeps_snapshot()
    }

    /// The connection, for a caller that is not watched: it counts as altered.
    pub(crate) fn give_away(&mut self) -> &mut Connection {
        self.end_snapshot();
        self.watch.look(Mode::Open);
        self.begin_work();
        self.begin_recording();
        self.session.alter(true);
        self.given_away.get_or_insert(commits::count(&self.connection));
        &mut self.connection
    }

    /// Takes the session as it is for how it shall be. Says whether other files are attached.
    pub(crate) fn baseline(&mut self) -> bool {
        if !self.session.is_altered() {
            return false;
        }
        self.accept_session();
        self.watch.look(Mode::Open);
        let others = "SELECT 1 FROM pragma_database_list WHERE name NOT IN ('main', 'temp')";
        let attached = self.connection.prepare(others).and_then(|mut others| others.exists(())).unwrap_or(true);
        if attached {
            // A sync of the log would leave theirs out.
            self.sharing.log = None;
        }
        attached
    }

    /// Has the logs of files that somebody attaches copied by the commits that make them long: nobody else looks after them.
    pub(crate) fn copy_attached_logs(&mut self) -> rusqlite::Result<()> {
        let copy = |log: &mut Wal, frames: i32| {
            if log.name() != MAIN_DB && frames >= WORTH_COPYING.cast_signed() {
                // It waits for nobody in the way. The commit stands either way, and the next one tries again.
                log.checkpoint().ok();
            }
            Ok(())
        };
        self.connection.wal_hook(Some(copy))
    }

    pub(crate) fn accept_session(&mut self) {
        // A connection that takes the files for unchanging has no index, and to look for one would make it on Windows.
        let unchanging = self.still.is_some() || self.way == Way::Immutable;
        self.session.accept(if unchanging { None } else { self.log.index(&self.connection) });
    }

    /// Whether what was read is of one state of the file.
    pub(crate) fn is_still(&self) -> bool {
        self.still.as_ref().is_none_or(Still::holds)
    }

    /// Whether the file was moved, replaced or deleted under the connection.
    #[cfg(unix)]
    pub(crate) fn has_moved(&self) -> bool {
        let mut moved = 0;
        let asked = self.connection.file_control(Some(MAIN_DB), rusqlite::FileControl::HasMoved(&mut moved));
        asked.is_ok() && moved != 0
    }

    /// Elsewhere SQLite is not asked: an open file stays where it is.
    #[cfg(not(unix))]
    #[allow(clippy::unused_self, reason = "elsewhere it is asked of the connection")]
    pub(crate) fn has_moved(&self) -> bool {
        false
    }

    /// SQLite's count of commits that other connections made, as this one has noticed them.
    pub(crate) fn data_version(&self) -> Option<u32> {
        self.watch.look(Mode::Open);
        // The file control of this name counts the connection's own commits too.
        let mut asked = self.connection.prepare_cached("PRAGMA data_version").ok()?;
        asked.query_row((), |row| row.get(0)).ok()
    }

    /// Refuses what may not run where it would run now.
    pub(crate) fn permit(&self, kind: StatementKind) -> Result<()> {
        self.session.permit(kind, || self.in_transaction())
    }

    /// Refuses what would write where nothing is written.
    pub(crate) fn permit_writing(&self, writes: bool) -> Result<()> {
        if writes && self.way.only_reads() { Err(self.way.refused()) } else { Ok(()) }
    }

    /// Runs `work`, which runs a statement, and records what it changes.
    #[inline]
    fn recorded<T>(&mut self, ran: Ran<'_>, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.recorder.is_none() {
            return work(self);
        }
        self.begin_recording();
        let outcome = work(self);
        self.end_recording(ran, &outcome);
        outcome
    }

    /// Work begins that may commit; [`tell`](Self::tell) ends it.
    #[inline]
    pub(crate) fn begin_work(&self) {
        if let Some(recorder) = &self.recorder {
            recorder.others.working();
        }
    }

    /// Tells the feed what was committed. The feed is woken when the engine is free again.
    #[inline]
    pub(crate) fn tell(&mut self) -> Option<ChangeFeed> {
        if self.recorder.is_some() { self.tell_commits() } else { None }
    }

    /// Runs one statement and hands its rows to `take`, which says whether to go on.
    fn stepping(
        &mut self,
        statement: &Statement,
        take: &mut dyn FnMut(RowStep<'_, '_>) -> Result<bool>,
    ) -> Result<Changes> {
        // Recorded is what it did, whether or not anybody could read its answer.
        match self.recorded(Ran::Statement(&statement.sql), |engine| engine.step(statement, take))? {
            (_, Some(unread)) => Err(unread.about_the_answer()),
            (changes, None) => Ok(changes),
        }
    }

    fn step(&mut self, statement: &Statement, take: &mut dyn FnMut(RowStep<'_, '_>) -> Result<bool>) -> Result<Effect> {
        let Statement { sql, params, measured, .. } = statement;
        let mut run = |ready: &mut Ready<'_>, values: &Arranged<'_>| match measured {
            true => ready.run_measured(values, take),
            false => ready.run(values, take),
        };
        let (mut ready, values) = self.ready(sql, |plan| plan.values(params))?;
        if ready.may_stop_halfway() {
            drop(ready);
            return self.whole_or_not_at_all(|engine| {
                let (mut ready, values) = engine.ready(sql, |plan| plan.values(params))?;
                run(&mut ready, &values)
            });
        }
        let (ran, effect) = (ready.facts(), run(&mut ready, &values));
        drop(ready);
        self.ran(ran);
        effect
    }

    /// Runs one statement and collects its rows.
    pub(crate) fn run(&mut self, statement: &Statement) -> Result<Rows> {
        let mut builder: Option<RowsBuilder> = None;
        let first_only = statement.first_only;
        let changes = self.stepping(statement, &mut |step| match step {
            RowStep::Header(header) => {
                builder = Some(RowsBuilder::with_header(header));
                Ok(true)
            }
            // What writes goes on to its end; the other rows are not wanted.
            RowStep::Row(row, reads) => {
                if let Some(builder) = builder.as_mut().filter(|builder| !first_only || builder.is_empty()) {
                    push_row(builder, row)?;
                }
                Ok(!(first_only && reads))
            }
        })?;
        let mut builder = builder.unwrap_or_else(|| RowsBuilder::with_header(Arc::from([])));
        builder.changes(changes);
        Ok(builder.finish())
    }

    /// Runs one statement and shows its rows to `sink`.
    pub(crate) fn run_into(&mut self, statement: &Statement, sink: &mut dyn RowSink) -> Result<Changes> {
        sink.begin();
        let (mut columns, mut wanted): (Option<Arc<[Arc<str>]>>, _) = (None, true);
        self.stepping(statement, &mut |step| match step {
            RowStep::Header(header) => {
                columns = Some(header);
                Ok(true)
            }
            // What writes goes on to its end; the other rows are not wanted.
            RowStep::Row(row, reads) => {
                if let Some(columns) = columns.as_ref().filter(|_| wanted) {
                    wanted = show_row(sink, columns, row)?;
                }
                Ok(wanted || !reads)
            }
        })
    }

    /// Runs one statement and hands its rows over in chunks, until `send` says that nobody wants more.
    pub(crate) fn run_in_chunks(
        &mut self,
        statement: &Statement,
        chunk: usize,
        send: &mut dyn FnMut(Rows) -> bool,
    ) -> Result<()> {
        let mut builder: Option<RowsBuilder> = None;
        self.stepping(statement, &mut |step| match step {
            RowStep::Header(header) => {
                builder = Some(RowsBuilder::with_header(header));
                Ok(true)
            }
            RowStep::Row(row, _) => {
                let Some(filling) = &mut builder else { return Ok(false) };
                push_row(filling, row)?;
                if !filling.is_chunk(chunk) {
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
    pub(crate) fn run_many(
        &mut self,
        sql: &Arc<str>,
        sets: &ParamSets,
        first: usize,
        enough: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(usize, Changes)> {
        self.recorded(Ran::Sets(sql), |engine| {
            let (mut ready, sets) = engine.ready(sql, |plan| plan.all_values(sets))?;
            let (ran, outcome) = (ready.facts(), ready.run_many(&sets, first, enough));
            drop(ready);
            engine.ran(ran);
            outcome
        })
    }

    pub(crate) fn table_exists(&mut self, name: &str) -> Result<bool> {
        self.watch.look(Mode::Open);
        let sql = "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE";
        let found = self.connection.prepare_cached(sql).and_then(|mut statement| statement.exists([name]));
        found.map_err(classify)
    }

    /// Copies a long log where the commit that made it long does that.
    pub(crate) fn checkpoint_if_due(&mut self) {
        let due = || self.session.index().is_some_and(|index| index.pending(&index.mark()) >= WORTH_COPYING);
        if self.checkpoints == Checkpoints::AtCommit && self.connection.is_autocommit() && due() {
            self.watch.look(Mode::Open);
            // The commit stands either way, and the log is kept; the failure was logged and counted.
            self.log.checkpoint(&self.connection, "PASSIVE", &mut self.news).ok();
        }
    }
}
