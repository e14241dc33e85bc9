//! The format of an encrypted file, where it is not the one that this crate writes by itself.

use std::fmt;
use std::ops::RangeInclusive;

use crate::error::{Error, ErrorKind, Phase, Result};

/// The version of SQLCipher's file format that this crate writes.
pub(super) const CURRENT: u8 = 4;

/// More rounds than this would take a minute for each open.
const ROUNDS: RangeInclusive<u32> = 1..=10_000_000;

/// SQLite knows pages of 512 bytes too, but a file that SQLCipher makes with them does not open again.
const PAGES: RangeInclusive<u32> = 1024..=65_536;

/// What an encrypted file looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// The version of SQLCipher.
    pub(super) compatibility: u8,
    /// Rounds of key derivation, if not those of the version.
    pub(super) rounds: Option<u32>,
    /// Bytes of a page, if not those of the version.
    pub(super) page_size: Option<u32>,
    pub(super) header: Header,
}

/// The first bytes of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Header {
    /// The salt stands there.
    #[default]
    Salt,
    /// They are SQLite's own, and the salt stands elsewhere: here, or with the key.
    Plain(Option<[u8; 16]>),
}

impl Default for Format {
    fn default() -> Self {
        Self { compatibility: CURRENT, rounds: None, page_size: None, header: Header::Salt }
    }
}

impl Format {
    /// That of a version.
    pub(super) fn of(compatibility: u8) -> Self {
        Self { compatibility, ..Self::default() }
    }

    pub(super) fn has_plain_header(&self) -> bool {
        self.header != Header::Salt
    }

    /// Refuses what no file can have, and settings of a cipher without a key.
    pub(super) fn check(&self, has_key: bool) -> Result<()> {
        let Self { compatibility, rounds, page_size, .. } = *self;
        if !(1..=CURRENT).contains(&compatibility) {
            let message = format!("cipher compatibility {compatibility} is not between 1 and 4");
            return Err(refused(message, "it is the major version of the SQLCipher that wrote the file"));
        }
        if let Some(rounds) = rounds.filter(|rounds| !ROUNDS.contains(rounds)) {
            let message = format!("{rounds} rounds of key derivation are not between 1 and 10000000");
            return Err(refused(message, "give cipher_kdf_iter() the number that the file was made with"));
        }
        if let Some(size) = page_size.filter(|size| !PAGES.contains(size) || !size.is_power_of_two()) {
            let message = format!("a page of {size} bytes is no power of two between 1024 and 65536");
            return Err(refused(message, "give cipher_page_size() the size that the file was made with"));
        }
        let named = [
            (rounds.is_some(), "cipher_kdf_iter()"),
            (page_size.is_some(), "cipher_page_size()"),
            (self.has_plain_header(), "plaintext_header()"),
        ];
        match named.into_iter().find(|(given, _)| *given && !has_key) {
            Some((_, name)) => Err(refused(
                format!("{name} describes an encrypted file, and no key was given"),
                "give one with .key()",
            )),
            None => Ok(()),
        }
    }
}

/// As an operator reads it: what differs from the version's own is named.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compatibility, rounds, page_size, .. } = self;
        write!(f, "SQLCipher {compatibility}")?;
        rounds.map_or(Ok(()), |rounds| write!(f, ", {rounds} rounds"))?;
        page_size.map_or(Ok(()), |size| write!(f, ", pages of {size} bytes"))?;
        if self.has_plain_header() { f.write_str(", plaintext header") } else { Ok(()) }
    }
}

fn refused(message: String, hint: &'static str) -> Error {
    Error::new(ErrorKind::Config, message).during(Phase::Connect).hint(hint)
}
