//! A file that is written whole beside its place, and then gets its name in one step.

use std::ffi::OsString;
use std::fs::{self, DirEntry, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::rename_new::rename_new;
use crate::error::{Error, ErrorKind, Phase, Reason};
use crate::private::{FileRights, create};

/// A file beside its place, with its content on the disk; removed on drop.
pub(super) struct Beside(PathBuf);

impl Beside {
    /// Writes `bytes` to a new file beside `target`, that only this user may read, or those whom `rights` names.
    pub(super) fn write(target: &Path, bytes: &[u8], rights: Option<&FileRights>) -> io::Result<Self> {
        let mut name = OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{:016x}", fastrand::u64(..)));
        let path = target.with_file_name(name);
        let mut file = create(&path)?;
        let beside = Self(path);
        file.write_all(bytes)?;
        if let Some(rights) = rights {
            rights.give(&file)?;
        }
        file.sync_all()?;
        Ok(beside)
    }

    /// Takes the place of what is at `target`. That is not on the disk yet then.
    pub(super) fn replace(self, target: &Path) -> io::Result<()> {
        // Nothing has its name afterwards that could be removed on drop.
        fs::rename(&self.0, target)
    }

    /// Takes the name `target`, unless something has it. In both cases, the name is on the disk then; where that fails, it
    /// stays, as others may have found it.
    pub(super) fn publish(self, target: &Path) -> io::Result<()> {
        match self.name(target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => sync_directory(target),
        }
    }

    /// Takes the name `target`, which is not on the disk yet then, and fails if there is something of that name.
    pub(super) fn name(self, target: &Path) -> io::Result<()> {
        match fs::hard_link(&self.0, target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {}
            named => return named,
        }
        // A file system without links, or a system that forbids them.
        match rename_new(&self.0, target) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            named => return named,
        }
        // What is left is safe in one's turn, which such a file system may have.
        if target.symlink_metadata().is_ok() { Err(io::ErrorKind::AlreadyExists.into()) } else { self.replace(target) }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

/// A name is on the disk when its directory is.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent().filter(|_| cfg!(unix)) {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// What is younger may be about to get its name.
const LEFT_FOR: Duration = Duration::from_secs(60);

/// Removes what killed processes have left of files that should have got the name `target`.
pub(super) fn sweep(target: &Path) {
    let (Some(directory), Some(name)) = (target.parent(), target.file_name()) else { return };
    let mut start = OsString::from(".");
    start.push(name);
    start.push(".");
    let is_left = |name: &OsString| {
        let token = name.as_encoded_bytes().strip_prefix(start.as_encoded_bytes());
        token.is_some_and(|token| token.len() == 16 && token.iter().all(u8::is_ascii_hexdigit))
    };
    let Ok(entries) = directory.read_dir() else { return };
    let is_old = |entry: &DirEntry| {
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        // In the time of the file system, which may be ahead of ours: that is young.
        written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age > LEFT_FOR))
    };
    for left in entries.flatten().filter(|entry| is_left(&entry.file_name()) && is_old(entry)) {
        fs::remove_file(left.path()).ok();
    }
}

/// Why a secret could not be stored.
pub(super) fn unwritable(what: impl std::fmt::Display, error: io::Error) -> Error {
    let (reason, hint) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (Reason::DiskFull, "make room, and call again"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (Reason::NotPermitted, "the process needs to create files in that directory")
        }
        io::ErrorKind::NotFound => (Reason::Missing, "create the directory first"),
        _ => (Reason::Io, "look in the system's log for the disk"),
    };
    Error::new(ErrorKind::Key, format!("{what} cannot be written"))
        .because(reason)
        .during(Phase::Key)
        .caused_by(error)
        .hint(hint)
}
