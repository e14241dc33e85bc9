//! Files in bounded, wiped buffers.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::{Reason, Result};

use super::fault;
use super::tree::MAX_FILE;

/// Reads a regular file of at most [`MAX_FILE`] bytes into a buffer that never grows, so that no part of it stays
/// behind in freed memory.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let trouble = |error: io::Error| {
        let reason = if error.kind() == io::ErrorKind::NotFound { Reason::Missing } else { Reason::Io };
        fault(reason, "cannot read the file").caused_by(error)
    };
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
