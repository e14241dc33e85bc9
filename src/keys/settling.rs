//! What a source offers while one of its secrets is to follow the other.

use crate::error::{Error, ErrorKind, Reason, Result};
use crate::key::KeyCandidate;

/// The present secret, and the one that is to follow it, if there is one. It alone, where it is not settled and nothing
/// was there before it.
pub(super) fn offered(present: Result<KeyCandidate>, next: Result<KeyCandidate>) -> Result<Vec<KeyCandidate>> {
    match (present, next) {
        (Ok(present), Ok(next)) if present.secret.expose() == next.secret.expose() => Ok(vec![present]),
        (Ok(present), Ok(next)) => Ok(vec![present, next]),
        (Err(error), Ok(next)) if error.reason() == Reason::Missing => Ok(vec![next]),
        (present, next) => {
            if let Err(error) = next
                && error.reason() != Reason::Missing
            {
                tracing::warn!(%error, "a key that was to follow the present one cannot be read");
            }
            Ok(vec![present?])
        }
    }
}

/// A source has a key where it should make one for a new database.
pub(super) fn present(source: &str) -> Error {
    let message = format!("{source} exists already, and the database does not");
    Error::new(ErrorKind::Key, message)
        .because(Reason::KeyPresent)
        .hint("it is the key of another database; move it away, or leave .create_if_missing() out to use it")
}
