//! Where keys come from: the implementations of [`KeySource`].
//!
//! A wing on floors 0 and 1. It knows nothing of pools and engines.

mod beside;
mod buffer;
mod cached;
mod candidates;
mod chain;
#[cfg(not(target_family = "wasm"))]
mod command;
mod configured;
mod env;
mod file;
mod file_life;
#[cfg(any(feature = "sqlite", feature = "sops", feature = "keyring"))]
mod fresh;
#[cfg(not(any(feature = "sqlite", feature = "sops", feature = "keyring")))]
#[path = "no_fresh.rs"]
mod fresh;
#[cfg(all(windows, feature = "sops"))]
mod job;
#[cfg(not(any(target_family = "wasm", all(windows, feature = "sops"))))]
#[path = "no_job.rs"]
mod job;
mod kept;
#[cfg(all(feature = "keyring", not(target_family = "wasm")))]
mod keyring;
mod passphrase;
mod place;
mod resolve;
mod settling;
#[cfg(feature = "sops")]
pub mod sops;

pub use cached::CachedKeySource;
pub use candidates::CandidateKeySource;
pub use chain::ChainKeySource;
#[cfg(not(target_family = "wasm"))]
pub use command::CommandKeySource;
pub use env::EnvKeySource;
pub use file::FileKeySource;
#[cfg(all(feature = "keyring", not(target_family = "wasm")))]
pub use keyring::KeyringKeySource;
pub use passphrase::PassphraseKeySource;
pub use resolve::resolve_cipher_key;
#[cfg(feature = "sops")]
pub use sops::SopsKeySource;

pub use async_trait::async_trait;

pub use crate::key::{KeyCandidate, KeySource};
pub use crate::secret::{Secret, SecretBytes, SecretForm};

use std::path::Path;

use crate::error::Result;

/// The key named `key` in the SOPS file at `path`; relative paths start at `directory`.
#[cfg(feature = "sops")]
#[allow(clippy::unnecessary_wraps, reason = "without the feature it fails")]
fn sops_source(directory: &Path, path: &Path, key: &str) -> Result<Box<dyn KeySource>> {
    Ok(Box::new(SopsKeySource::within(directory, path, key)))
}

/// The key in a SOPS file: not in this build.
#[cfg(not(feature = "sops"))]
fn sops_source(_: &Path, _: &Path, _: &str) -> Result<Box<dyn KeySource>> {
    let error = crate::error::Error::new(crate::error::ErrorKind::Unsupported, "this build cannot read SOPS files");
    Err(error.hint("build strongroom with the feature `sops`"))
}

/// What to look at when a file is not there.
const RELATIVE: &str = "a relative path starts at the working directory in which it was named";
