//! What callers did to a session that decides what may come next.

use std::time::Instant;

use crate::connector::{Access, StatementKind};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::sqlcipher::ffi::wal_index::{Mark, WalIndex};
use crate::sqlcipher::log::syncs::LogFile;

/// The state of one session, beside what SQLite itself tells. `open` is whether a transaction of the caller's is open.
#[derive(Debug, Default)]
pub(crate) struct Session {
    altered: bool,
    /// SQLite's mark of change; without it no snapshot is kept.
    index: Option<WalIndex>,
    /// It had that, before it was altered.
    had_index: bool,
    /// The transaction that was begun and not ended, and for what; also when SQLite has given it up meanwhile.
    inside: Option<Access>,
}

impl Session {
    /// Notes that the session may not be as it was opened. It may have left the write-ahead log, and then the index of
    /// that is not mapped any more.
    pub(crate) fn alter(&mut self, yes: bool) {
        if yes {
            self.altered = true;
            self.had_index |= self.index.take().is_some();
        }
    }

    pub(crate) fn is_altered(&self) -> bool {
        self.altered
    }

    /// Takes the session as it is for how it shall be.
    pub(crate) fn accept(&mut self, index: Option<WalIndex>) {
        (self.altered, self.had_index) = (false, false);
        self.index = index;
    }

    /// Whether the database has a log that others see too, or had one before the session was altered.
    pub(crate) fn has_log(&self) -> bool {
        self.had_index || self.index.is_some()
    }

    pub(crate) fn index(&self) -> Option<&WalIndex> {
        self.index.as_ref()
    }

    /// Whether a transaction was begun that SQLite has given up since, and nobody has ended.
    pub(crate) fn has_lost_transaction(&self, open: bool) -> bool {
        self.inside.is_some() && !open
    }

    /// Refuses what may not run where it would run now. SQLite gives up a whole transaction when a statement that
    /// writes is stopped in it; what comes next would be committed by itself.
    pub(crate) fn permit(&self, kind: StatementKind, open: impl FnOnce() -> bool) -> Result<()> {
        match self.inside {
            // Ending what is gone already, or beginning anew, shows that the caller knows.
            Some(_) if !open() && kind != StatementKind::Control => {
                Err(Error::new(ErrorKind::Transaction, "the engine has rolled the transaction back by itself")
                    .because(Reason::Doomed)
                    .hint("end it with ROLLBACK if it was begun by hand, and begin another one"))
            }
            Some(Access::Read) if kind != StatementKind::Read => {
                Err(Error::new(ErrorKind::Unsupported, "the transaction was begun for reading and cannot write")
                    .because(Reason::NotWritable)
                    .hint("begin one that writes"))
            }
            _ => Ok(()),
        }
    }

    /// Takes note of what a statement that controls transactions, or a closure of the user, has done.
    pub(crate) fn note(&mut self, open: bool) {
        self.inside = open.then(|| self.inside.unwrap_or(Access::Write));
    }

    pub(crate) fn begun(&mut self, access: Access) {
        self.inside = Some(access);
    }

    pub(crate) fn ended(&mut self) {
        self.inside = None;
    }
}

/// The read transaction that a connection keeps open between calls.
#[derive(Debug, Default)]
pub(crate) struct KeptSnapshot {
    /// The mark before the open transaction began; `None`: none is open.
    pub(super) since: Option<Mark>,
    /// Used since the last sweep.
    pub(super) used: bool,
    /// When it began, where somebody observes.
    pub(super) began: Option<Instant>,
}

/// How the transactions of one connection reach the disk.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    /// The log, where transactions share its syncs.
    pub(super) log: Option<LogFile>,
    /// While SQLite syncs no commit: how many commits there were before.
    pub(super) relaxed: Option<i32>,
}

impl Sharing {
    pub(crate) fn of(log: LogFile) -> Self {
        Self { log: Some(log), relaxed: None }
    }

    pub(crate) fn is_relaxed(&self) -> bool {
        self.relaxed.is_some()
    }
}
