//! What the system refused while a copy was made.

use std::io;
use std::path::Path;

use crate::error::{Error, ErrorKind, Reason};
use crate::sqlcipher::os::{is_full, is_of_the_disk};

#[cold]
pub(super) fn failed(target: &Path, what: &str, error: &io::Error) -> Error {
    let (kind, reason, hint) = match error.kind() {
        _ if is_full(error) => (ErrorKind::Storage, Reason::DiskFull, "free space, then copy again"),
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
