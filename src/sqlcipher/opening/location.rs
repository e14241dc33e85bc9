//! Where a database stands: its name in errors, and what lies beside it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, io};

use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::sqlcipher::codes::LOOK_AT_THE_DISK;
use crate::sqlcipher::os::{TOO_MANY_FILES, has_too_many_files};

/// A file, or one database in memory that all connections share.
#[derive(Clone, Debug)]
pub(crate) enum Location {
    File {
        /// Absolute, so that it stays the same file when the process changes its directory. No symbolic link, as SQLite has the
        /// log beside the file and not beside the link.
        path: PathBuf,
        /// As the user wrote it.
        shown: PathBuf,
        /// Nothing may be written or made.
        only_read: bool,
    },
    /// A name for SQLite's `memdb`: connections that give the same name get the same database, and keys work. The
    /// shared cache would hand the decrypted pages to connections without a key.
    Memory(String),
}

impl Location {
    /// Reads what the user wrote. URIs are refused: they can carry keys (which end up in logs) and switch the shared
    /// cache on.
    pub(crate) fn parse(path: &Path, shown: &Path) -> Result<Self> {
        // No two get the same number, because it is taken in one step: `Relaxed` does.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let text = shown.to_string_lossy();
        if text == ":memory:" {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            return Ok(Self::Memory(format!("file:/strongroom-{number}?vfs=memdb")));
        }
        let refuse = |message: &'static str| Error::new(ErrorKind::Config, message).during(Phase::Connect);
        if text.is_empty() {
            return Err(refuse("the path of the database is empty").hint("use \":memory:\" for a database in memory"));
        }
        if text.starts_with("file:") {
            return Err(refuse("the path of the database is a URI, which could carry a key")
                .hint("give a plain path, and settings through the builder"));
        }
        if text.contains('\0') {
            return Err(refuse("the path of the database contains a NUL character"));
        }
        Ok(Self::File { path: followed(path), shown: shown.to_owned(), only_read: false })
    }

    /// The same file, only to be read.
    pub(crate) fn only_read(self) -> Self {
        match self {
            Self::File { path, shown, .. } => Self::File { path, shown, only_read: true },
            memory @ Self::Memory(_) => memory,
        }
    }

    pub(super) fn is_only_read(&self) -> bool {
        matches!(self, Self::File { only_read: true, .. })
    }

    /// What the user wrote.
    pub(super) fn shown(&self) -> &Path {
        match self {
            Self::File { shown, .. } => shown,
            Self::Memory(_) => Path::new(":memory:"),
        }
    }

    pub(crate) fn is_memory(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// Where the log is, if there can be one.
    pub(crate) fn log_path(&self) -> Option<PathBuf> {
        self.beside("-wal")
    }

    /// The files to which a transaction writes, as the one mode or the other has it.
    pub(crate) fn logs(&self) -> Vec<PathBuf> {
        [self.beside("-wal"), self.beside("-journal")].into_iter().flatten().collect()
    }

    /// Whether a log with something in it stands beside the file.
    pub(crate) fn has_log(&self) -> bool {
        self.log_path().is_some_and(|log| log.metadata().is_ok_and(|log| log.len() > 0))
    }

    /// Whether a transaction that was cut off left its journal behind. One that has ended has zeros at its beginning, or
    /// nothing.
    pub(crate) fn has_journal(&self) -> bool {
        let begins = |journal: PathBuf| {
            let mut start = [0; 8];
            io::Read::read_exact(&mut std::fs::File::open(journal)?, &mut start).map(|()| start != [0; 8])
        };
        self.beside("-journal").is_some_and(|journal| begins(journal).unwrap_or(false))
    }

    fn beside(&self, end: &str) -> Option<PathBuf> {
        let Self::File { path, .. } = self else { return None };
        let mut name = path.clone().into_os_string();
        name.push(end);
        Some(PathBuf::from(name))
    }

    /// The size of the file; asking for it takes no lock and drops none.
    pub(crate) fn len(&self) -> Option<u64> {
        let Self::File { path, .. } = self else { return None };
        path.metadata().ok().map(|found| found.len())
    }

    /// Whether the file has Windows' attribute that nobody may write to it. On Unix that is a matter of rights alone.
    pub(crate) fn is_marked_read_only(&self) -> bool {
        let Self::File { path, .. } = self else { return false };
        cfg!(windows) && path.metadata().is_ok_and(|found| found.permissions().readonly())
    }

    /// Explains that the file cannot be opened. SQLite has one code for every cause; the system is asked again.
    pub(crate) fn refused(&self) -> Error {
        let Self::File { path, .. } = self else { return self.error(ErrorKind::Connection, "the engine refused") };
        // Opening the directory needs a descriptor too, and touches no file that the engine has locked.
        let listed = directory_of(path).read_dir();
        if listed.is_err_and(|error| has_too_many_files(&error)) {
            return self
                .error(ErrorKind::Connection, "there are no file descriptors left")
                .because(Reason::TooManyOpenFiles)
                .hint(TOO_MANY_FILES);
        }
        if let Err(error) = path.metadata()
            && error.kind() == io::ErrorKind::NotFound
            && directory_of(path).is_dir()
        {
            return self
                .error(ErrorKind::Connection, "there is no such file any more, or it cannot be created here")
                .because(Reason::NotFound)
                .hint("check who deletes it, and whether the process may write to the directory");
        }
        let way_out = if self.is_only_read() {
            "the process needs to read the file, and its log (-wal) and index (-shm) where they are"
        } else {
            "the process needs to read and write the file, and to create files beside it"
        };
        self.error(ErrorKind::Connection, "the system refused access").because(Reason::NotPermitted).hint(way_out)
    }

    /// The system could not do what it was asked, whatever stands in the file.
    pub(crate) fn failed(&self, error: &io::Error) -> Error {
        self.error(ErrorKind::Storage, error).because(Reason::Io).hint(LOOK_AT_THE_DISK)
    }

    /// Starts an error about this database.
    pub(crate) fn error(&self, kind: ErrorKind, message: impl fmt::Display) -> Error {
        Error::new(kind, format!("cannot open {self}: {message}")).about(self.to_string()).during(Phase::Connect)
    }

    /// Puts the name of this database in front of an error.
    pub(crate) fn describe(&self, error: Error) -> Error {
        error.context(format_args!("cannot open {self}")).about(self.to_string()).during(Phase::Connect)
    }
}

/// As many symbolic links are followed as Linux follows.
const MOST_LINKS: usize = 40;

/// Where the file will stand: a symbolic link may lead to a place where nothing is yet.
pub(crate) fn followed(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(next) = target.read_link() else { break };
        target = directory_of(&target).join(next);
    }
    target
}

pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown().display().fmt(f)
    }
}
