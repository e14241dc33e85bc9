//! Opening a file that is only read, so that nothing is made or changed on the disk.
//!
//! SQLite reads a database in WAL mode by an index in shared memory, a file that it makes if it is missing. Three cases
//! are told apart:
//!
//! - The file is in a rollback mode, or somebody works with it: SQLite's own way, with its locks. The index is there.
//! - Nobody works with it, and there is a log: a connection that takes no locks reads the log into an index of its own.
//! - Nobody works with it, and there is no log: the file alone is the database.
//!
//! In the last two SQLite notices nobody who begins to write later. Whoever does makes the index or takes it over, so the
//! files are looked at before and after every call (`Still`).
//!
//! Source: "Write-Ahead Logging", section 5 ("Read-Only Databases") and 8 ("Use of WAL Without Shared-Memory");
//! `unixLockSharedMemory` in `os_unix.c`, which cuts the index to three bytes before it takes it over.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, ffi};

use super::diagnose;
use super::diagnose::trial;
use super::file::PathView;
use super::location::Location;
use super::way::{OpenSettings, Way};
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::private;
use crate::sqlcipher::ffi::wal_index;

/// So often others may begin or end their work while a connection is being opened.
const ATTEMPTS: u64 = 8;

/// A connection that was keyed and has read.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) connection: Connection,
    /// What it takes for unchanging, if anything.
    pub(super) still: Option<Still>,
}

/// Why a connection cannot read: with what it found, to be explained, or explained already.
pub(crate) enum Failure {
    Engine(Box<(Connection, rusqlite::Error)>),
    Explained(Error),
}

impl Failure {
    fn found(connection: Connection, error: rusqlite::Error) -> Self {
        Self::Engine(Box::new((connection, error)))
    }

    /// The connection, if what it was tried with has worked.
    pub(crate) fn unless(tried: rusqlite::Result<()>, connection: Connection) -> Result<Connection, Self> {
        match tried {
            Ok(()) => Ok(connection),
            Err(error) => Err(Self::found(connection, error)),
        }
    }

    /// Whether a file could not be opened, or the index not be made.
    fn is_refusal(&self) -> bool {
        let Self::Engine(found) = self else { return false };
        matches!(found.1.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
    }

    pub(crate) fn explained(self, explain: impl FnOnce(&Connection, rusqlite::Error) -> Error) -> Error {
        match self {
            Self::Engine(found) => explain(&found.0, found.1),
            Self::Explained(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Explained(error)
    }
}

/// The files of a database as they stood at one moment. SQLite's locks do not tell of what changes them.
#[derive(Clone, Debug)]
pub(crate) struct Still {
    files: [PathBuf; 3],
    looks: [Option<Look>; 3],
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    length: u64,
    modified: Option<SystemTime>,
    numbers: [u64; 2],
}

impl Still {
    fn of(path: &Path) -> Self {
        let files = ["", "-wal", "-shm"].map(|end| {
            let mut file = path.as_os_str().to_owned();
            file.push(end);
            PathBuf::from(file)
        });
        let looks = files.each_ref().map(|file| look(file));
        Self { files, looks }
    }

    /// Whether nobody has changed the database since.
    pub(crate) fn holds(&self) -> bool {
        self.files.iter().zip(&self.looks).all(|(file, then)| look(file) == *then)
    }

    /// On Windows SQLite makes an index even to look whether there is one. One that somebody has open cannot be removed.
    fn tidy(&self) {
        if cfg!(windows) && self.looks[2].is_none() {
            std::fs::remove_file(&self.files[2]).ok();
        }
    }

    fn has_log(&self) -> bool {
        self.looks[1].is_some_and(|log| log.length > 0)
    }

    fn has_index(&self) -> bool {
        self.looks[1].is_some() && self.looks[2].is_some()
    }
}

fn look(file: &Path) -> Option<Look> {
    let (found, numbers) = private::look(file).ok()?;
    Some(Look { length: found.len(), modified: found.modified().ok(), numbers })
}

/// What a call is told in the middle of which somebody began to write.
#[cold]
pub(crate) fn changed() -> Error {
    Error::new(ErrorKind::Busy, "another process began to write to the file while it was read")
        .because(Reason::Moved)
        .hint("read again")
        .transient()
}

/// Opens a connection that reads. `key` is called with each that is tried.
pub(super) fn open(
    location: &Location,
    settings: &OpenSettings,
    key: &dyn Fn(&Connection) -> Result<()>,
) -> Result<Tried, Failure> {
    let Location::File { path, .. } = location else {
        return Err(location.error(ErrorKind::Config, "it is no file").into());
    };
    let key = &|connection: &Connection| {
        let patient = connection.busy_timeout(settings.tuning.busy_timeout);
        patient.map_err(|error| diagnose::explain(location, error, None))?;
        key(connection)
    };
    if settings.way == Way::Immutable {
        return unchanging(location, &Still::of(path), key).map(|connection| Tried { connection, still: None });
    }
    let mut refusal = None;
    for attempt in 0..ATTEMPTS {
        // What others are in the middle of takes them no longer.
        std::thread::sleep(Duration::from_millis(attempt));
        let still = Still::of(path);
        match shared(location, &still, key) {
            Ok(Some(connection)) => return Ok(Tried { connection, still: None }),
            Ok(None) => {}
            // Somebody came, whose index is not there yet, or left, and has removed it. The next look tells.
            Err(error) if error.is_refusal() => {
                refusal = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        }
        still.tidy();
        match unchanging(location, &still, key) {
            Ok(connection) if still.holds() => return Ok(Tried { connection, still: Some(still) }),
            Err(error) if still.holds() => return Err(error),
            _ => refusal = None,
        }
    }
    Err(refusal.unwrap_or_else(|| changed().during(Phase::Connect).into()))
}

/// A connection by SQLite's own way; `None` where nobody works with a database in WAL mode.
fn shared(
    location: &Location,
    still: &Still,
    key: &dyn Fn(&Connection) -> Result<()>,
) -> Result<Option<Connection>, Failure> {
    let connection = ready(location, PathView::Probing, key)?;
    match trial(&connection) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) && !still.has_index() => {
            return Ok(None);
        }
        Err(error) => return Err(explained(location, connection, error)),
        Ok(()) => {}
    }
    let mode: rusqlite::Result<String> = connection.query_row("PRAGMA journal_mode", (), |row| row.get(0));
    match mode {
        Ok(mode) if mode != "wal" => Ok(Some(connection)),
        Ok(_) if wal_index::is_shared(&connection) => {
            drop(connection);
            let connection = ready(location, PathView::Shared, key)?;
            match trial(&connection) {
                Ok(()) => Ok(Some(connection)),
                Err(error) => Err(explained(location, connection, error)),
            }
        }
        Ok(_) => Ok(None),
        Err(error) => Err(explained(location, connection, error)),
    }
}

/// A connection that takes the files for unchanging.
fn unchanging(
    location: &Location,
    still: &Still,
    key: &dyn Fn(&Connection) -> Result<()>,
) -> Result<Connection, Failure> {
    if location.has_journal() {
        return Err(unfinished(location).into());
    }
    let view = if still.has_log() { PathView::Apart } else { PathView::Alone };
    let connection = ready(location, view, key)?;
    let tried = match view {
        // Without an index that others see; nothing is locked.
        PathView::Apart => {
            connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE").and_then(|()| trial(&connection))
        }
        _ => trial(&connection),
    };
    match tried {
        Ok(()) => Ok(connection),
        Err(error) => Err(explained(location, connection, error)),
    }
}

fn ready(location: &Location, view: PathView, key: &dyn Fn(&Connection) -> Result<()>) -> Result<Connection> {
    let connection = location.open_view(view)?;
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .map_err(|error| diagnose::explain(location, error, None))?;
    key(&connection)?;
    Ok(connection)
}

fn explained(location: &Location, connection: Connection, error: rusqlite::Error) -> Failure {
    match error.sqlite_error().map(|error| error.extended_code) {
        Some(ffi::SQLITE_READONLY_ROLLBACK) => Failure::Explained(unfinished(location)),
        _ => Failure::found(connection, error),
    }
}

/// To roll it back would change the file.
fn unfinished(location: &Location) -> Error {
    location
        .error(ErrorKind::Storage, "a transaction was cut off, and must be rolled back before the file can be read")
        .because(Reason::NotWritable)
        .hint("open it once for writing, which does that, or copy it with its journal and open the copy")
}
