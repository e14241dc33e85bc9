//! Whether a page of a file was written with a key, looked at without the engine.
//!
//! A page ends in 16 bytes of initialisation vector and a code over data, vector and page number (SQLCipher's design
//! document, "page-level HMAC"). The code has a key of its own: the page key stretched by two rounds, with the
//! salt XOR 0x3a, byte by byte.

use hmac::{Hmac, KeyInit, Mac};
use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::Sha512;
use zeroize::Zeroizing;

use super::KeySpec;

/// What turns the salt of the key into the salt of the code.
const SALT_MASK: u8 = 0x3a;

/// Rounds that make the key of the code.
const ROUNDS: u32 = 2;

/// Whether page `number`, which must not be the first, carries the code that `key` makes.
pub(in super::super) fn is_authentic(key: &KeySpec, number: u32, page: &[u8]) -> bool {
    let salt: Vec<u8> = key.salt().iter().map(|byte| byte ^ SALT_MASK).collect();
    let mut code_key = Zeroizing::new([0; 32]);
    match key.compatibility() {
        // Format 1 has no codes.
        1 => false,
        2 | 3 => {
            pbkdf2_hmac::<Sha1>(key.key(), &salt, ROUNDS, &mut *code_key);
            // The room for vector and code is a multiple of 16: 12 bytes stay empty.
            Hmac::<Sha1>::new_from_slice(&*code_key).is_ok_and(|mac| verify(mac, number, page, 20, 12))
        }
        _ => {
            pbkdf2_hmac::<Sha512>(key.key(), &salt, ROUNDS, &mut *code_key);
            Hmac::<Sha512>::new_from_slice(&*code_key).is_ok_and(|mac| verify(mac, number, page, 64, 0))
        }
    }
}

fn verify(mut mac: impl Mac, number: u32, page: &[u8], length: usize, empty: usize) -> bool {
    let Some(end) = page.len().checked_sub(length + empty) else { return false };
    mac.update(&page[..end]);
    mac.update(&number.to_le_bytes());
    mac.verify_slice(&page[end..end + length]).is_ok()
}
