//! One process of a user at a time changes an entry: the stores write over what is there, and have no call that does not.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Reason, Result};

/// Waits until no other process of this user is between looking for a secret and storing one. Until it is dropped.
pub(super) fn take(name: &str) -> Result<File> {
    let directory = directory();
    own(&directory).and_then(|()| locked(&directory)).map_err(|error| {
        Error::new(ErrorKind::Key, format!("{name} cannot be changed: no lock on {}", directory.display()))
            .because(Reason::NotPermitted)
            .caused_by(error)
            .hint("the process needs a temporary directory, and that one for its user alone")
    })
}

fn locked(directory: &std::path::Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(directory.join("keyring.lock"))?;
    // The system gives it up with the file, also where the process is killed.
    file.lock()?;
    Ok(file)
}

/// On Unix the temporary directory is everybody's, and the name has to say whose this is.
fn directory() -> PathBuf {
    #[cfg(unix)]
    let name = format!("strongroom-{}", rustix::process::geteuid().as_raw());
    #[cfg(not(unix))]
    let name = "strongroom";
    std::env::temp_dir().join(name)
}

/// Makes the directory, or sees that nobody else made it.
#[cfg(unix)]
fn own(directory: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let found = fs::symlink_metadata(directory)?;
    let is_own = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if is_own { Ok(()) } else { Err(io::Error::other("it belongs to somebody else, or others may write there")) }
}

#[cfg(not(unix))]
fn own(directory: &std::path::Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}
