//! Where keys come from: the shelf of [`KeySource`](crate::KeySource) implementations.
//!
//! A wing on floors 0 and 1. It knows nothing of pools and engines.

mod buffer;
mod cached;
mod chain;
mod command;
mod configured;
mod env;
mod file;
mod passphrase;
mod resolve;

pub use cached::CachedKeySource;
pub use chain::ChainKeySource;
pub use command::CommandKeySource;
pub use env::EnvKeySource;
pub use file::FileKeySource;
pub use passphrase::PassphraseKeySource;
pub use resolve::resolve_cipher_key;

/// The key named `key` in the SOPS file at `path`.
pub(crate) fn sops_source(_path: &std::path::Path, _key: &str) -> crate::Result<Box<dyn crate::KeySource>> {
    let error = crate::Error::new(crate::ErrorKind::Unsupported, "this build cannot read SOPS files");
    Err(error.hint("build strongroom with the feature `sops`"))
}
