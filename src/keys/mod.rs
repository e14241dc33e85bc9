//! Where keys come from: the shelf of [`KeySource`](crate::KeySource) implementations.
//!
//! A wing on floors 0 and 1. It knows nothing of pools and engines.

mod passphrase;
#[cfg(feature = "sops")]
pub mod sops;

pub use passphrase::PassphraseKeySource;
#[cfg(feature = "sops")]
pub use sops::SopsKeySource;
