//! What engines say of statements that cannot be watched.

use crate::error::{Error, ErrorKind, Reason};

/// Refuses to watch a statement that writes.
#[cold]
pub(crate) fn only_reads() -> Error {
    Error::new(ErrorKind::Unsupported, "a statement that is watched must only read")
        .because(Reason::Control)
        .hint("run what writes by execute(), and watch a SELECT")
}
