//! The default engine: SQLCipher through rusqlite, or plain SQLite where SQLCipher is not built in.
//!
//! A wing on floors 0 and 1; only `database.rs` and `template.rs` reach up to floor 3.

mod again;
mod builder_copies;
mod bulk;
mod changes;
#[cfg(feature = "sqlcipher")]
mod cipher;
mod codes;
mod configured;
mod connection;
mod connector;
mod copies;
mod database;
mod errors;
mod ffi;
mod format;
mod interact;
mod keys;
mod log;
mod opening;
mod os;
mod rekeying;
mod running;
#[cfg(feature = "testing")]
mod short_cuts;
mod statement;
mod statements;
mod stats;
#[cfg(feature = "testing")]
mod template;
mod tuning;

#[cfg(not(feature = "sqlcipher"))]
#[path = "no_cipher.rs"]
mod cipher;
#[cfg(not(feature = "testing"))]
#[path = "all_short_cuts.rs"]
mod short_cuts;

pub use bulk::SqlCipherBulk;
pub use cipher::{apply_cipher_key, is_sqlcipher_available};
pub use connection::SqlCipherConnection;
pub use connector::SqlCipherConnector;
pub use copies::{NotMade, ReplaceOptions, SalvageOptions, SalvageReport, SalvagedTable};
#[cfg(feature = "sqlcipher")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlcipher")))]
pub use ffi::locked::{KeyProtection, key_protection};
pub use stats::EngineStats;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub use template::{TemplateDatabase, TestDatabase};
pub use tuning::{Checkpoints, Synchronous, Tuning};
