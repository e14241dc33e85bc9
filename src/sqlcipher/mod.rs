//! The default engine: SQLCipher through rusqlite, or plain SQLite where SQLCipher is not built in.
//!
//! A wing on floors 0 and 1; only `database.rs` and `template.rs` reach up to floor 3.
//!
//! `connector` is what users set up, with `tuning` and the file's `format`; `keys` has its sources asked, `again` once more when
//! the file has another key, `rekeying` when it is to get one. `connection` is what it opens: how work gets to the engine;
//! `statements` is the contract of a database, with `bulk` and `interact`. Below them: `opening/` opens and
//! explains what fails, `running/` runs work on a thread or on the caller's task, `statement/` knows one statement, `log/` the
//! write-ahead log, `changes/` what was committed, `copies/` makes and mends files, `cipher/` encrypts, `ffi/` calls C. `errors` and
//! `codes` say what an error of SQLite means, `os` one of the system.

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
