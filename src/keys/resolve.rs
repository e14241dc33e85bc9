//! The order in which a configured key is looked for.

use std::path::Path;

use super::buffer::empty;
use super::env::EnvKeySource;
use super::{place, sops_file};
use crate::error::Result;
use crate::key::KeySource;
use crate::secret::Secret;

/// Resolves the key from the first place that is given: a passphrase, then an environment variable (its name), then a
/// SOPS file (its path, and the name of the key in it). The later places are not touched, even if the first one fails.
/// `None` when no place is given: the database is meant to be plaintext.
///
/// ```
/// use strongroom::{Secret, resolve_cipher_key};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// let secret = resolve_cipher_key(Some(Secret::new("typed")), Some("UNUSED"), None).await?;
/// assert_eq!(secret.unwrap().expose(), b"typed");
/// assert!(resolve_cipher_key(None, None, None).await?.is_none());
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::Key`](crate::ErrorKind::Key) when the place that was given has no key, or an empty one.
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a SOPS file without the feature `sops`.
///
/// # Cancel safety
/// Nothing is lost by dropping the future.
pub async fn resolve_cipher_key(
    passphrase: Option<Secret>,
    env: Option<&str>,
    sops: Option<(&Path, &str)>,
) -> Result<Option<Secret>> {
    let secret = match (passphrase, env, sops) {
        (Some(passphrase), _, _) if passphrase.is_empty() => return Err(empty("the passphrase")),
        (Some(passphrase), _, _) => passphrase,
        (None, Some(name), _) => EnvKeySource::new(name).resolve().await?,
        (None, None, Some((path, key))) => sops_file::source(&place::directory(), path, key)?.resolve().await?,
        (None, None, None) => return Ok(None),
    };
    Ok(Some(secret))
}
