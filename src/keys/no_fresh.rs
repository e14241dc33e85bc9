//! New secrets: not in a build that has no source of random bytes.

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

pub(super) fn digits() -> Result<Zeroizing<Vec<u8>>> {
    let error = Error::new(ErrorKind::Unsupported, "this build cannot make keys");
    Err(error.hint("build strongroom with an engine that has files, or with the feature `sops`"))
}
