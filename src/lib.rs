//! An async, pooled, encrypted SQL database whose every strategy is a trait.
//!
//! An [`AsyncDatabase`] runs SQL on a [`Pool`] of connections that a [`Connector`] opens. The default connector is
//! [`SqlCipherConnector`]: SQLite files that [SQLCipher](https://www.zetetic.net/sqlcipher/) encrypts, with a key from
//! any [`KeySource`].
//!
//! ```
//! use strongroom::{AsyncDatabase, PassphraseKeySource};
//!
//! #[derive(serde::Deserialize)]
//! struct User {
//!     id: i64,
//!     name: String,
//! }
//!
//! #[tokio::main]
//! async fn main() -> strongroom::Result<()> {
//!     let db = AsyncDatabase::builder(":memory:").key(PassphraseKeySource::new("correct horse")).open().await?;
//!     db.execute_script("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL)").await?;
//!     db.transaction(async |tx| {
//!         tx.execute("INSERT INTO users (name) VALUES ($1)", ("alice",)).await?;
//!         tx.execute("INSERT INTO users (name) VALUES ($1)", ("bob",)).await?;
//!         Ok(()) // commits; an error, a panic or a dropped future rolls back
//!     })
//!     .await?;
//!     let users: Vec<User> = db.fetch_all_as("SELECT id, name FROM users ORDER BY id", ()).await?;
//!     assert_eq!((users[1].id, users[1].name.as_str()), (2, "bob"));
//!     Ok(())
//! }
//! ```
//!
//! # Opening
//!
//! ```
//! use std::time::Duration;
//! use strongroom::{AsyncDatabase, ErrorKind, FileKeySource};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let (path, key_file) = (directory.path().join("app.db"), directory.path().join("key"));
//! # std::fs::write(&key_file, "correct horse\n")?;
//! # #[cfg(unix)]
//! # std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
//! let db = AsyncDatabase::builder(&path)
//!     .key(FileKeySource::new(&key_file))
//!     .pool_max(8)
//!     .pool_timeout(Duration::from_secs(10))
//!     .open()
//!     .await?;
//! assert!(db.is_encrypted());
//! db.close().await?;
//!
//! let without = AsyncDatabase::builder(&path).open().await.unwrap_err();
//! assert_eq!(without.kind(), ErrorKind::Encryption);
//! # Ok(()) }
//! ```
//!
//! | the key comes from | source |
//! |---|---|
//! | the caller | [`PassphraseKeySource`] |
//! | an environment variable, a file, a program | [`EnvKeySource`], [`FileKeySource`], [`CommandKeySource`] |
//! | a SOPS file | `SopsKeySource` (feature `sops`) |
//! | the store of the system | `keys::KeyringKeySource` (feature `keyring`) |
//! | the first of several that answers | [`ChainKeySource`] |
//! | one of these, asked again only after a while | [`CachedKeySource`] |
//!
//! A configuration file can say all of this instead; see [`DatabaseConfig`].
//!
//! # Working
//!
//! Most calls are one line: [`execute`](AsyncDatabase::execute), [`execute_many`](AsyncDatabase::execute_many),
//! [`fetch_one`](AsyncDatabase::fetch_one), [`fetch_all_as`](AsyncDatabase::fetch_all_as),
//! [`fetch_stream`](AsyncDatabase::fetch_stream). Parameters are tuples, arrays, [`params!`] or the fields of a struct
//! ([`named`](fn@named)), and `IN $1` takes a [`list`]; `$1`, `?`, `?1`, `:name` and `@name` are understood. [How every
//! type is stored](_docs::values). [`transaction`](AsyncDatabase::transaction) takes an async closure
//! ([`try_transaction`](AsyncDatabase::try_transaction) one with errors of your own, `anyhow` or `thiserror`),
//! [`begin`](AsyncDatabase::begin) gives a guard, and [`connection`](AsyncDatabase::connection) lends a connection with
//! all that the driver can do.
//!
//! `migrate` (feature `migrations`) brings the schema to what the program needs; see [the guide](_docs::migrations).
//!
//! Any future may be dropped at any await: its statement is stopped, an open transaction rolled back, the connection lent
//! again. [`with_timeout`](AsyncDatabase::with_timeout) bounds waiting and running together and says what became of a
//! late call, [`transaction_with`](AsyncDatabase::transaction_with) runs a transaction again after a conflict, and
//! [`check`](AsyncDatabase::check) looks for damage. Errors say what to match on by [`Error::kind`], and what to do in their text; for the users of a
//! program, [`Error::message`] leaves the advice out.
//!
//! # Why not ...
//!
//! - *a pool of rusqlite connections?* SQLite has one writer. In such a pool, writers collide and see "database is
//!   locked"; a future that is dropped leaves its statement running; and each encrypted connection derives its key again,
//!   a sixth of a second each. Here writers queue in a fair lane, and a key is derived once.
//! - *`PRAGMA key`?* SQL texts end up in logs and errors; an empty key, or a build without SQLCipher, silently gives a
//!   plaintext file. Here the key goes through `sqlite3_key_v2` from a wiped buffer, and every such case is an error.
//! - *an ORM, queries checked at compile time?* Other crates do these well. This one ends at SQL.
//!
//! # The house
//!
//! ```text
//! floor 3   AsyncDatabase      one-liners, transactions, routing
//! floor 2   Pool               checkout, return, limits, holders, close
//! floor 1   Connector  Resource  Connection  KeySource  HealthCheck  RetryPolicy  Observer     the contracts
//! floor 0   Error  Secret  Value  Rows  Params  DatabaseConfig
//! wings     SqlCipherConnector   PostgresConnector   keys   testing                  on floors 0 and 1 only
//! ```
//!
//! A floor uses only what is below it. Whoever replaces a strategy reads floor 1 and nothing else; the suites of
//! `testing::conformance` (feature `testing`) then check the result.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `sqlcipher` | yes | the encrypted engine; needs OpenSSL's headers, or `vendored-openssl` |
//! | `sqlite` | by `sqlcipher` | alone: the engine without encryption, which refuses every key |
//! | `sops`, `sops-ssh` | `sops` | keys from SOPS files; SSH keys as age identities |
//! | `keyring` | | `keys::KeyringKeySource`: keys in the store of the system |
//! | `config` | yes | [`DatabaseConfig`] from YAML, TOML, JSON and the environment |
//! | `migrations` | yes | `migrate`: the schema as a list of migrations |
//! | `testing` | | mocks, a scripted connector, fault injection, conformance suites |
//! | `postgres` | | `PostgresConnector`: the same calls on a PostgreSQL cluster |
//! | `bb8` | | `engine::Bb8Manager`: the engines in a pool of the crate bb8, for programs that have one |
//! | `metrics`, `opentelemetry` | | metrics by OpenTelemetry's names: `database::MetricsFacade`, `database::MeterMetrics` |
//! | `json` | yes | `Json<T>` and `serde_json::Value` as parameters and columns |
//! | `chrono`, `jiff` (0.2), `jiff1` (1), `time`, `uuid`, `rust_decimal` | | their types as parameters and columns |
//!
//! Without any feature, floors 0 to 3 and most key sources remain, for an engine of your own.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(all(target_family = "wasm", feature = "sqlite"))]
compile_error!(
    "strongroom: there is no SQLite engine (features `sqlcipher`, `sqlite`) on wasm; use `default-features = false`, an engine of your \
     own, or the mocks of the feature `testing`"
);
#[cfg(all(target_family = "wasm", feature = "postgres"))]
compile_error!(
    "strongroom: there is no PostgreSQL engine (feature `postgres`) on wasm, which has no sockets; leave the feature out"
);

// The default engine, a wing. First, so that its `builder` is the first thing on the page of `AsyncDatabase`.
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub mod sqlcipher;

// Floor 0: words that everything else is made of.
mod clock;
mod config;
#[cfg(any(feature = "sqlite", feature = "sops"))]
mod crypto;
mod errand;
mod error;
mod feed;
mod lock;
mod params;
#[cfg_attr(
    not(any(feature = "sqlite", feature = "sops")),
    allow(dead_code, unused_imports, reason = "what looks whether a file is still the same is left out")
)]
mod private;
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    allow(dead_code, reason = "no engine here fills chunks")
)]
mod row;
mod secret;
#[cfg_attr(not(any(feature = "config", feature = "sops")), allow(dead_code, reason = "what reads text is left out"))]
mod text;
mod turn;
mod value;
mod veiled;

// Floor 1: the contracts.
mod connector;
mod health;
mod key;
mod observer;
mod retry;

// Floor 2: who may use a connection.
pub mod pool;

// Floor 3: the database.
#[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "only SQLite's connection is lent to a closure"))]
pub mod database;

// Floor 4: doors for those who implement a contract.
pub mod engine;
pub mod values;

// Wings.
#[cfg(feature = "bb8")]
mod bb8;
pub mod keys;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub mod postgres;
#[cfg(feature = "testing")]
pub mod testing;

// What users of a database name. What belongs to one topic only stands in its module.
pub use config::DatabaseConfig;
pub use connector::{Capabilities, Connection, Connector};
pub use database::{AsyncDatabase, DatabaseBuilder, Transaction};
pub use error::{Error, ErrorKind, Reason, Result};
pub use health::HealthCheck;
pub use key::KeySource;
#[cfg(not(target_family = "wasm"))]
pub use keys::CommandKeySource;
#[cfg(feature = "sops")]
pub use keys::SopsKeySource;
pub use keys::{CachedKeySource, ChainKeySource, EnvKeySource, FileKeySource, PassphraseKeySource, resolve_cipher_key};
pub use params::{list, named};
pub use pool::{Pool, PoolStats, Pooled};
pub use retry::RetryPolicy;
pub use row::{Row, Rows};
#[cfg(feature = "sqlite")]
pub use rusqlite;
pub use secret::Secret;
#[cfg(feature = "sqlite")]
pub use sqlcipher::{SqlCipherConnector, apply_cipher_key, is_sqlcipher_available};
#[cfg(feature = "json")]
pub use value::Json;
pub use value::Value;

/// Whether the SQLite library of this program is SQLCipher: this build has no engine.
#[cfg(not(feature = "sqlite"))]
pub fn is_sqlcipher_available() -> bool {
    false
}

// The engine of an `AsyncDatabase` that names none.
#[cfg(not(feature = "sqlite"))]
pub(crate) use connector::NoConnector as DefaultConnector;
#[cfg(feature = "sqlite")]
pub(crate) use sqlcipher::SqlCipherConnector as DefaultConnector;

/// Pages for users: errors, SOPS files, PostgreSQL, speed, proofs.
#[cfg(any(doc, doctest))]
pub mod _docs;

/// The programs in the README run as doctests.
#[cfg(all(doctest, feature = "sqlcipher"))]
#[doc = include_str!("../README.md")]
struct Readme;
