//! Files in bounded, wiped buffers.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::error::{Error, Reason, Result};
use crate::keys::place::RELATIVE;
use crate::private::look;

use super::fault::fault;
use super::tree::MAX_FILE;

/// What tells one content of a file from the next, without reading it.
#[derive(Debug, PartialEq)]
pub(super) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    numbers: [u64; 2],
    /// The time of the last change of content or properties, where there is one.
    changed: [i64; 2],
}

/// The stamp of the file at `path`.
pub(super) fn stamp(path: &Path) -> Result<Stamp> {
    let (metadata, numbers) = look(path).map_err(trouble)?;
    #[cfg(unix)]
    let changed = {
        use std::os::unix::fs::MetadataExt as _;
        [metadata.ctime(), metadata.ctime_nsec()]
    };
    #[cfg(not(unix))]
    let changed = [0; 2];
    Ok(Stamp { length: metadata.len(), modified: metadata.modified().ok(), numbers, changed })
}

/// Reads a regular file of at most [`MAX_FILE`] bytes into a buffer that never grows, so that no part of it stays
/// behind in freed memory.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    // Asked before opening: to open a pipe would wait for its writer.
    if !fs::metadata(path).map_err(trouble)?.is_file() {
        return Err(fault(Reason::NotAFile, "it is not a regular file"));
    }
    let file = File::open(path).map_err(trouble)?;
    let size = usize::try_from(file.metadata().map_err(trouble)?.len()).unwrap_or(usize::MAX);
    if size > MAX_FILE {
        return Err(fault(Reason::TooLarge, format!("it is larger than {} MiB", MAX_FILE >> 20)));
    }
    // One byte more than the size shows whether the file grew meanwhile.
    let mut bytes = Zeroizing::new(vec![0; size + 1]);
    let mut filled = 0;
    loop {
        match (&file).read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(trouble(error)),
        }
    }
    if filled > size {
        return Err(fault(Reason::Io, "the file changed while it was read").transient());
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn trouble(error: io::Error) -> Error {
    let (reason, what) = match error.kind() {
        io::ErrorKind::NotFound => (Reason::Missing, "the file does not exist"),
        io::ErrorKind::PermissionDenied => (Reason::NotPermitted, "the file may not be read"),
        _ => (Reason::Io, "the file cannot be read"),
    };
    let error = fault(reason, what).caused_by(error);
    if reason == Reason::Missing { error.hint(RELATIVE) } else { error }
}
