//! What a file looks like from outside, before anything is opened.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

/// What stands at a path.
#[derive(Debug)]
pub(crate) enum Probe {
    Missing,
    Unreadable(std::io::Error),
    NoFile,
    Empty,
    /// A database that is not encrypted.
    Plain,
    /// Encrypted behind a header that is not.
    PlainHeader,
    /// Encrypted, or no database: without the key the two look the same, but for the size.
    Opaque {
        may_be_encrypted: bool,
    },
}

/// The first bytes of a database that is not encrypted.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Where the header says how many bytes of each page are kept free; SQLCipher needs 16 at least.
const RESERVED: usize = 20;

/// Looks at the first bytes. To be called while this process has nothing open there: closing the file gives the locks of
/// the process up.
pub(crate) fn probe(path: &Path) -> Probe {
    let found = match path.metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Probe::Missing,
        Err(error) => return Probe::Unreadable(error),
    };
    if !found.is_file() {
        return Probe::NoFile;
    }
    let mut start = Vec::new();
    if let Err(error) = File::open(path).and_then(|file| file.take(512).read_to_end(&mut start)) {
        return Probe::Unreadable(error);
    }
    match start.as_slice() {
        [] => Probe::Empty,
        start if start.starts_with(MAGIC) => {
            let reserved = start.get(RESERVED).copied().unwrap_or(0);
            if reserved >= 16 { Probe::PlainHeader } else { Probe::Plain }
        }
        start => {
            // Every database is a number of whole pages, and what is encrypted looks like noise.
            let is_text = start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
            Probe::Opaque { may_be_encrypted: found.len() % 512 == 0 && !is_text }
        }
    }
}

/// Whether a file needs a key, as far as that can be seen.
pub(crate) fn is_encrypted(path: &Path) -> bool {
    matches!(probe(path), Probe::PlainHeader | Probe::Opaque { may_be_encrypted: true })
}
