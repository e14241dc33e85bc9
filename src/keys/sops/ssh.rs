//! SSH private keys as age identities.

use age::ssh::Identity;

use super::identity::BoxedIdentity;

/// Whether this build reads SSH keys itself.
pub(super) const NATIVE: bool = true;

/// Reads one SSH private key.
pub(super) fn parse(text: &[u8]) -> Result<BoxedIdentity, String> {
    // A slice is its own buffer; a `BufReader` would leave another copy.
    match Identity::from_buffer(text, None) {
        Ok(identity @ Identity::Unencrypted(_)) => Ok(Box::new(identity)),
        Ok(Identity::Encrypted(_)) => Err("the SSH key is protected by a passphrase, and nothing here prompts".into()),
        _ => Err("it is not an SSH key of a kind that age knows".into()),
    }
}
