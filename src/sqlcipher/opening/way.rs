//! What a database is opened for, and which of its settings contradict each other.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::location::Location;
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::sqlcipher::format::Format;
use crate::sqlcipher::log::checkpoint::Log;
use crate::sqlcipher::stats::Tallies;
use crate::sqlcipher::tuning::Tuning;

/// What a database is opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// Reading and writing, beside other processes.
    #[default]
    Shared,
    /// Reading, beside other processes.
    ReadOnly,
    /// Reading what never changes.
    Immutable,
    /// Reading and writing, with no other process.
    Exclusive,
}

/// What connections are opened with.
#[derive(Clone, Debug)]
pub(crate) struct OpenSettings {
    pub(crate) way: Way,
    pub(crate) create_if_missing: bool,
    pub(crate) format: Format,
    pub(crate) tuning: Tuning,
    pub(crate) tallies: Arc<Tallies>,
    pub(crate) log: Arc<Log>,
}

/// What the builder was told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) read_only: bool,
    pub(crate) immutable: bool,
    pub(crate) exclusive: bool,
    /// `None`: nothing was said.
    pub(crate) create: Option<bool>,
}

impl Way {
    /// Whether nothing is written.
    pub(crate) fn only_reads(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Immutable)
    }

    /// Sets how long a lock is waited for, and takes the file from all others, before anything was read, if that is
    /// meant. In WAL mode its index is then in the memory of this process.
    ///
    /// SQLite does not wait for the whole file: whoever wants it keeps the shared lock meanwhile, and two of them would
    /// wait for each other until both give up. [`Patience::in_turn`] waits.
    ///
    /// Source: "Write-Ahead Logging", section 8; `pager_unlock` in `pager.c`, which keeps the lock in this mode.
    pub(crate) fn take(self, connection: &Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
        if self == Self::Exclusive {
            connection.busy_timeout(Duration::ZERO)?;
            connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT")?;
        }
        connection.busy_timeout(busy_timeout)
    }

    /// What an open failed with, in words of this way.
    pub(crate) fn explain(self, location: &Location, error: Error) -> Error {
        if self != Self::Exclusive || error.kind() != ErrorKind::Busy {
            return error;
        }
        let message = "another connection has the file open, and exclusive() allows no other";
        let explained = location
            .error(ErrorKind::Busy, message)
            .hint("close it there, or raise Tuning::busy_timeout if it ends by itself");
        if error.is_transient() { explained.transient() } else { explained }
    }

    /// The error of a statement that would write, where nothing is written.
    #[cold]
    pub(crate) fn refused(self) -> Error {
        let (message, hint) = if self == Self::Immutable {
            ("the database was opened as immutable and cannot be written", "open it without .immutable() to write")
        } else {
            ("the database was opened read-only and cannot be written", "open it without .read_only() to write")
        };
        Error::new(ErrorKind::Unsupported, message).because(Reason::NotWritable).hint(hint)
    }
}

impl Wishes {
    /// What all of that comes to.
    pub(crate) fn way(self, location: &Location) -> Result<Way> {
        let Self { read_only, immutable, exclusive, create } = self;
        let reads = if immutable { "immutable()" } else { "read_only()" };
        let way = match (read_only || immutable, exclusive) {
            (false, false) => return Ok(Way::Shared),
            (true, true) => {
                let why = "only who may write can keep others out of a file, so leave one of the two away";
                return Err(contradiction(reads, "exclusive()", why));
            }
            (true, false) if create == Some(true) => {
                let why = "what is only read is never created, so leave one of the two away";
                return Err(contradiction(reads, "create_if_missing(true)", why));
            }
            (true, false) => {
                if immutable {
                    Way::Immutable
                } else {
                    Way::ReadOnly
                }
            }
            (false, true) => Way::Exclusive,
        };
        if location.is_memory() {
            let name = if way == Way::Exclusive { "exclusive()" } else { reads };
            let message = format!("{name} needs a file, and the database is in memory");
            let error = Error::new(ErrorKind::Config, message).during(Phase::Connect);
            return Err(error.hint("leave it away; nobody else can reach a database in memory"));
        }
        Ok(way)
    }

    /// Refuses what would write, where that was not wished for.
    pub(crate) fn refuse_reading(self) -> Result<()> {
        match self {
            Self { immutable: true, .. } => Err(Way::Immutable.refused()),
            Self { read_only: true, .. } => Err(Way::ReadOnly.refused()),
            _ => Ok(()),
        }
    }

    /// Whether a file that is missing is created.
    pub(crate) fn creates(self) -> bool {
        self.create.unwrap_or(true) && !self.read_only && !self.immutable
    }
}

fn contradiction(one: &str, other: &str, why: &'static str) -> Error {
    let message = format!("{one} and {other} contradict each other");
    Error::new(ErrorKind::Config, message).during(Phase::Connect).hint(why)
}
