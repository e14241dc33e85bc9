//! Where the servers are, and how to log in.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio_postgres::config::{SslMode, TargetSessionAttrs};

use super::cache::Cache;
use super::connection::PostgresConnection;
use super::dial::Dial;
use super::session::Age;
use super::tls::Tls;
use crate::{
    Access, CancelKind, Capabilities, Connector, Dialect, Error, ErrorKind, KeySource, Phase, Reason, Result,
    SecretForm,
};

/// Opens connections to PostgreSQL.
///
/// A plain value: nothing is opened before [`connect`](Connector::connect). The password comes from a [`KeySource`]
/// that is asked for every connection, so that it may change while the program runs; it is kept nowhere in between.
///
/// With several hosts, each connection goes to the first that answers and is of the kind asked for (see
/// [`target_session_attrs`](PostgresConnector::target_session_attrs)), beginning with the one that was right last
/// time. This is how a new primary is found after a failover.
///
/// ```
/// use strongroom::{Capabilities, Connector, PassphraseKeySource, PostgresConnector};
///
/// let connector = PostgresConnector::new("db1.example.com", 5432)
///     .host("db2.example.com", 5432)
///     .database("shop")
///     .user("app")
///     .key(PassphraseKeySource::new("typed by the operator"));
/// assert!(!connector.capabilities().single_writer);
/// assert!(!format!("{connector:?}").contains("typed by the operator"));
/// ```
#[derive(Clone)]
pub struct PostgresConnector {
    hosts: Vec<(String, u16)>,
    database: Option<String>,
    user: String,
    key: Option<Arc<dyn KeySource>>,
    tls: Tls,
    application_name: String,
    connect_timeout: Duration,
    target: Option<TargetSessionAttrs>,
    statement_cache: usize,
    bulk_copy: bool,
    settings: Vec<(String, String)>,
    /// The host that was right last time.
    last: Arc<AtomicUsize>,
    /// How many of its sessions were found broken.
    breaks: Arc<AtomicUsize>,
}

impl PostgresConnector {
    /// A server at `host`, a name or an IP address.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            hosts: vec![(host.into(), port)],
            database: None,
            user: "postgres".into(),
            key: None,
            tls: Tls::default(),
            application_name: "strongroom".into(),
            connect_timeout: Duration::from_secs(5),
            target: None,
            statement_cache: 256,
            bulk_copy: true,
            settings: Vec::new(),
            last: Arc::default(),
            breaks: Arc::default(),
        }
    }

    /// One more server of the same cluster.
    pub fn host(mut self, host: impl Into<String>, port: u16) -> Self {
        self.hosts.push((host.into(), port));
        self
    }

    /// The database; by default that of the user's name.
    pub fn database(mut self, database: impl Into<String>) -> Self {
        self.database = Some(database.into());
        self
    }

    /// The user; `postgres` by default.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = user.into();
        self
    }

    /// Where the password comes from. Without it, only servers that ask for none let us in.
    pub fn key(mut self, source: impl KeySource + 'static) -> Self {
        self.key = Some(Arc::new(source));
        self
    }

    /// How the way to the server is protected; encrypted and verified in full by default.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = tls;
        self
    }

    /// The name under which the server lists the connections; `strongroom` by default.
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = name.into();
        self
    }

    /// How long one address of one host may take, from the first packet to a session that is ready; 5 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Which hosts will do. By default connections that write want a server that accepts writes, and connections that
    /// only read take any.
    pub fn target_session_attrs(mut self, target: TargetSessionAttrs) -> Self {
        self.target = Some(target);
        self
    }

    /// How many prepared statements a connection keeps; 256 by default.
    ///
    /// With 0 nothing is prepared by name, which poolers in transaction mode need. The types of parameters are then
    /// found by the server without telling: an integer given where a text is expected arrives as its digits, a result
    /// without rows has no column names, and enums and other types of your own have to be cast to text.
    pub fn statement_cache(mut self, statements: usize) -> Self {
        self.statement_cache = statements;
        self
    }

    /// Whether many rows for a plain `INSERT` may travel as one `COPY` where the effect is the same; true by default.
    /// Switch it off for servers that only resemble PostgreSQL and whose catalogs lack what is asked to find out.
    pub fn bulk_copy(mut self, allowed: bool) -> Self {
        self.bulk_copy = allowed;
        self
    }

    /// A setting of the server for every session, such as `("statement_timeout", "5s")`. A session that was altered
    /// returns to it.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// The driver's configuration with the password in it; it lives as long as one `connect`.
    async fn config(&self, access: Access, tls: bool) -> Result<tokio_postgres::Config> {
        let mut config = tokio_postgres::Config::new();
        config.user(&self.user).dbname(self.database.as_ref().unwrap_or(&self.user));
        config.application_name(&self.application_name);
        config.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
        let options = self.options(access);
        if !options.is_empty() {
            config.options(options);
        }
        if let Some(key) = &self.key {
            let secret = key.resolve().await.map_err(|error| error.about(key.describe()).during(Phase::Key))?;
            let unfit = |what, reason| {
                let message = format!("{} gave {what} for the password of {}", key.describe(), self.user);
                Err(Error::new(ErrorKind::Key, message).because(reason).during(Phase::Key))
            };
            if secret.is_empty() {
                return unfit("nothing", Reason::Empty);
            }
            if secret.form() != SecretForm::Passphrase {
                return unfit("a raw key", Reason::Malformed);
            }
            config.password(secret.expose());
        }
        Ok(config)
    }

    /// The settings as the server takes them at the start of a session, where `RESET` returns to.
    fn options(&self, access: Access) -> String {
        let read_only = (access == Access::Read).then_some(("default_transaction_read_only", "on"));
        let own = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let one = |(name, value): (&str, &str)| format!("-c {}={}", escape(name), escape(value));
        own.chain(read_only).map(one).collect::<Vec<_>>().join(" ")
    }
}

/// The server splits options at white space; a backslash takes a character's meaning away.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\\' || c.is_ascii_whitespace() || c == '\x0b' {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

impl Connector for PostgresConnector {
    type Connection = PostgresConnection;

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("PostgreSQL", Dialect::Postgres);
        capabilities.cancel = CancelKind::Server;
        capabilities
    }

    /// # Errors
    /// Transient when no host can be reached, or none is of the kind asked for, as happens during a failover.
    /// A login that is refused, a certificate that is not trusted or a database that does not exist is permanent, and
    /// the other hosts are not tried then.
    async fn connect(&self, access: Access) -> Result<PostgresConnection> {
        let age = Age::of(&self.breaks);
        let tls = self.tls.client_config()?;
        let config = self.config(access, tls.is_some()).await?;
        let target = self.target.unwrap_or(match access {
            Access::Write => TargetSessionAttrs::ReadWrite,
            Access::Read => TargetSessionAttrs::Any,
        });
        let dial = Dial { config: &config, tls, target, reads: access == Access::Read, timeout: self.connect_timeout };
        let first = self.last.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for index in (0..self.hosts.len()).map(|step| (first + step) % self.hosts.len()) {
            let (host, port) = &self.hosts[index];
            match Box::pin(dial.host(host, *port)).await {
                Ok(session) => {
                    self.last.store(index, Ordering::Relaxed);
                    let cache = Cache::new(self.statement_cache);
                    return Ok(PostgresConnection::new(session, cache, access, self.bulk_copy, age));
                }
                Err(error) => {
                    let error = error.context(format_args!("cannot connect to {host}:{port}"));
                    if !error.is_transient() {
                        return Err(error);
                    }
                    failures.push(error);
                }
            }
        }
        Err(no_host(failures))
    }
}

/// All hosts failed: the error of the only one, or one that tells what each of them said.
#[cold]
fn no_host(mut failures: Vec<Error>) -> Error {
    if failures.len() == 1 {
        return failures.swap_remove(0);
    }
    // A host that answers but refuses writes tells more than one that does not answer.
    let reason =
        failures.iter().find(|error| error.reason() == Reason::NotWritable).map_or(Reason::Broken, Error::reason);
    let said: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let error = Error::new(ErrorKind::Connection, format!("no host will do: {}", said.join(", ")));
    error.because(reason).transient().during(Phase::Connect)
}

impl fmt::Debug for PostgresConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConnector")
            .field("hosts", &self.hosts)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("key", &self.key.as_deref().map(KeySource::describe))
            .field("tls", &self.tls)
            .field("target_session_attrs", &self.target)
            .field("statement_cache", &self.statement_cache)
            .finish_non_exhaustive()
    }
}
