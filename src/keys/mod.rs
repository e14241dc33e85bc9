//! Where keys come from: the shelf of [`KeySource`](crate::KeySource) implementations.
//!
//! A wing on floors 0 and 1. It knows nothing of pools and engines.

mod passphrase;

pub use passphrase::PassphraseKeySource;
