//! The way to a server.
//!
//! [`connector`] is what users set up, by methods, by a URL or by libpq's environment ([`url`], [`passfile`]). It asks the
//! hosts of the cluster in turn ([`hosts`]); [`dial`] opens the socket, with or without TLS ([`tls`]), logs in (with the
//! password that [`login`] asks for), and checks that the server is of the kind asked for.

mod connector;
mod dial;
mod hosts;
mod login;
mod names;
mod passfile;
mod session_options;
mod tls;
mod url;

pub use connector::PostgresConnector;
pub(crate) use dial::Dialed;
pub use hosts::Readers;
pub use tls::Tls;
