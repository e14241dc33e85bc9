//! What stands in for SSH keys without the feature `sops-ssh`.

use crate::secret::Secret;

use super::age::BoxedIdentity;

/// Whether this build reads SSH keys itself.
pub(super) const NATIVE: bool = false;

/// Says what is missing.
pub(super) fn parse(_: &str, _: Option<&Secret>) -> Result<BoxedIdentity, String> {
    Err("it is an SSH key, and this build has no feature `sops-ssh`".into())
}
