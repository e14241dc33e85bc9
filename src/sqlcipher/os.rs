//! What the number of a system's error means: `errno`, and on Windows what `GetLastError` says, where the same numbers
//! stand for other things (5 is `EIO`, and `ERROR_ACCESS_DENIED`).

use std::io;

/// The way out when there are too many files.
pub(super) const TOO_MANY_FILES: &str = if cfg!(unix) {
    "raise the limit (ulimit -n) or lower pool_max; a connection needs three"
} else {
    "lower pool_max, or close other files of this process; a connection needs three"
};

/// Whether this is the fault of what holds the file, and not of the process that asks.
pub(super) fn is_of_the_disk(error: &io::Error) -> bool {
    #[cfg(unix)]
    const FAULTS: [i32; 5] = [libc::EIO, libc::ENXIO, libc::ENODEV, libc::ESTALE, libc::ETIMEDOUT];
    // NOT_READY, CRC, SEEK, WRITE_FAULT, READ_FAULT, GEN_FAILURE, BAD_NETPATH, UNEXP_NET_ERR, NETNAME_DELETED, SEM_TIMEOUT,
    // IO_DEVICE, DISK_OPERATION_FAILED, DEVICE_NOT_CONNECTED, FILE_CORRUPT.
    #[cfg(not(unix))]
    const FAULTS: [i32; 14] = [21, 23, 25, 29, 30, 31, 53, 59, 64, 121, 1117, 1127, 1167, 1392];
    error.raw_os_error().is_some_and(|number| FAULTS.contains(&number))
}

/// Whether there is no room left, on the disk or for the one whose files these are.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the process, or the system, has no file descriptors left.
pub(super) fn has_too_many_files(error: &io::Error) -> bool {
    #[cfg(unix)]
    const NUMBERS: [i32; 2] = [libc::EMFILE, libc::ENFILE];
    // TOO_MANY_OPEN_FILES.
    #[cfg(not(unix))]
    const NUMBERS: [i32; 1] = [4];
    error.raw_os_error().is_some_and(|number| NUMBERS.contains(&number))
}

/// Whether somebody else has the file, and lets nobody have it meanwhile. Unix has no such thing.
pub(super) fn is_held(error: &io::Error) -> bool {
    // SHARING_VIOLATION, LOCK_VIOLATION.
    cfg!(windows) && matches!(error.raw_os_error(), Some(32 | 33))
}

#[cfg(test)]
mod tests {
    use super::{has_too_many_files, io, is_full, is_of_the_disk};

    #[test]
    fn numbers_are_read_as_the_system_means_them() {
        let of = |number| io::Error::from_raw_os_error(number);
        let (disk, files, denied) = if cfg!(windows) { (1117, 4, 5) } else { (5, 24, 13) };
        assert!(is_of_the_disk(&of(disk)) && !is_of_the_disk(&of(files)) && !is_of_the_disk(&of(denied)));
        assert!(has_too_many_files(&of(files)) && !has_too_many_files(&of(disk)) && !has_too_many_files(&of(denied)));
        #[cfg(unix)]
        let full = [libc::ENOSPC, libc::EDQUOT];
        // DISK_FULL, DISK_QUOTA_EXCEEDED.
        #[cfg(not(unix))]
        let full = [112, 1295];
        assert!(full.iter().all(|number| is_full(&of(*number))) && !is_full(&of(disk)) && !is_full(&of(denied)));
        assert_eq!(of(denied).kind(), io::ErrorKind::PermissionDenied);
    }
}
