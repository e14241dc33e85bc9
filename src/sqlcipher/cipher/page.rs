//! Whether a page of a file was written with a key, looked at without the engine.
//!
//! A page ends in 16 bytes of initialisation vector and a code over data, vector and page number (SQLCipher's design
//! document, "page-level HMAC"). The code has a key of its own: the page key stretched by two rounds, with the
//! salt XOR 0x3a, byte by byte.

use zeroize::Zeroizing;

use super::spec::KeySpec;
use crate::crypto::aes;
use crate::crypto::kdf::{Hash, hmac, pbkdf2};
use crate::error::Result;

/// What turns the salt of the key into the salt of the code.
const SALT_MASK: u8 = 0x3a;

/// Rounds that make the key of the code.
const ROUNDS: u32 = 2;

/// The length of an initialisation vector.
const VECTOR: usize = 16;

/// Opens the pages of a file one by one, in whatever state the others are.
pub(in super::super) struct PageCipher {
    key: Zeroizing<[u8; 32]>,
    /// What the codes are made with, and how many bytes behind them stay empty; format 1 has none.
    seal: Option<(Hash, Zeroizing<[u8; 32]>, usize)>,
    /// How many bytes of the first page are not encrypted.
    header: usize,
    has_plain_header: bool,
}

impl PageCipher {
    pub(in super::super) fn new(spec: &KeySpec) -> Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(spec.key());
        let seal = match spec.format().compatibility {
            1 => None,
            // The room for vector and code is a multiple of 16.
            2 | 3 => Some((Hash::Sha1, code_key(spec, Hash::Sha1)?, 12)),
            _ => Some((Hash::Sha512, code_key(spec, Hash::Sha512)?, 0)),
        };
        let has_plain_header = spec.format().has_plain_header();
        let header = if has_plain_header { super::PLAIN_HEADER as usize } else { 16 };
        Ok(Self { key, seal, header, has_plain_header })
    }

    /// Whether a page tells if it was written with this key.
    pub(in super::super) fn seals(&self) -> bool {
        self.seal.is_some()
    }

    /// How many bytes at the end of each page hold vector and code.
    pub(in super::super) fn reserved(&self) -> usize {
        VECTOR + self.seal.as_ref().map_or(0, |(hash, _, empty)| hash.length() + empty)
    }

    /// Where what is encrypted of a page begins, and where it ends.
    fn encrypted(&self, number: u32, page: &[u8]) -> Option<(usize, usize)> {
        let begin = if number == 1 { self.header } else { 0 };
        page.len().checked_sub(self.reserved()).filter(|end| *end > begin).map(|end| (begin, end))
    }

    /// Whether page `number` was written with this key, and is as it was written. The page is changed only meanwhile.
    pub(in super::super) fn is_sealed(&self, number: u32, page: &mut [u8]) -> bool {
        let Some((begin, end)) = self.encrypted(number, page) else { return false };
        let Some((hash, code_key, _)) = &self.seal else { return true };
        // The number is covered behind the vector, where the code stands.
        let (code, mut found) = (end + VECTOR..end + VECTOR + hash.length(), [0; 64]);
        let found = &mut found[..hash.length()];
        found.copy_from_slice(&page[code.clone()]);
        page[code.start..code.start + 4].copy_from_slice(&number.to_le_bytes());
        let made = hmac(*hash, &**code_key, &page[begin..code.start + 4]);
        page[code].copy_from_slice(found);
        made.is_ok_and(|made| made[..hash.length()] == *found)
    }

    /// Decrypts page `number` in place; false if it was not written with this key, or is damaged.
    pub(in super::super) fn open(&self, number: u32, page: &mut [u8]) -> bool {
        let Some((begin, end)) = self.encrypted(number, page).filter(|_| self.is_sealed(number, page)) else {
            return false;
        };
        let mut vector = [0; VECTOR];
        vector.copy_from_slice(&page[end..end + VECTOR]);
        if number == 1 && !self.has_plain_header {
            page[..16].copy_from_slice(b"SQLite format 3\0");
        }
        aes::decrypt(&self.key, &vector, &mut page[begin..end])
    }
}

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
    hmac(hash, &*code_key(key, hash)?, covered)
}

fn code_key(key: &KeySpec, hash: Hash) -> Result<Zeroizing<[u8; 32]>> {
    let salt: Vec<u8> = key.salt().iter().map(|byte| byte ^ SALT_MASK).collect();
    let mut code_key = Zeroizing::new([0; 32]);
    pbkdf2(hash, key.key(), &salt, ROUNDS, &mut *code_key)?;
    Ok(code_key)
}
