//! New secrets.

use zeroize::Zeroizing;

use super::file::hex;
use crate::error::{Error, ErrorKind, Reason, Result};

/// 256 random bits, as 64 hex digits: text everywhere, and the form of a raw key in a file.
pub(super) fn digits() -> Result<Zeroizing<Vec<u8>>> {
    let mut random = Zeroizing::new([0; 32]);
    if let Err(error) = getrandom::fill(&mut *random) {
        let failed = Error::new(ErrorKind::Key, "the system gave no random bytes for a new key");
        return Err(failed.because(Reason::Io).caused_by(error));
    }
    Ok(hex(&*random))
}
