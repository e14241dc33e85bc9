//! A file exchanged as a whole: at every moment it has the content of before or after.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Reason, Result};

use super::data_key::random;
use super::fault;
use super::file::{Stamp, stamp};

/// A file beside the one that is exchanged; removed on drop unless it took its place.
struct Beside {
    path: PathBuf,
    done: bool,
}

/// Writes `bytes` over the file at `path`, if that is still the file of `seen`. Links are followed, and permissions and
/// owner stay. Both the file and its directory are synced.
pub(super) fn over(path: &Path, bytes: &[u8], seen: &Stamp) -> Result<()> {
    let trouble = |error: io::Error| {
        let reason = if error.kind() == io::ErrorKind::PermissionDenied { Reason::NotPermitted } else { Reason::Io };
        fault(reason, "the file cannot be written").caused_by(error)
    };
    let path = fs::canonicalize(path).map_err(trouble)?;
    let before = fs::metadata(&path).map_err(trouble)?;
    if before.permissions().readonly() {
        return Err(fault(Reason::NotPermitted, "the file is read-only"));
    }
    let (mut beside, mut file) = Beside::create(&path)?.map_err(trouble)?;
    file.write_all(bytes).and_then(|()| keep(&file, &before)).and_then(|()| file.sync_all()).map_err(trouble)?;
    drop(file);
    if stamp(&path)? != *seen {
        return Err(changed());
    }
    fs::rename(&beside.path, &path).map_err(trouble)?;
    beside.done = true;
    sync_directory(&path).map_err(trouble)
}

impl Beside {
    fn create(path: &Path) -> Result<io::Result<(Self, File)>> {
        let mut number = [0; 8];
        random(&mut number)?;
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{:016x}", u64::from_ne_bytes(number)));
        let path = path.with_file_name(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(options.open(&path).map(|file| (Self { path, done: false }, file)))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Gives `file` the owner and the permissions of the one that it follows.
fn keep(file: &File, before: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let now = file.metadata()?;
        let differs = |now: u32, before: u32| (now != before).then_some(before);
        let (user, group) = (differs(now.uid(), before.uid()), differs(now.gid(), before.gid()));
        if user.is_some() || group.is_some() {
            fchown(file, user, group)?;
        }
    }
    file.set_permissions(before.permissions())
}

/// A name is on the disk when its directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent().filter(|_| cfg!(unix)) {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn changed() -> Error {
    fault(Reason::Io, "the file was changed meanwhile, and stays as it is now").transient()
}
