//! Whether a page of a file was written with a key, looked at without the engine.
//!
//! A page ends in 16 bytes of initialisation vector and a code over data, vector and page number (SQLCipher's design
//! document, "page-level HMAC"). The code has a key of its own: the page key stretched by two rounds, with the
//! salt XOR 0x3a, byte by byte.

use zeroize::Zeroizing;

use super::KeySpec;
use crate::error::Result;
use crate::sqlcipher::{ffi::kdf::Hash, ffi::kdf::hmac, ffi::kdf::pbkdf2};

/// What turns the salt of the key into the salt of the code.
const SALT_MASK: u8 = 0x3a;

/// Rounds that make the key of the code.
const ROUNDS: u32 = 2;

/// Whether page `number`, which must not be the first, carries the code that `key` makes.
pub(in super::super) fn is_authentic(key: &KeySpec, number: u32, page: &[u8]) -> bool {
    let (hash, empty) = match key.format().compatibility {
        // Format 1 has no codes.
        1 => return false,
        // The room for vector and code is a multiple of 16: 12 bytes stay empty.
        2 | 3 => (Hash::Sha1, 12),
        _ => (Hash::Sha512, 0),
    };
    let Some(end) = page.len().checked_sub(hash.length() + empty) else { return false };
    let covered = [&page[..end], &number.to_le_bytes()].concat();
    code(key, hash, &covered).is_ok_and(|code| code[..hash.length()] == page[end..end + hash.length()])
}

fn code(key: &KeySpec, hash: Hash, covered: &[u8]) -> Result<[u8; 64]> {
    let salt: Vec<u8> = key.salt().iter().map(|byte| byte ^ SALT_MASK).collect();
    let mut code_key = Zeroizing::new([0; 32]);
    pbkdf2(hash, key.key(), &salt, ROUNDS, &mut *code_key)?;
    hmac(hash, &*code_key, covered)
}
