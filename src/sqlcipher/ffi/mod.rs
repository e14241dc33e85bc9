//! What rusqlite does not wrap.
//!
//! Each file does one thing and offers safe functions outward.
#![allow(unsafe_code, reason = "SQLite's functions in C; every block says why it is sound")]

pub(super) mod commits;
mod file;
pub(super) mod fork;
pub(super) mod header;
#[cfg(feature = "sqlcipher")]
pub(super) mod key;
pub(super) mod last_id;
pub(super) mod library;
#[cfg(feature = "sqlcipher")]
pub(super) mod locked;
pub(super) mod page_cache;
pub(super) mod publish;
pub(super) mod quiet;
pub(super) mod running;
pub(super) mod switches;
pub(super) mod system;
#[cfg(not(windows))]
pub(super) mod taken;
pub(super) mod wal_index;
