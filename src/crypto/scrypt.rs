//! scrypt (RFC 7914) as age files have it: blocks of 1 KiB (r = 8), one after the other (p = 1).
//!
//! libcrypto does it where it is there, and otherwise the crate `scrypt`, which needs a minute for what `age -p` asks in a
//! program that is compiled without optimisation.

use scrypt::{Params, scrypt};

use super::{SCRYPT_BLOCK, scrypt_library};

/// Fills `key` by 2^`work` blocks of memory; false if the system does not give that.
pub(crate) fn derive(passphrase: &[u8], salt: &[u8], work: u8, key: &mut [u8; 32]) -> bool {
    let by_library = scrypt_library::derive(passphrase, salt, work, key);
    by_library.unwrap_or_else(|| by_crate(passphrase, salt, work, key))
}

pub(super) fn by_crate(passphrase: &[u8], salt: &[u8], work: u8, key: &mut [u8; 32]) -> bool {
    let blocks = 1_u64.checked_shl(work.into()).and_then(|blocks| blocks.checked_mul(SCRYPT_BLOCK));
    let Some(memory) = blocks.and_then(|bytes| usize::try_from(bytes).ok()) else { return false };
    // The crate would end the process.
    if Vec::<u8>::new().try_reserve_exact(memory).is_err() {
        return false;
    }
    let Ok(params) = Params::new(work, 8, 1) else { return false };
    scrypt(passphrase, salt, &params, key).is_ok()
}
