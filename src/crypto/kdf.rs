//! Deriving keys and codes, as SQLCipher does.

use std::sync::Once;

use super::exit_gate;
use crate::error::{Error, ErrorKind, Phase, Result};

/// What a format of SQLCipher hashes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha1,
    Sha512,
}

impl Hash {
    /// The length of a code, in bytes.
    pub(crate) const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha512 => 64,
        }
    }
}

/// Makes the library ready, and has the exit wait for those who are inside: its own handler, which it registers as it
/// starts, must come after that of the gate.
pub(crate) fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        library::start();
        exit_gate::install();
    });
}

/// Fills `key` from `password` by PBKDF2 with HMAC. Call with a [`Pass`](super::exit_gate::Pass).
pub(crate) fn pbkdf2(hash: Hash, password: &[u8], salt: &[u8], rounds: u32, key: &mut [u8]) -> Result<()> {
    if library::pbkdf2(hash, password, salt, rounds, key) { Ok(()) } else { Err(refused("derive the key")) }
}

/// The HMAC of `data`; its first [`Hash::length`] bytes count.
pub(crate) fn hmac(hash: Hash, key: &[u8], data: &[u8]) -> Result<[u8; 64]> {
    let mut code = [0; 64];
    if library::hmac(hash, key, data, &mut code) { Ok(code) } else { Err(refused("compute the code of a page")) }
}

#[cold]
fn refused(what: &str) -> Error {
    Error::new(ErrorKind::Encryption, format!("the cryptographic library could not {what}"))
        .during(Phase::Key)
        .hint("a FIPS configuration of OpenSSL refuses short passphrases and SHA-1; give Secret::raw_key, or build with `vendored-openssl`")
}

#[cfg(not(target_vendor = "apple"))]
mod library {
    use std::ffi::{c_int, c_uint, c_void};
    use std::ptr;

    use super::Hash;

    /// `EVP_MD`: only pointers to it are passed on.
    #[repr(C)]
    struct Digest([u8; 0]);

    // libcrypto, 1.1 and later; see OPENSSL_init_crypto(3), EVP_sha512(3), PKCS5_PBKDF2_HMAC(3), HMAC(3).
    unsafe extern "C" {
        fn OPENSSL_init_crypto(options: u64, settings: *const c_void) -> c_int;
        safe fn EVP_sha1() -> *const Digest;
        safe fn EVP_sha512() -> *const Digest;
        fn PKCS5_PBKDF2_HMAC(
            password: *const u8,
            password_length: c_int,
            salt: *const u8,
            salt_length: c_int,
            rounds: c_int,
            digest: *const Digest,
            key_length: c_int,
            key: *mut u8,
        ) -> c_int;
        fn HMAC(
            digest: *const Digest,
            key: *const c_void,
            key_length: c_int,
            data: *const u8,
            data_length: usize,
            code: *mut u8,
            code_length: *mut c_uint,
        ) -> *mut u8;
    }

    /// What it fails with, every call fails with, too.
    pub(super) fn start() {
        // SAFETY: any thread may call it at any time; there are no settings.
        unsafe { OPENSSL_init_crypto(0, ptr::null()) };
    }

    fn digest(hash: Hash) -> *const Digest {
        match hash {
            Hash::Sha1 => EVP_sha1(),
            Hash::Sha512 => EVP_sha512(),
        }
    }

    pub(super) fn pbkdf2(hash: Hash, password: &[u8], salt: &[u8], rounds: u32, key: &mut [u8]) -> bool {
        let lengths = (c_int::try_from(password.len()), c_int::try_from(salt.len()), c_int::try_from(key.len()));
        let ((Ok(password_length), Ok(salt_length), Ok(key_length)), Ok(rounds)) = (lengths, c_int::try_from(rounds))
        else {
            return false;
        };
        // SAFETY: each pointer comes from a slice that lives through the call and has the length given beside it; the
        // digest is a static of the library. Only `key` is written.
        let code = unsafe {
            PKCS5_PBKDF2_HMAC(
                password.as_ptr(),
                password_length,
                salt.as_ptr(),
                salt_length,
                rounds,
                digest(hash),
                key_length,
                key.as_mut_ptr(),
            )
        };
        code == 1
    }

    pub(super) fn hmac(hash: Hash, key: &[u8], data: &[u8], code: &mut [u8; 64]) -> bool {
        let Ok(key_length) = c_int::try_from(key.len()) else { return false };
        // SAFETY: key and data are slices that live through the call, with their lengths; the longest code of the two
        // digests has 64 bytes, and a null pointer for its length is allowed.
        let written = unsafe {
            HMAC(
                digest(hash),
                key.as_ptr().cast(),
                key_length,
                data.as_ptr(),
                data.len(),
                code.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        !written.is_null()
    }
}

#[cfg(target_vendor = "apple")]
mod library {
    use std::ffi::{c_int, c_uint, c_void};

    use super::Hash;

    // CommonKeyDerivation.h and CommonHMAC.h; part of libSystem.
    const PBKDF2: u32 = 2;
    unsafe extern "C" {
        fn CCKeyDerivationPBKDF(
            algorithm: u32,
            password: *const u8,
            password_length: usize,
            salt: *const u8,
            salt_length: usize,
            function: u32,
            rounds: c_uint,
            key: *mut u8,
            key_length: usize,
        ) -> c_int;
        fn CCHmac(
            algorithm: u32,
            key: *const c_void,
            key_length: usize,
            data: *const c_void,
            data_length: usize,
            code: *mut c_void,
        );
    }

    /// It has no handler of its own for the exit.
    pub(super) fn start() {}

    pub(super) fn pbkdf2(hash: Hash, password: &[u8], salt: &[u8], rounds: u32, key: &mut [u8]) -> bool {
        let function = match hash {
            Hash::Sha1 => 1,
            Hash::Sha512 => 5,
        };
        // SAFETY: each pointer comes from a slice that lives through the call and has the length given beside it. Only
        // `key` is written.
        let code = unsafe {
            CCKeyDerivationPBKDF(
                PBKDF2,
                password.as_ptr(),
                password.len(),
                salt.as_ptr(),
                salt.len(),
                function,
                rounds,
                key.as_mut_ptr(),
                key.len(),
            )
        };
        code == 0
    }

    pub(super) fn hmac(hash: Hash, key: &[u8], data: &[u8], code: &mut [u8; 64]) -> bool {
        let algorithm = match hash {
            Hash::Sha1 => 0,
            Hash::Sha512 => 4,
        };
        // SAFETY: key and data are slices that live through the call, with their lengths; the longest code of the two
        // algorithms has 64 bytes.
        unsafe {
            CCHmac(
                algorithm,
                key.as_ptr().cast(),
                key.len(),
                data.as_ptr().cast(),
                data.len(),
                code.as_mut_ptr().cast(),
            );
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 6070, and its counterpart for SHA-512.
    #[test]
    fn pbkdf2_answers_as_published() {
        let mut key = [0; 20];
        pbkdf2(Hash::Sha1, b"password", b"salt", 4096, &mut key).unwrap();
        assert_eq!(hex(&key), "4b007901b765489abead49d926f721d065a429c1");
        let mut key = [0; 32];
        pbkdf2(Hash::Sha512, b"password", b"salt", 1, &mut key).unwrap();
        assert_eq!(hex(&key), "867f70cf1ade02cff3752599a3a53dc4af34c7a669815ae5d513554e1c8cf252");
    }

    /// RFC 2202 and RFC 4231, the second case of each.
    #[test]
    fn hmac_answers_as_published() {
        let code = |hash: Hash| hmac(hash, b"Jefe", b"what do ya want for nothing?").unwrap()[..hash.length()].to_vec();
        assert_eq!(hex(&code(Hash::Sha1)), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        assert!(
            hex(&code(Hash::Sha512)).starts_with("164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554")
        );
    }
}
