//! The passphrase of identities that are protected by one.

use crate::secret::Secret;

/// The passphrase for a protected identity, as text.
pub(super) fn usable(passphrase: Option<&Secret>) -> Result<&str, &'static str> {
    let passphrase = passphrase.ok_or("it is protected by a passphrase and none was given")?;
    if passphrase.is_empty() {
        return Err("it is protected by a passphrase, and the one of the identity sources is empty");
    }
    std::str::from_utf8(passphrase.expose()).map_err(|_| "its passphrase is not text")
}
