//! The bytes of a file, read through the engine without locks, so that those of other connections stay.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::Result;
use crate::sqlcipher::ffi::header;
use crate::sqlcipher::opening::file::PathView;
use crate::sqlcipher::opening::location::Location;

/// A file that is only read.
#[derive(Debug)]
pub(super) struct Raw {
    connection: Connection,
}

impl Raw {
    pub(super) fn open(path: &Path, shown: &Path) -> Result<Self> {
        let location = Location::File { path: path.to_owned(), shown: shown.to_owned(), only_read: true };
        Ok(Self { connection: location.open_view(PathView::Alone)? })
    }

    /// What stands beside a database under this ending, if there is something in it.
    pub(super) fn beside(path: &Path, end: &str) -> Result<Option<(Self, u64)>> {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        let name = PathBuf::from(name);
        match name.metadata() {
            Ok(found) if found.len() > 0 => Ok(Some((Self::open(&name, &name)?, found.len()))),
            _ => Ok(None),
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// False at the end of the file.
    pub(super) fn read(&self, at: i64, bytes: &mut [u8]) -> rusqlite::Result<bool> {
        header::read_at(&self.connection, at, bytes)
    }

    /// Whether all of it could be read.
    pub(super) fn gives(&self, at: u64, bytes: &mut [u8]) -> bool {
        i64::try_from(at).is_ok_and(|at| self.read(at, bytes).unwrap_or(false))
    }
}
