//! The file of a database before anything was read of it: whether it is there, and connections to it that have no key yet.

use std::borrow::Cow;
use std::ffi::{CString, OsStr};
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::diagnose;
use super::location::{Location, directory_of};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::sqlcipher::ffi::{library, quiet, system};
use crate::sqlcipher::os::is_of_the_disk;

/// How a connection that only reads looks at the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathView {
    /// With locks; an index that nobody works with is left alone.
    Probing,
    /// With locks, in the index that others work with.
    Shared,
    /// Without locks, the file with its log.
    Apart,
    /// Without locks, the file alone.
    Alone,
}

impl Location {
    /// Says whether the database has yet to be created, or why it cannot be opened.
    pub(crate) fn is_new(&self, create_if_missing: bool) -> Result<bool> {
        let Self::File { path, .. } = self else { return Ok(true) };
        match path.metadata() {
            Ok(found) if found.is_dir() => Err(self
                .error(ErrorKind::Connection, "it is a directory")
                .because(Reason::NotAFile)
                .hint("give the path of a file")),
            Ok(found) if found.len() == 0 && self.has_log() => Err(diagnose::lost_but_for_its_log(self)),
            // Transient: another process may be creating it at this moment.
            Ok(found) if found.len() == 0 => Err(self
                .error(ErrorKind::Encryption, "the file exists but is empty, so that any key would seem to open it")
                .because(Reason::EmptyFile)
                .hint("delete it, and a new database is created in its place")
                .transient()),
            // Without even a salt, the engine would take it for a new database.
            Ok(found) if found.len() < 16 => Err(diagnose::not_a_database(self)),
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.may_create(path, create_if_missing),
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    fn may_create(&self, path: &Path, create_if_missing: bool) -> Result<bool> {
        if !directory_of(path).is_dir() {
            let directory = directory_of(self.shown()).display();
            let error = self.error(ErrorKind::Connection, format_args!("there is no directory {directory}"));
            return Err(error.because(Reason::NotFound).hint("create the directory first"));
        }
        if !create_if_missing {
            let way_out = if self.is_only_read() {
                "what is only read is never created; check the path"
            } else {
                "call .create_if_missing(true) to create it"
            };
            return Err(self
                .error(ErrorKind::Connection, "there is no such file")
                .because(Reason::NotFound)
                .hint(way_out));
        }
        Ok(true)
    }

    fn unreadable(&self, error: &io::Error) -> Error {
        if is_of_the_disk(error) {
            return self.failed(error);
        }
        let reason = match error.kind() {
            io::ErrorKind::PermissionDenied => Reason::NotPermitted,
            io::ErrorKind::NotADirectory => Reason::NotFound,
            _ => Reason::Unspecified,
        };
        self.error(ErrorKind::Connection, error).because(reason)
    }

    /// Opens a connection that has not been keyed and has read nothing. Never creates a file.
    pub(crate) fn open(&self) -> Result<Connection> {
        self.open_at(None)
    }

    /// The same for a look at the file's beginning, which needs no log.
    pub(crate) fn open_to_look(&self) -> Result<Connection> {
        if self.is_only_read() { self.open_view(PathView::Alone) } else { self.open() }
    }

    /// Opens a file of this database, or creates it. What the connection attaches may be new, too.
    pub(crate) fn open_or_create(&self, file: &Path) -> Result<Connection> {
        self.open_at(Some(file))
    }

    /// Opens a connection that only reads, looking at the file in this way.
    pub(crate) fn open_view(&self, view: PathView) -> Result<Connection> {
        let Some(quiet) = quiet::names() else {
            return Err(self.error(ErrorKind::Unsupported, "the engine has no files here that are only read"));
        };
        let (layer, more) = match view {
            PathView::Probing => (quiet.locking, "&readonly_shm=1"),
            PathView::Shared => (quiet.locking, ""),
            PathView::Apart => (quiet.lockless, ""),
            PathView::Alone => (quiet.lockless, "&immutable=1"),
        };
        let Self::File { path, .. } = self else { return self.open_once(None) };
        let name = CString::new(format!("{}?mode=ro{more}", uri(path)))
            .map_err(|error| self.error(ErrorKind::Config, error))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE
            | OpenFlags::SQLITE_OPEN_EXRESCODE
            | OpenFlags::SQLITE_OPEN_URI;
        library::check()?;
        system::open(&name, flags, Some(layer)).map_err(|(error, why)| diagnose::explain(self, error, why))
    }

    fn open_at(&self, file: Option<&Path>) -> Result<Connection> {
        if self.is_only_read() {
            return self.open_view(PathView::Probing);
        }
        let connection = self.open_once(file)?;
        // SQLite settles for reading when writing is refused, also when all that was missing was a file descriptor, at
        // that very moment. What may only be read is so the second time, too.
        if connection.is_readonly(rusqlite::MAIN_DB).unwrap_or(false) {
            drop(connection);
            return self.open_once(file);
        }
        Ok(connection)
    }

    fn open_once(&self, file: Option<&Path>) -> Result<Connection> {
        // The pool lends a connection to one borrower at a time, so SQLite's own mutex would only cost.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let (name, more) = match (self, file) {
            (_, Some(file)) => (for_engine(file), OpenFlags::SQLITE_OPEN_CREATE),
            (Self::File { path, .. }, None) => (for_engine(path), OpenFlags::empty()),
            (Self::Memory(name), None) => {
                (Cow::Borrowed(name.as_ref()), OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_CREATE)
            }
        };
        let name = CString::new(name.as_encoded_bytes()).map_err(|error| self.error(ErrorKind::Config, error))?;
        // Windows' usual layer has room for this many bytes, of which some are for what is added to the name.
        let layer = (cfg!(windows) && name.count_bytes() > 1000).then_some(c"win32-longpath");
        library::check()?;
        system::open(&name, flags | more, layer).map_err(|(error, why)| diagnose::explain(self, error, why))
    }
}

/// The path as the engine hands it to the system.
#[cfg(not(windows))]
fn for_engine(path: &Path) -> Cow<'_, OsStr> {
    Cow::Borrowed(path.as_os_str())
}

/// The path as the engine hands it to the system: with the prefix `\\?\`, without which Windows takes no more than 260
/// characters. Always, because the engine tells files apart by their names.
///
/// Source: "Maximum Path Length Limitation".
#[cfg(windows)]
fn for_engine(path: &Path) -> Cow<'_, OsStr> {
    use std::path::{Component, Prefix, absolute};

    // Behind the prefix nothing is put right: no slashes, no dots.
    let path = absolute(path).unwrap_or_else(|_| path.to_owned());
    let Some(Component::Prefix(prefix)) = path.components().next() else { return Cow::Owned(path.into()) };
    let rest = path.as_os_str();
    let start = match prefix.kind() {
        Prefix::Disk(_) => r"\\?\",
        // It begins with two backslashes itself.
        Prefix::UNC(..) => r"\\?\UNC",
        _ => return Cow::Owned(rest.to_owned()),
    };
    let mut name = OsStr::new(start).to_owned();
    match rest.to_str() {
        Some(rest) if matches!(prefix.kind(), Prefix::UNC(..)) => name.push(&rest[1..]),
        _ => name.push(rest),
    }
    Cow::Owned(name)
}

/// The path as a URI: what could be taken for an option is written by its number.
fn uri(path: &Path) -> String {
    // In front of the path as Windows has it stands one slash, which the engine takes away.
    let mut uri = String::from(if cfg!(windows) { "file:///" } else { "file:" });
    for byte in for_engine(path).as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => drop(write!(uri, "%{byte:02X}")),
        }
    }
    uri
}
