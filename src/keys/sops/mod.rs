//! Keys from SOPS files, read without the `sops` program wherever that is possible.
//!
//! A wing on floors 0 and 1, feature `sops`. Reading goes down this list, one file of code for each step:
//! bytes → [`SopsFormat`] → ordered tree → metadata → data key → every value decrypted and hashed → MAC → the one value.
//! Nothing is released before the MAC over the whole file matched.
//!

#![doc = include_str!("../../../docs/sops.md")]

mod age;
mod backend;
mod data_key;
mod document;
mod dotenv;
mod encrypt;
mod exchange;
mod fault;
mod file;
mod flat;
mod format;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gcm;
mod gpg;
mod identity;
mod ini;
mod insert;
mod json;
mod life;
mod metadata;
mod open;
mod passphrase;
mod path;
#[cfg(not(target_family = "wasm"))]
mod program;
#[cfg(target_family = "wasm")]
#[path = "no_program.rs"]
mod program;
mod reader;
mod rules;
mod scalar;
mod shamir;
mod source;
mod spot;
#[cfg(feature = "sops-ssh")]
mod ssh;
#[cfg(not(feature = "sops-ssh"))]
#[path = "no_ssh.rs"]
mod ssh;
mod time;
mod tree;
mod wipe;
mod words;
mod write;
mod yaml;

pub use backend::SopsBackend;
pub use encrypt::{AgeIdentity, encrypt};
pub use format::SopsFormat;
pub use identity::IdentitySources;
pub use path::KeyPath;
pub use reader::{decrypt, replace};
pub use source::SopsKeySource;
