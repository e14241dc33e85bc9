//! scrypt by libcrypto, which also wipes the memory that it took.

use std::ffi::{c_char, c_int};

use super::{SCRYPT_BLOCK, exit_gate, kdf};

/// Work for a few seconds (1 GiB), for which the exit of the process waits. More is done in Rust, where a thread may be at
/// the exit; `age -p` asks for 18.
const MOST: u8 = 20;

// libcrypto, 1.1 and later; see EVP_PBE_scrypt(3).
unsafe extern "C" {
    fn EVP_PBE_scrypt(
        passphrase: *const c_char,
        passphrase_length: usize,
        salt: *const u8,
        salt_length: usize,
        n: u64,
        r: u64,
        p: u64,
        most_memory: u64,
        key: *mut u8,
        key_length: usize,
    ) -> c_int;
}

/// Whether the system gave the memory; `None` if this is not for libcrypto, or libcrypto does no scrypt, as in a FIPS
/// configuration of OpenSSL.
pub(super) fn derive(passphrase: &[u8], salt: &[u8], work: u8, key: &mut [u8; 32]) -> Option<bool> {
    if work > MOST {
        return None;
    }
    let _pass = exit_gate::enter();
    kdf::start();
    if call(passphrase, salt, work, key) {
        return Some(true);
    }
    // It tells no reason; what fails with the least memory fails for another one.
    call(passphrase, salt, 1, key).then_some(false)
}

fn call(passphrase: &[u8], salt: &[u8], work: u8, key: &mut [u8; 32]) -> bool {
    let blocks = 1 << work;
    // All blocks, the one that they begin with, and two to work on; without a bound, 32 MiB would be the most.
    let memory = SCRYPT_BLOCK * (blocks + 3);
    // SAFETY: each pointer comes from a slice that lives through the call and has the length given beside it. Only `key` is
    // written.
    let code = unsafe {
        EVP_PBE_scrypt(
            passphrase.as_ptr().cast(),
            passphrase.len(),
            salt.as_ptr(),
            salt.len(),
            blocks,
            8,
            1,
            memory,
            key.as_mut_ptr(),
            key.len(),
        )
    };
    code == 1
}

#[cfg(test)]
mod tests {
    use super::super::scrypt::by_crate;
    use super::*;

    #[test]
    fn the_library_derives_what_the_crate_derives() {
        let salt = [7; 44];
        let long = "long ".repeat(100);
        for (passphrase, work) in [("", 1), ("pass phrase", 16), ("p\u{e4}ss\0phrase", 2), (&long, 12)] {
            let (mut here, mut there) = ([0; 32], [1; 32]);
            assert_eq!(derive(passphrase.as_bytes(), &salt, work, &mut here), Some(true));
            assert!(by_crate(passphrase.as_bytes(), &salt, work, &mut there));
            assert_eq!(here, there, "{passphrase:?}, 2^{work}");
        }
        assert_eq!(derive(b"", &salt, MOST + 1, &mut [0; 32]), None);
    }
}
