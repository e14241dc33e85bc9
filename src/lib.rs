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

// Wings.
pub mod keys;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub mod postgres;

pub use async_trait::async_trait;
pub use connector::{
    Access, Cancel, CancelKind, Canceller, Capabilities, Connection, Connector, Isolation, NoConnector, Resource,
    ResourceState, Statement, StatementKind, TransactionMode,
};
pub use error::{Error, ErrorKind, Phase, Reason, Result};
pub use health::{AlwaysHealthy, HealthCheck, Ping, SkipIfRecent};
pub use key::KeySource;
pub use keys::PassphraseKeySource;
pub use params::{Dialect, IntoParams, Params, Placeholders, Style};
#[cfg(feature = "postgres")]
pub use postgres::PostgresConnector;
pub use retry::{Attempt, ExponentialBackoff, FixedDelay, NoRetry, RetryPolicy};
pub use row::{Changes, ColumnIndex, Row, Rows, RowsBuilder, RowsIter};
pub use secret::{Secret, SecretBytes, SecretForm};
pub use value::{FromValue, IntoValue, Null, Value, ValueRef};
