//! Where keys come from: the implementations of [`KeySource`].
//!
//! A wing on floors 0 and 1. It knows nothing of pools and engines.
//!
//! A file or folder for each place: `env`, `file` (`file_life`: how it is made and replaced, `beside`: written whole, `turn`: by one at
//! a time), `command`,
//! `passphrase`, `keyring/`, `sops/`. Around them `cached`, `chain` and `candidates`; `kept` is what remembers. `resolve` and
//! `configured` choose one by settings. `buffer` reads a secret without leaving copies.

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
#[cfg(all(any(target_os = "linux", target_os = "android"), any(feature = "sops", feature = "keyring")))]
mod rename_new;
#[cfg(not(all(any(target_os = "linux", target_os = "android"), any(feature = "sops", feature = "keyring"))))]
#[path = "no_rename_new.rs"]
mod rename_new;
mod resolve;
mod settling;
#[cfg(feature = "sops")]
pub mod sops;
#[cfg(feature = "sops")]
mod sops_file;
#[cfg(not(feature = "sops"))]
#[path = "no_sops_file.rs"]
mod sops_file;
mod turn;

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
