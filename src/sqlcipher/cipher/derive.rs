//! Stretching a passphrase as SQLCipher does, and refusing those that SQLCipher would read as something else.
//!
//! Source of the figures: SQLCipher's documentation of `cipher_compatibility`; format 4 is PBKDF2-HMAC-SHA512 with
//! 256,000 rounds, format 3 SHA1 with 64,000, formats 1 and 2 SHA1 with 4,000.

use crate::crypto::kdf::{self, Hash, pbkdf2};
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::secret::Secret;
use crate::sqlcipher::format::Format;

/// Derives the 32-byte key into `key`.
pub(super) fn derive(passphrase: &[u8], salt: [u8; 16], format: Format, key: &mut [u8]) -> Result<()> {
    let (hash, rounds) = match format.compatibility {
        1 | 2 => (Hash::Sha1, 4_000),
        3 => (Hash::Sha1, 64_000),
        _ => (Hash::Sha512, 256_000),
    };
    kdf::start();
    pbkdf2(hash, passphrase, &salt, format.rounds.unwrap_or(rounds), key)
}

/// Refuses passphrases that other SQLCipher programs could not use, or would take for a raw key.
pub(in super::super) fn check_passphrase(secret: &Secret) -> Result<()> {
    let passphrase = secret.expose();
    let (reason, message, way_out) = if passphrase.is_empty() {
        let way_out = "an empty key would mean no encryption, so give a passphrase or Secret::raw_key";
        (Reason::Empty, "the passphrase is empty", way_out)
    } else if passphrase.contains(&0) {
        let way_out = "give 32 random bytes as Secret::raw_key instead";
        (Reason::Malformed, "the passphrase contains a NUL byte", way_out)
    } else if looks_raw(passphrase) {
        let message = "the passphrase has the form x'hex', which SQLCipher takes for a raw key";
        (Reason::Malformed, message, "give the bytes as Secret::raw_key instead")
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Key, message).because(reason).during(Phase::Key).hint(way_out))
}

/// SQLCipher reads `x'...'` with 64, 96 or 160 digits as raw key material; any other length of that form is one typing
/// error away from it, so the whole form is refused.
fn looks_raw(passphrase: &[u8]) -> bool {
    let inner = passphrase.strip_prefix(b"x'").or_else(|| passphrase.strip_prefix(b"X'"));
    let inner = inner.and_then(|rest| rest.strip_suffix(b"'"));
    inner.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit))
}
