//! Where libcrypto is not there, the crate `scrypt` derives all keys.

pub(super) fn derive(_: &[u8], _: &[u8], _: u8, _: &mut [u8; 32]) -> Option<bool> {
    None
}
