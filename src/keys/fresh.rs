//! New secrets.

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Reason, Result};

/// 256 random bits, as 64 hex digits: text everywhere, and the form of a raw key in a file.
pub(super) fn digits() -> Result<Zeroizing<[u8; 64]>> {
    let mut random = Zeroizing::new([0; 32]);
    if let Err(error) = getrandom::fill(&mut *random) {
        let failed = Error::new(ErrorKind::Key, "the system gave no random bytes for a new key");
        return Err(failed.because(Reason::Io).caused_by(error));
    }
    let mut digits = Zeroizing::new([0; 64]);
    for (pair, byte) in digits.chunks_exact_mut(2).zip(random.iter()) {
        let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    Ok(digits)
}
