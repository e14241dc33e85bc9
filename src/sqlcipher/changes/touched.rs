//! The tables that a statement reads and writes, as the authorizer sees them when it is prepared: the engine has resolved
//! views, triggers and foreign keys by then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use rusqlite::hooks::{AuthAction, AuthContext, TransactionOperation};

use crate::feed::ChangeKind;
use crate::lock::Lock;

/// Whether anything is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Noting {
    Nothing,
    /// Which tables a statement touches.
    Tables,
    /// And a table is emptied row by row, so that each of them is told.
    Rows,
}

/// What has run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ran<'s> {
    Statement(&'s str),
    /// The same for many sets of parameters, of which those before one that fails stay.
    Sets(&'s str),
    /// One of a script.
    Once(&'s str),
    /// Anything may have been done, by SQL or past it.
    Closure,
}

/// What was touched since it was last asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    pub(super) written: Vec<Written>,
    pub(crate) read: BTreeSet<String>,
    pub(super) schema: bool,
    pub(super) savepoints: Vec<(SavepointStep, String)>,
}

/// A table that is written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) table: Arc<str>,
    pub(super) kinds: Vec<ChangeKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SavepointStep {
    Set,
    Release,
    RollBack,
}

/// The authorizer's notes. What is atomic here is used under the engine's lock alone, which orders it.
#[derive(Debug)]
pub(crate) struct Notes {
    noting: AtomicU8,
    /// Whether anything was noted since it was taken.
    any: AtomicBool,
    touched: Lock<Touched>,
}

impl Default for Notes {
    fn default() -> Self {
        Self { noting: AtomicU8::new(Noting::Nothing as u8), any: AtomicBool::new(false), touched: Lock::default() }
    }
}

impl Touched {
    pub(super) fn is_empty(&self) -> bool {
        self.written.is_empty() && !self.schema && self.savepoints.is_empty()
    }

    pub(super) fn writes(&self, table: &str) -> bool {
        self.written.iter().any(|written| *written.table == *table)
    }

    /// Adds what the same statement touches besides.
    pub(super) fn add(&mut self, more: &Self) {
        for written in &more.written {
            written.kinds.iter().for_each(|kind| self.write(&written.table, *kind));
        }
        self.schema |= more.schema;
        self.savepoints.extend_from_slice(&more.savepoints);
    }

    fn write(&mut self, table: &str, kind: ChangeKind) {
        if table.starts_with("sqlite_") {
            return;
        }
        let place = self.written.iter().position(|written| *written.table == *table).unwrap_or_else(|| {
            self.written.push(Written { table: table.into(), kinds: Vec::new() });
            self.written.len() - 1
        });
        let kinds = &mut self.written[place].kinds;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }

    fn note(&mut self, context: &AuthContext<'_>) {
        let main = context.database_name == Some("main");
        match context.action {
            // A table of which no column is read, as by `count(*)`, is told as it is written, and without its database.
            AuthAction::Read { table_name, .. }
                if (main || context.database_name.is_none()) && !self.read.contains(table_name) =>
            {
                self.read.insert(table_name.to_owned());
            }
            AuthAction::Insert { table_name } if main => self.write(table_name, ChangeKind::Insert),
            AuthAction::Update { table_name, .. } if main => self.write(table_name, ChangeKind::Update),
            AuthAction::Delete { table_name } if main => self.write(table_name, ChangeKind::Delete),
            // Our own are known without this.
            AuthAction::Savepoint { operation, savepoint_name } if !savepoint_name.starts_with("strongroom_") => {
                let savepoint = match operation {
                    TransactionOperation::Release => SavepointStep::Release,
                    TransactionOperation::Rollback => SavepointStep::RollBack,
                    _ => SavepointStep::Set,
                };
                self.savepoints.push((savepoint, savepoint_name.to_owned()));
            }
            AuthAction::AlterTable { database_name, .. } => self.schema |= database_name == "main",
            AuthAction::CreateIndex { .. }
            | AuthAction::CreateTable { .. }
            | AuthAction::CreateTrigger { .. }
            | AuthAction::CreateView { .. }
            | AuthAction::CreateVtable { .. }
            | AuthAction::DropIndex { .. }
            | AuthAction::DropTable { .. }
            | AuthAction::DropTrigger { .. }
            | AuthAction::DropView { .. }
            | AuthAction::DropVtable { .. } => self.schema |= main,
            _ => {}
        }
    }
}

impl Notes {
    pub(crate) fn noting(&self, noting: Noting) {
        self.noting.store(noting as u8, Relaxed);
    }

    /// Takes what was noted, if anything was.
    pub(crate) fn take(&self) -> Option<Touched> {
        self.any.load(Relaxed).then(|| {
            self.any.store(false, Relaxed);
            std::mem::take(&mut *self.touched.lock())
        })
    }

    /// The tables that a statement touches which `work` prepares. What is noted of others stays as it was.
    pub(super) fn tables_of<T>(&self, work: impl FnOnce() -> T) -> (T, Touched) {
        self.take();
        let before = self.noting.swap(Noting::Tables as u8, Relaxed);
        let done = work();
        self.noting.store(before, Relaxed);
        (done, self.take().unwrap_or_default())
    }

    /// Notes what the authorizer is asked about. Says whether it should answer "ignore": for the deletion of rows, SQLite then
    /// deletes them all the same, but one by one. (To drop a table is announced as a deletion too, and would really be
    /// ignored.)
    pub(crate) fn see(&self, context: &AuthContext<'_>) -> bool {
        let noting = self.noting.load(Relaxed);
        if noting == Noting::Nothing as u8 {
            return false;
        }
        self.any.store(true, Relaxed);
        let mut touched = self.touched.lock();
        touched.note(context);
        let main = context.database_name == Some("main");
        let deletes = matches!(context.action, AuthAction::Delete { table_name } if !table_name.starts_with("sqlite_"));
        main && deletes && noting == Noting::Rows as u8 && !touched.schema
    }
}
