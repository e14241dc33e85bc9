//! The data key: 32 bytes that encrypt every value of one file.

use zeroize::Zeroizing;

use crate::error::{Error, Reason, Result};

use super::fault::fault;
use super::metadata::Metadata;
use super::shamir;

/// The key, on the heap so that moving it leaves no copies.
pub(super) struct DataKey(Box<Zeroizing<[u8; 32]>>);

impl DataKey {
    /// Makes a fresh one.
    pub(super) fn generate() -> Result<Self> {
        let mut key = Box::new(Zeroizing::new([0; 32]));
        random(&mut **key)?;
        Ok(Self(key))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Makes the key of what the groups gave: the key itself, or shares of it.
    pub(super) fn assemble(metadata: &Metadata, parts: Vec<Zeroizing<Vec<u8>>>) -> Result<Self> {
        let whole = if metadata.groups.len() == 1 { parts.into_iter().next() } else { Some(shamir::combine(&parts)?) };
        let whole = whole.filter(|whole| whole.len() == 32);
        let whole = whole.ok_or_else(|| fault(Reason::Malformed, "its data key is not 32 bytes"))?;
        let mut key = Box::new(Zeroizing::new([0; 32]));
        key.copy_from_slice(&whole);
        Ok(Self(key))
    }
}

/// Fills `bytes` from the operating system's random source.
pub(super) fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| {
        Error::new(crate::error::ErrorKind::Key, "the operating system gives no random bytes")
            .caused_by(error.to_string())
    })
}
