//! A file in the making, beside the place where it will stand.
//!
//! It is for its owner only from the beginning, is locked while its maker lives, and goes with it. What killed makers
//! have left is known by that nobody has it locked, and removed by the next draft for the same place.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::{Error, ErrorKind, Reason, Result};
use crate::sqlcipher::ffi::{publish, taken};
use crate::sqlcipher::opening::creation::{followed, sync_directory};
use crate::sqlcipher::opening::location::{Location, directory_of, is_of_the_disk};

/// How the name of a draft goes on after that of its target; random digits follow.
const MARK: &str = "-copy-";

/// What SQLite may have made beside it.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Removes itself unless it is published.
#[derive(Debug)]
pub(super) struct Draft {
    target: PathBuf,
    path: PathBuf,
    /// Locked. Closed after all connections to it.
    file: File,
    replace: bool,
    published: bool,
}

impl Draft {
    /// Makes an empty one for `target`. A symbolic link there is followed.
    pub(super) fn beside(target: &Path, replace: bool) -> Result<Self> {
        let target = followed(target);
        refuse(&target, replace)?;
        sweep(&target);
        let (path, file) = make(&target).map_err(|error| failed(&target, "the copy could not be begun", &error))?;
        Ok(Self { target, path, file, replace, published: false })
    }

    /// Where it is, as the engine opens it. Errors name the target.
    pub(super) fn location(&self, only_read: bool) -> Location {
        Location::File { path: self.path.clone(), shown: self.target.clone(), only_read }
    }

    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Has the system write it to the disk.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| failed(&self.target, "the copy could not be synced", &error))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |file| file.len())
    }

    /// Gives it its name, for good.
    pub(super) fn publish(mut self) -> Result<()> {
        // Somebody may have put something there meanwhile.
        refuse(&self.target, self.replace)?;
        let _taken = if self.replace { taken(&self.target)? } else { None };
        let renamed = if self.replace {
            std::fs::rename(&self.path, &self.target)
        } else {
            publish::rename_new(&self.path, &self.target)
        };
        renamed.map_err(|error| failed(&self.target, "the copy could not be given its name", &error))?;
        self.published = true;
        sync_directory(&self.target).map_err(|error| {
            failed(&self.target, "the copy is whole and in its place, but its directory could not be synced", &error)
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            remove(&self.path);
        }
    }
}

/// Refuses to overwrite, and a log that the engine would take for the copy's.
fn refuse(target: &Path, replace: bool) -> Result<()> {
    let shown = target.display();
    let refused = |message: String, hint: &'static str| {
        Err(Error::new(ErrorKind::Config, message).about(shown.to_string()).hint(hint))
    };
    match target.symlink_metadata() {
        Ok(found) if found.is_dir() => {
            return refused(format!("the copy cannot stand at {shown}: it is a directory"), "give the path of a file");
        }
        Ok(_) if !replace => {
            let hint = "give another name, or call .replace(true)";
            return refused(format!("the copy cannot stand at {shown}: there is a file already"), hint);
        }
        _ => {}
    }
    for end in ["-wal", "-journal"] {
        let log = beside(target, end);
        if log.metadata().is_ok_and(|log| log.len() > 0) {
            let message = format!("the copy cannot stand at {shown}: {} belongs to another database", log.display());
            return refused(
                message,
                "if a database stands there, open and close it, which folds its log; else delete it",
            );
        }
    }
    Ok(())
}

/// Takes what stands at the target from all others, as long as the connection lives.
fn taken(target: &Path) -> Result<Option<Connection>> {
    if !target.metadata().is_ok_and(|found| found.len() > 0) {
        return Ok(None);
    }
    let location = Location::File { path: target.to_owned(), shown: target.to_owned(), only_read: false };
    let connection = location.open()?;
    if taken::take(&connection) {
        return Ok(Some(connection));
    }
    let shown = target.display();
    Err(Error::new(ErrorKind::Busy, format!("the copy cannot stand at {shown}: somebody has the file open"))
        .about(shown.to_string())
        .hint("close it there, or give another name"))
}

fn make(target: &Path) -> io::Result<(PathBuf, File)> {
    loop {
        let mut token = [0; 8];
        getrandom::fill(&mut token).map_err(io::Error::other)?;
        let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = beside(target, &format!("{MARK}{token}"));
        let file = created(&path)?;
        // One who sweeps may just have taken it for left over.
        if lock(&file) && path.exists() {
            return Ok((path, file));
        }
    }
}

fn created(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Elsewhere a lock would keep the engine from writing.
fn lock(file: &File) -> bool {
    !cfg!(unix) || file.try_lock().is_ok()
}

/// Removes what killed makers have left.
fn sweep(target: &Path) {
    let Some(name) = target.file_name().filter(|_| cfg!(unix)) else { return };
    let mut start = OsString::from(name);
    start.push(MARK);
    let Ok(entries) = directory_of(target).read_dir() else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let token = name.as_encoded_bytes().strip_prefix(start.as_encoded_bytes());
        if token.is_some_and(|token| token.len() == 16 && token.iter().all(u8::is_ascii_hexdigit)) {
            let path = entry.path();
            if File::open(&path).is_ok_and(|file| lock(&file)) {
                tracing::warn!(file = %path.display(), "a copy that was not finished is removed");
                remove(&path);
            }
        }
    }
}

fn remove(draft: &Path) {
    std::fs::remove_file(draft).ok();
    for end in BESIDE {
        std::fs::remove_file(beside(draft, end)).ok();
    }
}

pub(super) fn beside(target: &Path, end: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

#[cold]
fn failed(target: &Path, what: &str, error: &io::Error) -> Error {
    let (kind, reason, hint) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::Storage, Reason::DiskFull, "free space, then copy again")
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            (ErrorKind::Connection, Reason::NotFound, "create the directory first")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::Connection, Reason::NotPermitted, "the process needs to create files in the directory")
        }
        io::ErrorKind::AlreadyExists => {
            (ErrorKind::Config, Reason::Unspecified, "give another name, or call .replace(true)")
        }
        _ if is_of_the_disk(error) => (ErrorKind::Storage, Reason::Io, "look at the disk"),
        _ => (ErrorKind::Storage, Reason::Unspecified, "look at the disk"),
    };
    let shown = target.display();
    Error::new(kind, format!("cannot copy to {shown}: {what}: {error}"))
        .because(reason)
        .about(shown.to_string())
        .hint(hint)
}
