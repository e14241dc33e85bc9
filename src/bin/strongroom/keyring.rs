//! Keys in the store of the system.

use strongroom::KeySource;
use strongroom::keys::KeyringKeySource;

/// The entry that `SERVICE/USER` names; a service may have slashes of its own.
pub(crate) fn source(place: &str, raw: bool) -> Box<dyn KeySource> {
    let (service, user) = place.rsplit_once('/').unwrap_or((place, ""));
    let source = KeyringKeySource::new(service, user);
    Box::new(if raw { source.raw_key() } else { source })
}
