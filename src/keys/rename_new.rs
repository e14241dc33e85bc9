//! Renaming a file without replacing another one, in one call of the system.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// Fails with [`io::ErrorKind::AlreadyExists`] if something has the name `to`, and with [`io::ErrorKind::Unsupported`] where the
/// kernel or the file system cannot do it.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(|errno| match errno {
        // EINVAL: a file system that does not know the flag. EPERM: a filter of system calls, as containers have.
        Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::OPNOTSUPP => io::ErrorKind::Unsupported.into(),
        errno => errno.into(),
    })
}
