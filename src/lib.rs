//! An async, pooled, encrypted SQL database whose every strategy is a trait.
#![cfg_attr(docsrs, feature(doc_cfg))]

// Floor 0: words that everything else is made of.
mod config;
mod error;
mod params;
mod row;
mod secret;
mod value;

// Floor 1: the contracts.
mod connector;
mod health;
mod key;
mod retry;

// Floor 2: who may use a connection.
mod pool;

// Floor 3: the database.
mod database;

// Wings.
pub mod keys;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub mod postgres;
#[cfg(feature = "sqlite")]
mod sqlcipher;
#[cfg(feature = "testing")]
pub mod testing;

pub use async_trait::async_trait;
pub use config::{CipherConfig, DatabaseConfig, KeyPlace, PoolConfig, RetryConfig};
#[cfg(not(feature = "sqlite"))]
pub(crate) use connector::NoConnector as DefaultConnector;
pub use connector::{
    Access, Cancel, CancelKind, Canceller, Capabilities, Connection, Connector, Isolation, NoConnector, Resource,
    ResourceState, Statement, StatementKind, TransactionMode,
};
pub use database::{AsyncDatabase, DatabaseBuilder, RawConnection, RowStream, Savepoint, Transaction};
pub use error::{Error, ErrorKind, Phase, Reason, Result};
pub use health::{AlwaysHealthy, HealthCheck, Ping, SkipIfRecent};
pub use key::KeySource;
#[cfg(feature = "sops")]
pub use keys::SopsKeySource;
pub use keys::{
    CachedKeySource, ChainKeySource, CommandKeySource, EnvKeySource, FileKeySource, PassphraseKeySource,
    resolve_cipher_key,
};
pub use params::{Dialect, IntoParams, Params, Placeholders, Style};
pub use pool::{CloseReport, HoldToken, Pool, PoolBuilder, PoolStats, Pooled};
#[cfg(feature = "postgres")]
pub use postgres::PostgresConnector;
pub use retry::{Attempt, ExponentialBackoff, FixedDelay, NoRetry, RetryPolicy};
pub use row::{Changes, ColumnIndex, Row, Rows, RowsBuilder, RowsIter};
#[cfg(feature = "sqlite")]
pub use rusqlite;
pub use secret::{Secret, SecretBytes, SecretForm};
#[cfg(feature = "sqlite")]
pub(crate) use sqlcipher::SqlCipherConnector as DefaultConnector;
#[cfg(feature = "sqlite")]
pub use sqlcipher::{
    SqlCipherConnection, SqlCipherConnector, Synchronous, Tuning, apply_cipher_key, is_sqlcipher_available,
};
/// Whether the SQLite library of this program is SQLCipher: this build has no engine.
#[cfg(not(feature = "sqlite"))]
pub fn is_sqlcipher_available() -> bool {
    false
}
pub use value::{FromValue, IntoValue, Null, Value, ValueRef};
