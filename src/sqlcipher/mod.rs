//! The default engine: SQLCipher through rusqlite, or plain SQLite where SQLCipher is not built in.
//!
//! A wing on floors 0 and 1; only `database.rs` reaches up to floor 3.

mod check;
mod checkpoint;
#[cfg(feature = "sqlcipher")]
mod cipher;
mod connection;
mod connector;
mod control;
mod creation;
mod cut_off;
mod database;
mod diagnose;
mod engine;
mod errand;
mod errors;
mod ffi;
mod group;
mod halfway;
mod inline;
mod interact;
mod job;
mod location;
mod opening;
mod plan;
mod ready;
mod script;
mod session;
mod snapshot;
mod stats;
mod stream;
mod sweeper;
mod transaction;
mod tuning;
mod watch;
mod withhold;

#[cfg(not(feature = "sqlcipher"))]
#[path = "no_cipher.rs"]
mod cipher;

pub use cipher::{apply_cipher_key, is_sqlcipher_available};
pub use connection::SqlCipherConnection;
pub use connector::SqlCipherConnector;
pub use stats::EngineStats;
pub use tuning::{Checkpoints, Synchronous, Tuning};
