//! Getting a session on one host.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::NoTls;
use tokio_postgres::{Client, Config, Connection};

use super::hosts::Host;
use crate::errand;
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::lock::foreign;
use crate::postgres::connection::first_values;
use crate::postgres::error::{broken, classify};
use crate::postgres::wire::{Address, Beside, Driver, Handshake, Keepalive, Limited, Link, Route, is_silent};

const IN_RECOVERY: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'on' ELSE 'off' END";

/// A session that has logged in.
pub(crate) struct Dialed {
    pub(crate) client: Client,
    pub(crate) link: Arc<Link>,
    pub(crate) driver: Arc<Driver>,
    /// Ends when the client is dropped or the connection breaks.
    pub(crate) keeper: JoinHandle<()>,
    /// As the server says it.
    pub(crate) server_version: Option<String>,
    /// By TLS.
    pub(crate) encrypted: bool,
    /// Nobody has looked yet whether it says its warnings.
    pub(crate) silent: bool,
}

/// What is the same for every host.
pub(crate) struct Dial<'a> {
    /// Without what differs from host to host.
    pub(crate) config: &'a Config,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
    pub(crate) target: TargetSessionAttrs,
    /// The session itself only reads, whatever its server accepts.
    pub(crate) reads: bool,
    /// For each address, from the first packet to a session that is ready.
    pub(crate) timeout: Duration,
    pub(crate) keepalive: Keepalive,
}

impl Dial<'_> {
    /// Tries the addresses of a host, in the order in which they are found.
    ///
    /// # Errors
    /// That of the last address.
    pub(crate) async fn host(&self, mut config: Config, host: &Host) -> Result<Dialed> {
        if !host.is_named() {
            let error = Error::new(ErrorKind::Config, "it is neither a name nor an address").during(Phase::Connect);
            return Err(error.hint("PostgresConnector::from_url takes URLs"));
        }
        let encrypted = self.tls.is_some() && !host.is_socket();
        if config.get_channel_binding() == ChannelBinding::Require && !encrypted {
            let error = Error::new(ErrorKind::Config, "channel binding is required, and this way has no TLS");
            return Err(error.during(Phase::Connect).hint("switch TLS on, or leave channel_binding at Prefer"));
        }
        config.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
        let (name, port) = (host.name.as_str(), host.port);
        if host.is_socket() {
            let address = Address::Unix(PathBuf::from(name).join(format!(".s.PGSQL.{port}")));
            return self.bounded(self.address(&config, address, None)).await;
        }
        let handshake = match &self.tls {
            None => None,
            Some(config) => Some(Handshake::new(Arc::clone(config), name).map_err(|_| not_a_name(name))?),
        };
        let found = match host.address {
            Some(address) => Ok(Ok(vec![(address, port).into()])),
            None => tokio::time::timeout(self.timeout, addresses(name, port)).await,
        };
        let addresses = match found {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => return Err(unreachable("its name cannot be resolved").caused_by(error)),
            Err(_) => return Err(unreachable("its name was not resolved in time")),
        };
        let mut outcome = Err(unreachable("its name has no address"));
        for address in addresses {
            outcome =
                self.bounded(self.address(&config, Address::Tcp(address, self.keepalive), handshake.clone())).await;
            match &outcome {
                Err(error) if error.is_transient() => {}
                _ => break,
            }
        }
        outcome
    }

    async fn bounded(&self, session: impl Future<Output = Result<Dialed>>) -> Result<Dialed> {
        match tokio::time::timeout(self.timeout, session).await {
            Ok(outcome) => outcome,
            Err(_) => Err(unreachable("it did not answer within the connect timeout")),
        }
    }

    async fn address(&self, config: &Config, address: Address, handshake: Option<Handshake>) -> Result<Dialed> {
        let refused = |error| classify(error, Phase::Connect, false);
        let stream = address.open().await.map_err(|error| broken(error.kind().to_string()).caused_by(error))?;
        let beside = Beside::default();
        let mut session = match handshake {
            None => {
                let stream = Limited::new(stream, beside.clone());
                let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(refused)?;
                start(client, connection, address, None, beside)
            }
            Some(handshake) => {
                let tls = handshake.beside(beside.clone());
                let (client, connection) = config.connect_raw(stream, tls).await.map_err(refused)?;
                start(client, connection, address, Some(handshake), beside)
            }
        };
        self.check_target(&mut session).await?;
        Ok(session)
    }

    /// Refuses a server that is not of the kind asked for.
    async fn check_target(&self, session: &mut Dialed) -> Result<()> {
        let wanted = match self.target {
            TargetSessionAttrs::ReadWrite => "off",
            TargetSessionAttrs::ReadOnly => "on",
            _ => return Ok(()),
        };
        let ask = if self.reads { IN_RECOVERY } else { "SHOW transaction_read_only; SHOW client_min_messages" };
        let answer = session.driver.wait(pin!(session.client.simple_query(ask))).await;
        let answer = answer.map_err(|error| classify(error, Phase::Connect, false))?;
        let mut said = first_values(&answer);
        let is = said.next();
        session.silent = said.next().is_some_and(is_silent);
        match is {
            Some(is) if is == wanted => Ok(()),
            _ if wanted == "off" => {
                let error = Error::new(ErrorKind::Connection, "it accepts no writes").because(Reason::NotWritable);
                Err(error.transient())
            }
            _ => {
                Err(Error::new(ErrorKind::Connection, "it accepts writes, and a read-only one was asked for")
                    .transient())
            }
        }
    }
}

fn start<S, T>(
    client: Client,
    connection: Connection<S, T>,
    address: Address,
    handshake: Option<Handshake>,
    beside: Beside,
) -> Dialed
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let server_version = connection.parameter("server_version").map(str::to_owned);
    let encrypted = handshake.is_some();
    let route = Route { address, handshake, token: client.cancel_token() };
    let link = Arc::new(Link::new(route, beside));
    let driver = Arc::new(Driver::new(drive(connection, Arc::clone(&link))));
    foreign();
    let keeper = tokio::spawn(Arc::clone(&driver).keep());
    Dialed { client, link, driver, keeper, server_version, encrypted, silent: true }
}

async fn drive<S, T>(mut connection: Connection<S, T>, link: Arc<Link>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut next = |cx: &mut Context<'_>| {
        let message = connection.poll_message(cx);
        link.time_zone(connection.parameter("TimeZone"));
        message
    };
    while let Some(message) = poll_fn(&mut next).await {
        match message {
            Ok(message) => link.hear(message),
            // Whoever waits for an answer learns of it by the end of the answers.
            Err(error) => {
                tracing::debug!(%error, "a connection to the server ended");
                return link.ended(error);
            }
        }
    }
}

#[cold]
/// The addresses of a host, by the system's resolver, which blocks.
async fn addresses(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let name = name.to_owned();
    let found = errand::send(move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter)).await;
    found.unwrap_or_else(|_lost| Err(io::Error::other("the resolver panicked")))
}

fn unreachable(why: &'static str) -> Error {
    broken(why).during(Phase::Connect)
}

#[cold]
fn not_a_name(host: &str) -> Error {
    Error::new(ErrorKind::Config, format!("{host} is not a host name")).during(Phase::Connect)
}
