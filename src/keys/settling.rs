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

/// The database has a secret that its source neither has nor was about to have. `kept` says whether that could be stored as the
/// one that is to follow.
pub(super) fn displaced(source: &str, kept: Result<()>) -> Error {
    let message = format!("{source} has another key, which is not the one that the database has now");
    let error = Error::new(ErrorKind::Key, message).because(Reason::WrongKey);
    match kept {
        Ok(()) => error.hint("that is stored as the one to follow, and opens the database; rekey_fresh() takes it up"),
        Err(cause) => error.caused_by(cause).hint(
            "nobody else has that: before this handle is closed, call rekey_fresh(), or rekey() with a key of yours",
        ),
    }
}

/// A source has a key where it should make one for a new database.
pub(super) fn present(source: &str) -> Error {
    let message = format!("{source} exists already, and the database does not");
    Error::new(ErrorKind::Key, message)
        .because(Reason::KeyPresent)
        .hint("it is the key of another database; move it away, or leave .create_if_missing() out to use it")
}
