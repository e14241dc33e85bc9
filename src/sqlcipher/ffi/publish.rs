//! Renaming a file without replacing another one.

use std::io;
use std::path::Path;

/// Gives `from` the name `to` in one step; fails if there is something of that name.
pub(in super::super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match exclusively(from, to) {
        Err(error) if is_unknown(&error) => linked(from, to),
        done => done,
    }
}

/// File systems that cannot do it in one call mostly have hard links, which never replace anything either.
fn linked(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::hard_link(from, to) {
        Ok(()) => std::fs::remove_file(from).or(Ok(())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists || to.symlink_metadata().is_ok() => Err(error),
        Err(_) => std::fs::rename(from, to),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn exclusively(from: &Path, to: &Path) -> io::Result<()> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt as _;

    let [from, to] = [from, to].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (from, to) = (from?, to?);
    // SAFETY: both are strings that end in NUL and live through the call. The call itself, as older C libraries lack it.
    let code = unsafe {
        let flags = libc::RENAME_NOREPLACE;
        libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn exclusively(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn is_unknown(error: &io::Error) -> bool {
    // EINVAL: a file system that does not know the flag. EPERM: a filter of system calls, as containers have.
    error.kind() == io::ErrorKind::Unsupported
        || matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EPERM))
}
