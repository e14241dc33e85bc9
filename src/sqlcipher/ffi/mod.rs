//! The one room with `unsafe`: what rusqlite does not wrap.
//!
//! Each file does one thing and offers safe functions outward.
#![allow(unsafe_code, reason = "the one room where it may stand; every block says why it is sound")]

#[cfg(feature = "sqlcipher")]
pub(super) mod aes;
pub(super) mod commits;
pub(super) mod exit_gate;
mod file;
pub(super) mod fork;
pub(super) mod header;
#[cfg(feature = "sqlcipher")]
pub(super) mod kdf;
#[cfg(feature = "sqlcipher")]
pub(super) mod key;
pub(super) mod last_id;
#[cfg(feature = "sqlcipher")]
pub(super) mod locked;
pub(super) mod page_cache;
pub(super) mod publish;
pub(super) mod quiet;
pub(super) mod running;
pub(super) mod system;
#[cfg(not(windows))]
pub(super) mod taken;
pub(super) mod wal_index;
