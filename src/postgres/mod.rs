//! PostgreSQL, and the distributed engines that speak its protocol: feature `postgres`.
//!
//! A wing on floors 0 and 1; only `template.rs` reaches up to floor 3. [`PostgresConnector`] says where the servers are and how to log in;
//! [`PostgresConnection`] is one session on one of them. The driver is [`tokio_postgres`], TLS is rustls; neither
//! OpenSSL nor SQLite is needed.
//!
//! `reaching/` finds a server, logs in and makes the session; `wire/` is the stream below; `statements/` prepares, sends and collects;
//! `values/` has the forms of types; `changes/` follows what is committed. `error` says what a SQLSTATE, or an error of the driver,
//! means; `said` cuts values out of its message.
//!
//! What the server is asked to do when a future is dropped, and what that proves, stands at [`PostgresConnection`].

mod changes;
mod connection;
mod error;
mod reaching;
mod said;
mod statements;
#[cfg(feature = "testing")]
mod template;
mod values;
mod wire;

pub use connection::PostgresConnection;
pub use error::ServerError;
pub use reaching::{PostgresConnector, Readers, Tls};
pub use statements::PostgresBulk;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub use template::{PostgresTemplate, PostgresTestDatabase};
pub use tokio_postgres;
pub use tokio_postgres::config::{ChannelBinding, TargetSessionAttrs};
