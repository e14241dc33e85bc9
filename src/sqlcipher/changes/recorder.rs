//! Between SQLite's hooks and the feed.

use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::hooks::Action;

use super::kinds::{Kind, Kinds};
use super::others::Others;
use super::prepared::PreparedTouches;
use super::recording::Recording;
use super::touched::{Noting, Ran, SavepointStep, Touched, Written};
use crate::error::{ErrorKind, Result};
use crate::feed::{Change, ChangeFeed, ChangeKind, Hearers};
use crate::lock::Lock;
use crate::sqlcipher::ffi::commits;
use crate::sqlcipher::running::engine::Engine;
use crate::sqlcipher::statement::watch::{Mode, Watch};

/// What one connection records of its own commits.
#[derive(Debug)]
pub(crate) struct Recorder {
    feed: ChangeFeed,
    pub(crate) others: Arc<Others>,
    record: Arc<Lock<Recording>>,
    statements: PreparedTouches,
    kinds: Kinds,
    /// Shadow tables, by their kind, that statements of this transaction have named.
    named: Vec<Arc<str>>,
    rows: bool,
    unit: Option<Unit>,
    /// A statement has succeeded, and has not been settled.
    unsettled: bool,
    /// On its way to the feed; empty but for then.
    telling: Vec<Change>,
    /// SQLite's count of pages that were written by commits.
    written: i32,
    /// How many commits were our own since the last time the feed was told.
    own: u32,
}

/// A statement, or a closure of the user, that runs now.
#[derive(Clone, Copy, Debug)]
struct Unit {
    changes: u64,
    told: i64,
}

impl Engine {
    /// From now on, tells `feed` what this connection commits.
    pub(crate) fn follow(&mut self, feed: &ChangeFeed, others: &Arc<Others>) -> rusqlite::Result<()> {
        let rows = feed.wants_rows();
        match &mut self.recorder {
            Some(recorder) if recorder.rows == rows => return Ok(()),
            Some(recorder) => recorder.tell_rows(rows, &self.connection),
            None => {
                others.begin(self);
                let record = Arc::new(Lock::new(Recording::new(rows)));
                let written = commits::count(&self.connection);
                self.recorder = Some(Box::new(Recorder {
                    feed: feed.clone(),
                    others: Arc::clone(others),
                    record,
                    statements: PreparedTouches::default(),
                    kinds: Kinds::default(),
                    named: Vec::new(),
                    rows,
                    unit: None,
                    unsettled: false,
                    telling: Vec::new(),
                    written,
                    own: 0,
                }));
                self.install_recorder()?;
            }
        }
        self.watch.notes.noting(if rows { Noting::Rows } else { Noting::Tables });
        // What is prepared anew is seen by the authorizer.
        self.connection.flush_prepared_statement_cache();
        feed.arm(rows);
        Ok(())
    }

    /// Puts the hooks in place, if anybody listens.
    pub(crate) fn install_recorder(&mut self) -> rusqlite::Result<()> {
        let Some(recorder) = &self.recorder else { return Ok(()) };
        let [row, commit, rollback] = [(); 3].map(|()| Arc::clone(&recorder.record));
        self.connection.update_hook(Some(move |action, database: &str, table: &str, row_id| {
            if let Some(kind) = kind_of(action) {
                row.lock().row(kind, database, table, row_id);
            }
        }))?;
        self.connection.commit_hook(Some(move || {
            commit.lock().commit();
            false
        }))?;
        self.connection.rollback_hook(Some(move || rollback.lock().rollback()))
    }

    /// Nobody listens any more.
    fn stop_recording(&mut self) {
        let Some(recorder) = self.recorder.take() else { return };
        recorder.others.forget();
        self.watch.notes.noting(Noting::Nothing);
        self.watch.notes.take();
        let removed = [
            self.connection.update_hook(None::<fn(Action, &str, &str, i64)>),
            self.connection.commit_hook(None::<fn() -> bool>),
            self.connection.rollback_hook(None::<fn()>),
        ];
        debug_assert!(removed.iter().all(Result::is_ok));
        // Tables are emptied at once again.
        self.connection.flush_prepared_statement_cache();
    }

    /// A statement or a closure begins.
    pub(crate) fn begin_recording(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.begin(&self.connection, &self.watch);
        }
    }

    /// It has ended, and left its changes unless it failed.
    pub(crate) fn end_recording<T>(&mut self, ran: Ran<'_>, outcome: &Result<T>) {
        let Self { recorder, connection, watch, plans, .. } = self;
        let Some(recorder) = recorder else { return };
        let ran = match ran {
            Ran::Statement(sql) => Ran::Statement(plans.prepared_text(sql)),
            Ran::Sets(sql) => Ran::Sets(plans.prepared_text(sql)),
            Ran::Once(_) | Ran::Closure => ran,
        };
        recorder.end(connection, watch, ran, outcome);
    }

    /// One of our own statements for savepoints has run.
    pub(crate) fn record_control(&mut self, sql: &str) {
        let Some(recorder) = &self.recorder else { return };
        let mut record = recorder.record.lock();
        if let Some(name) = sql.strip_prefix("SAVEPOINT ") {
            record.savepoint(name);
        } else if let Some(name) = sql.strip_prefix("RELEASE ") {
            record.release(name);
        } else if let Some(name) = sql.strip_prefix("ROLLBACK TO ") {
            record.roll_back_to(name);
        }
    }

    /// What [`tell`](Self::tell) does where somebody listens.
    #[cold]
    pub(crate) fn tell_commits(&mut self) -> Option<ChangeFeed> {
        let recorder = self.recorder.as_mut()?;
        if recorder.unit.is_some() {
            // It panicked, or the connection was given away.
            recorder.end(&self.connection, &self.watch, Ran::Closure, &Ok(()));
        }
        let mut record = recorder.record.lock();
        Recorder::settle(&mut record, (&mut recorder.written, &mut recorder.own), &self.connection, false);
        std::mem::swap(&mut record.committed, &mut recorder.telling);
        drop(record);
        recorder.unsettled = false;
        recorder.others.rest(std::mem::take(&mut recorder.own));
        let told = recorder.feed.add_all(&mut recorder.telling);
        if told == Hearers::Gone {
            self.stop_recording();
            return None;
        }
        if recorder.rows && recorder.feed.relax() {
            recorder.tell_rows(false, &self.connection);
            self.watch.notes.noting(Noting::Tables);
        }
        (told == Hearers::Asleep).then(|| recorder.feed.clone())
    }
}

impl Recorder {
    fn tell_rows(&mut self, rows: bool, connection: &Connection) {
        self.rows = rows;
        self.record.lock().rows = rows;
        self.statements.forget(connection);
    }

    pub(crate) fn begin(&mut self, connection: &Connection, watch: &Watch) {
        watch.notes.take();
        let mut record = self.record.lock();
        if std::mem::take(&mut self.unsettled) {
            Self::settle(&mut record, (&mut self.written, &mut self.own), connection, false);
        }
        record.begin();
        if !self.named.is_empty() && connection.is_autocommit() {
            self.named.clear();
        }
        self.unit = Some(Unit { changes: connection.total_changes(), told: record.told });
    }

    pub(crate) fn end<T>(&mut self, connection: &Connection, watch: &Watch, ran: Ran<'_>, outcome: &Result<T>) {
        let Some(unit) = self.unit.take() else { return };
        let touched = self.statements.touched(&mut self.kinds, connection, watch, ran);
        let changed = connection.total_changes().saturating_sub(unit.changes);
        let changed = i64::try_from(changed).unwrap_or(i64::MAX);
        let closure = matches!(ran, Ran::Closure);
        let wrote = closure && connection.is_autocommit() && commits::count(connection) != self.written;
        // A script does not undo what `OR FAIL` kept before it failed, nor does one set what others did.
        let any = match ran {
            Ran::Sets(_) => changed > 0 || touched.schema,
            Ran::Once(_) => changed > 0,
            Ran::Statement(_) | Ran::Closure => false,
        };
        let kept = outcome.is_ok() || closure || any;
        let (told, change, committing) = {
            let mut record = self.record.lock();
            record.settle_doubts(wrote);
            // What the hook has told of a commit that is under way is settled with it.
            let committing = if kept { record.committing().map(std::mem::take) } else { None };
            (record.told - unit.told, record.end(), committing)
        };
        if touched.schema {
            self.statements.forget(connection);
            self.kinds.forget();
        }
        let commits = committing.is_some();
        let mut all = committing.unwrap_or_default();
        let mut is_known = true;
        if kept {
            all.absorb(change);
            is_known = !(closure && all.is_empty());
            all.schema |= touched.schema;
            // A part may have failed of which the hook has told.
            let in_part = closure || outcome.is_err() && told != 0;
            self.account(connection, watch, &mut all, &touched, changed - told, in_part);
        }
        // The second and last lock: what a statement costs is little more than its locks.
        let mut record = self.record.lock();
        if kept {
            if !is_known && commits && !all.is_empty() {
                // Nothing was told of this commit, which may have found nothing to delete. One that is counted and was none hides
                // one of others; one that is not counted is told twice.
                record.sealed = record.sealed.saturating_sub(1);
            }
            match record.committing().filter(|_| commits) {
                Some(committing) => *committing = all,
                // Something was committed, be it by a statement that no row tells of.
                None if wrote => *record.committing_anew() = all,
                None => record.keep(all),
            }
            if !closure {
                for (savepoint, name) in &touched.savepoints {
                    match savepoint {
                        SavepointStep::Set => record.savepoint(name),
                        SavepointStep::Release => record.release(name),
                        SavepointStep::RollBack => record.roll_back_to(name),
                    }
                }
            }
        }
        self.unsettled = outcome.is_ok() && matches!(ran, Ran::Statement(_) | Ran::Sets(_));
        // To count pages costs something, and can wait for the end of the work, or for the next statement.
        if !self.unsettled {
            let unknown = closure && touched.is_empty();
            Self::settle(&mut record, (&mut self.written, &mut self.own), connection, unknown);
        }
        if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::OutcomeUnknown) {
            record.committed.push(Change { unattributed: true, ..Change::default() });
        }
    }

    /// Adds what the hook did not tell: `silent` rows that SQLite has counted, in some of the touched tables. If what was told may be
    /// left `in_part` only, the two may cancel out.
    fn account(
        &mut self,
        connection: &Connection,
        watch: &Watch,
        change: &mut Change,
        touched: &Touched,
        silent: i64,
        in_part: bool,
    ) {
        if change.tables.is_empty() && touched.written.is_empty() {
            return;
        }
        // The engine's own questions are no work of the statement.
        watch.look(Mode::Running);
        let (mut owners, any_rows) = (Vec::new(), !change.tables.is_empty());
        change.tables.retain(|told| match self.kinds.of(&told.table, connection) {
            Kind::Shadow(owner) => {
                owners.extend(owner);
                if touched.writes(&told.table) {
                    add_once(&mut self.named, &told.table);
                }
                self.named.contains(&told.table)
            }
            _ => true,
        });
        let mut silents: Vec<&Written> = Vec::new();
        for written in &touched.written {
            // Most often the hook has told its rows.
            if change.table(&written.table).is_some() {
                continue;
            }
            match self.kinds.of(&written.table, connection) {
                Kind::Shadow(owner) => {
                    owners.extend(owner.filter(|_| silent > 0 || in_part));
                    add_once(&mut self.named, &written.table);
                    silents.push(written);
                }
                Kind::Virtual => {
                    if silent > 0 || any_rows || in_part {
                        owners.push(Arc::clone(&written.table));
                    }
                }
                // Its rows are told, unless all of them were deleted at once.
                Kind::Rows if in_part && !written.kinds.contains(&ChangeKind::Delete) => {}
                Kind::WithoutRowid | Kind::Rows => silents.push(written),
            }
        }
        watch.notes.take();
        let has_virtual = !owners.is_empty();
        for owner in owners {
            change.entry(&owner).exact = false;
        }
        if in_part {
            for written in &silents {
                change.entry(&written.table).exact = false;
            }
            let rolls_back = |(step, _): &(SavepointStep, String)| *step == SavepointStep::RollBack;
            if silent != 0 || has_virtual || !silents.is_empty() || touched.savepoints.iter().any(rolls_back) {
                change.tables.iter_mut().for_each(|table| table.exact = false);
            }
            return;
        }
        match silents[..] {
            _ if silent <= 0 => {}
            [only] if only.kinds.len() == 1 && !has_virtual => {
                change.entry(&only.table).count(only.kinds[0], silent.unsigned_abs());
            }
            _ if has_virtual && silents.is_empty() => {}
            // One of those that were told has done more than that.
            [] => touched.written.iter().for_each(|written| change.entry(&written.table).exact = false),
            _ => silents.iter().for_each(|written| change.entry(&written.table).exact = false),
        }
    }

    /// Whether what was to be committed is, now that nothing runs. A closure that wrote and touched nothing that is known
    /// has written past SQL.
    fn settle(record: &mut Recording, (pages, own): (&mut i32, &mut u32), connection: &Connection, unknown: bool) {
        let open = !connection.is_autocommit();
        record.settle(open);
        if open {
            return;
        }
        let (written, sealed) = (commits::count(connection), std::mem::take(&mut record.sealed));
        if std::mem::replace(pages, written) == written {
            return;
        }
        if unknown && sealed == 0 {
            record.committed.push(Change { unattributed: true, ..Change::default() });
        }
        *own += sealed.max(1);
    }
}

fn add_once(named: &mut Vec<Arc<str>>, table: &Arc<str>) {
    if !named.contains(table) {
        named.push(Arc::clone(table));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // A connection that was given away has told nothing yet. Whoever looks for others wakes the listeners.
        let mut record = self.record.lock();
        record.settle_doubts(true);
        let committed = std::mem::take(&mut record.committed);
        drop(record);
        for change in committed {
            self.feed.add(change);
        }
        self.others.rest(std::mem::take(&mut self.own));
    }
}

fn kind_of(action: Action) -> Option<ChangeKind> {
    match action {
        Action::SQLITE_INSERT => Some(ChangeKind::Insert),
        Action::SQLITE_UPDATE => Some(ChangeKind::Update),
        Action::SQLITE_DELETE => Some(ChangeKind::Delete),
        _ => None,
    }
}
