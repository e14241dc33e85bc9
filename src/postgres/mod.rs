//! PostgreSQL, and the distributed engines that speak its protocol: feature `postgres`.
//!
//! A wing on floors 0 and 1. [`PostgresConnector`] says where the servers are and how to log in;
//! [`PostgresConnection`] is one session on one of them. The driver is [`tokio_postgres`], TLS is rustls; neither
//! OpenSSL nor SQLite is needed.
//!
//! What the server is asked to do when a future is dropped, and what that proves, stands at [`PostgresConnection`].

mod array;
mod bulk;
mod cache;
mod collect;
mod connection;
mod connector;
mod copy;
mod decode;
mod dial;
mod driver;
mod error;
mod hosts;
mod link;
mod lossy;
mod numeric;
mod parameter;
mod passfile;
mod sending;
mod session;
mod statements;
mod stream;
mod time;
mod tls;
mod url;
mod words;

pub use connection::PostgresConnection;
pub use connector::{PostgresConnector, Readers};
pub use error::ServerError;
pub use tls::Tls;
pub use tokio_postgres;
pub use tokio_postgres::config::TargetSessionAttrs;
