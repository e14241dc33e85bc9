//! The sign of life of a run outside of transactions, where that holds no lock of the database.

use std::fs::{File, OpenOptions, TryLockError, remove_file};
use std::path::{Path, PathBuf};

use super::history::Reads;
use crate::error::{Error, ErrorKind, Reason, Result};

/// A file beside that of the database, which whoever runs a migration outside of transactions keeps locked. The lock ends with
/// the process, however that ends. It is taken and given up only under the database's own lock of a transaction that
/// writes, so nobody sees a state in between.
#[derive(Debug)]
pub(super) struct AtWork {
    path: PathBuf,
    _locked: File,
}

impl AtWork {
    /// Where the file is; none of a database in memory, which only this process has.
    pub(super) async fn place(db: &mut impl Reads) -> Result<Option<PathBuf>> {
        let rows = db.rows("SELECT file FROM pragma_database_list WHERE name = 'main'").await?;
        let file = rows.first().map_or(Ok(None), |row| row.get::<Option<String>>(0))?;
        Ok(file.filter(|file| !file.is_empty()).map(|file| PathBuf::from(file + "-migrating")))
    }

    /// Begins; `None` while somebody else is at work.
    pub(super) fn begin(path: PathBuf) -> Result<Option<Self>> {
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(|error| failed(&path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { path, _locked: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(&path, error)),
        }
    }

    /// Ends, and leaves no file behind.
    pub(super) fn end(self) -> Result<()> {
        remove_file(&self.path).map_err(|error| failed(&self.path, error))
    }
}

#[cold]
fn failed(path: &Path, error: std::io::Error) -> Error {
    let message =
        format!("the file {}, by which runs of migrations know of each other, cannot be used", path.display());
    Error::new(ErrorKind::Storage, message)
        .because(Reason::Io)
        .hint("let the program write to the folder of the database")
        .about(path.display().to_string())
        .caused_by(error)
}
