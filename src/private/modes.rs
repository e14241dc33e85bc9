//! By the mode of a file, where there is one.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// Makes a file that only this user may read, where nothing was before, and opens it for reading and writing.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Whether others may read or write an open file.
#[cfg(unix)]
pub(crate) fn is_exposed(file: &File) -> io::Result<bool> {
    file.metadata().map(|metadata| std::os::unix::fs::MetadataExt::mode(&metadata) & 0o077 != 0)
}

#[cfg(not(unix))]
pub(crate) fn is_exposed(_: &File) -> io::Result<bool> {
    Ok(false)
}

/// The file that `path` means, with the numbers that tell it from one that takes its name: of its disk, and its own there.
pub(crate) fn look(path: &Path) -> io::Result<(Metadata, [u64; 2])> {
    let found = std::fs::metadata(path)?;
    #[cfg(unix)]
    let numbers = {
        use std::os::unix::fs::MetadataExt as _;
        [found.dev(), found.ino()]
    };
    #[cfg(not(unix))]
    let numbers = [0; 2];
    Ok((found, numbers))
}

/// How to make the file one that is not exposed.
pub(crate) fn way_out(shown: impl std::fmt::Display) -> String {
    format!("run: chmod 600 '{shown}'")
}

/// Who may read and write a file.
pub(crate) struct ModeRights(Metadata);

impl ModeRights {
    /// Those of the file at `path`.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(Self)
    }

    /// Gives `file`, which [`create`] has made, the same owner and permissions.
    pub(crate) fn give(&self, file: &File) -> io::Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt as _, fchown};
            let now = file.metadata()?;
            let differs = |now: u32, like: u32| (now != like).then_some(like);
            let (user, group) = (differs(now.uid(), self.0.uid()), differs(now.gid(), self.0.gid()));
            if user.is_some() || group.is_some() {
                fchown(file, user, group)?;
            }
        }
        file.set_permissions(self.0.permissions())
    }
}
