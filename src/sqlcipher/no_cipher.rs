//! Stands in for `cipher` in builds without SQLCipher: every key is refused, so nothing is stored in plaintext that was
//! meant to be encrypted.

use std::convert::Infallible;

use rusqlite::Connection;

pub(super) use self::NoPageCipher as PageCipher;
use super::format::Format;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::secret::Secret;

/// A key that cannot exist in this build.
#[derive(Debug)]
pub(super) struct KeySpec(Infallible);

impl KeySpec {
    pub(super) fn make(_: &Secret, _: [u8; 16], _: Format) -> Result<Self> {
        Err(no_cipher())
    }

    pub(super) fn salt(&self) -> &[u8] {
        match self.0 {}
    }

    pub(super) fn page_size(&self) -> usize {
        match self.0 {}
    }

    pub(super) fn format(&self) -> Format {
        match self.0 {}
    }
}

fn no_cipher() -> Error {
    Error::new(ErrorKind::Encryption, "a key was given, but this build of strongroom has no cipher")
        .because(Reason::NoCipher)
        .hint("enable the feature `sqlcipher`, or `vendored-openssl` where OpenSSL's headers are missing")
}

pub(super) fn require(_: &Connection) -> Result<()> {
    Err(no_cipher())
}

pub(super) fn check_passphrase(_: &Secret) -> Result<()> {
    Err(no_cipher())
}

pub(super) fn key(_: &Connection, spec: &KeySpec) -> Result<()> {
    match spec.0 {}
}

pub(super) fn change(_: &Connection, spec: &KeySpec) -> rusqlite::Result<()> {
    match spec.0 {}
}

pub(super) fn is_at_work(_: &Connection) -> bool {
    false
}

pub(super) fn is_authentic(spec: &KeySpec, _: u32, _: &[u8]) -> bool {
    match spec.0 {}
}

/// A cipher that cannot exist in this build.
pub(super) struct NoPageCipher(Infallible);

impl NoPageCipher {
    pub(super) fn new(spec: &KeySpec) -> Result<Self> {
        match spec.0 {}
    }

    pub(super) fn seals(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn reserved(&self) -> usize {
        match self.0 {}
    }

    pub(super) fn is_sealed(&self, _: u32, _: &mut [u8]) -> bool {
        match self.0 {}
    }

    pub(super) fn open(&self, _: u32, _: &mut [u8]) -> bool {
        match self.0 {}
    }
}

/// Refuses: this build has no cipher.
///
/// # Errors
/// Always [`ErrorKind::Encryption`] with [`Reason::NoCipher`].
pub fn apply_cipher_key(_: &Connection, _: &Secret) -> Result<()> {
    Err(no_cipher())
}

/// Whether the SQLite library of this program is SQLCipher: not in this build.
pub fn is_sqlcipher_available() -> bool {
    false
}
