//! The key as SQLCipher takes it: 32 bytes of key and 16 of salt, written as `x'hex'`.

use std::fmt;

use zeroize::Zeroizing;

use super::derive;
use crate::error::Result;
use crate::secret::{Secret, SecretForm};
use crate::sqlcipher::ffi::locked::KeyCell;
use crate::sqlcipher::format::{CURRENT, Format};

/// What every further connection is keyed with; wiped on drop.
pub(in super::super) struct KeySpec {
    key_and_salt: KeyCell,
    format: Format,
}

impl KeySpec {
    /// Makes the key from a secret and the salt of the file. Takes a tenth of a second and more for passphrases: call
    /// on a thread that may block.
    pub(in super::super) fn make(secret: &Secret, salt: [u8; 16], format: Format) -> Result<Self> {
        let mut spec = Self { key_and_salt: KeyCell::new(), format };
        let key_and_salt = &mut spec.key_and_salt;
        match secret.form() {
            SecretForm::Passphrase => {
                derive::check_passphrase(secret)?;
                derive::derive(secret.expose(), salt, format, &mut key_and_salt[..32])?;
                key_and_salt[32..].copy_from_slice(&salt);
            }
            SecretForm::RawKey => {
                key_and_salt[..32].copy_from_slice(secret.expose());
                key_and_salt[32..].copy_from_slice(&salt);
            }
            SecretForm::RawKeyWithSalt => key_and_salt.copy_from_slice(secret.expose()),
        }
        Ok(spec)
    }

    pub(in super::super) fn salt(&self) -> &[u8] {
        &self.key_and_salt[32..]
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key_and_salt[..32]
    }

    /// The size of a page in this format, in bytes.
    pub(in super::super) fn page_size(&self) -> usize {
        let usual = if self.format.compatibility == CURRENT { 4096 } else { 1024 };
        self.format.page_size.map_or(usual, |size| size as usize)
    }

    pub(in super::super) fn format(&self) -> Format {
        self.format
    }

    /// Lends the text `x'...'`, which is wiped afterwards.
    pub(super) fn with_text<T>(&self, use_text: impl FnOnce(&[u8]) -> T) -> T {
        use_text(&text(&*self.key_and_salt))
    }
}

impl fmt::Debug for KeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySpec([REDACTED])")
    }
}

/// `x'hex'`, in a buffer of exact size that is wiped on drop.
pub(super) fn text(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len() * 2 + 3));
    text.extend_from_slice(b"x'");
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
    text.push(b'\'');
    text
}
