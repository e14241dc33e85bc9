//! Where the servers are, and how to log in.

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_postgres::config::{ChannelBinding, TargetSessionAttrs};

use super::dial::{Dial, Dialed};
use super::hosts::{Host, Memory, Readers, Standing, no_host};
use super::names;
use super::passfile::PassFile;
use super::tls::Tls;
use crate::connector::{Access, CancelKind, Capabilities, Connector, EngineListener};
use crate::error::{Reason, Result};
use crate::key::KeySource;
use crate::params::Dialect;
use crate::postgres::changes::Followers;
use crate::postgres::connection::PostgresConnection;
use crate::postgres::statements::Cache;
use crate::postgres::wire::{Age, Keepalive};

/// Opens connections to PostgreSQL.
///
/// A plain value: nothing is opened before [`connect`](Connector::connect). The password comes from a [`KeySource`]
/// that is asked for every connection, and once more if the server refuses it, so that it may change while the program runs;
/// it is kept nowhere in between.
///
/// With several hosts, each connection goes to the first that answers and is of the kind asked for (see
/// [`target_session_attrs`](PostgresConnector::target_session_attrs)). Connections that write begin with the one that was
/// right last time, and find a new primary after a failover; those that only read begin with another one each time (see
/// [`readers`](PostgresConnector::readers)), and ask one that would not do last for half a minute.
///
/// ```
/// use strongroom::postgres::PostgresConnector;
/// use strongroom::{Capabilities, Connector, PassphraseKeySource};
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
    pub(super) hosts: Vec<Host>,
    database: Option<String>,
    pub(super) user: String,
    pub(super) key: Option<Arc<dyn KeySource>>,
    pub(super) tls: Tls,
    pub(super) application_name: String,
    pub(super) connect_timeout: Duration,
    pub(super) target: Option<TargetSessionAttrs>,
    statement_cache: usize,
    pub(super) bulk_copy: bool,
    pub(super) settings: Vec<(String, String)>,
    /// Settings in the form in which the server takes them.
    pub(super) options: Option<String>,
    pass_file: Option<PassFile>,
    pub(super) readers: Option<Readers>,
    channel_binding: ChannelBinding,
    pub(super) keepalive: Keepalive,
    /// Of the hosts.
    pub(super) memory: Arc<Memory>,
    /// How many of its sessions were found broken.
    breaks: Arc<AtomicUsize>,
    /// Its sessions that listen for changes.
    pub(super) followers: Arc<Followers>,
    /// Who is told of what happens beside calls. Each clone has its own, as each pool has.
    pub(super) listener: OnceLock<EngineListener>,
    /// Set when the first session was opened, which is told.
    opened: OnceLock<()>,
}

impl PostgresConnector {
    /// A server at `host`, a name or an IP address; or, on Unix, the directory of a socket, such as
    /// `/var/run/postgresql`. A URL is for [`from_url`](Self::from_url).
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            hosts: vec![Host::new(host, port)],
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
            options: None,
            pass_file: None,
            readers: None,
            channel_binding: ChannelBinding::Prefer,
            keepalive: Keepalive::default(),
            memory: Arc::default(),
            breaks: Arc::default(),
            followers: Arc::default(),
            listener: OnceLock::new(),
            opened: OnceLock::new(),
        }
    }

    /// One more server of the same cluster.
    pub fn host(mut self, host: impl Into<String>, port: u16) -> Self {
        self.hosts.push(Host::new(host, port));
        self
    }

    /// Where connections go that only read, unless [`target_session_attrs`](Self::target_session_attrs) says so for all.
    /// A standby is a moment behind.
    ///
    /// An `AsyncDatabase` on several hosts reads from the primary, too, as long as this is not called, so that whatever was
    /// committed is seen. With [`Readers::Any`] or [`Readers::PreferStandby`], half of the pool's connections are for reading
    /// only: `fetch_*` outside of transactions, `table_exists` and `read_connection` take them; everything else, and a
    /// statement that turns out to write, goes to the primary.
    pub fn readers(mut self, readers: Readers) -> Self {
        self.readers = Some(readers);
        self
    }

    pub(crate) fn options_text(mut self, options: &str) -> Self {
        self.options = Some(options.to_owned());
        self
    }

    pub(crate) fn pass_file(mut self, file: PassFile) -> Self {
        self.pass_file = Some(file);
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

    /// Whether the login is bound to the server's certificate (SCRAM-SHA-256-PLUS), so that nobody can stand in between who
    /// has got another one signed. By default it is where the server offers that. `Require` refuses a server that does
    /// not, and a way without TLS; certificates signed with RSASSA-PSS or Ed25519 have no such binding.
    pub fn channel_binding(mut self, binding: ChannelBinding) -> Self {
        self.channel_binding = binding;
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

    /// The driver's configuration, but for the password; it lives as long as one `connect`.
    pub(super) fn config(&self, access: Access) -> Result<tokio_postgres::Config> {
        let mut config = tokio_postgres::Config::new();
        names::check("user", &self.user)?;
        names::check("database", self.database_name())?;
        config.user(&self.user).dbname(self.database_name());
        config.application_name(&self.application_name);
        let options = self.options(access);
        if !options.is_empty() {
            config.options(options);
        }
        config.channel_binding(self.channel_binding);
        Ok(config)
    }

    pub(super) fn prefers_standby(&self, access: Access) -> bool {
        access == Access::Read && self.readers == Some(Readers::PreferStandby)
    }

    fn database_name(&self) -> &str {
        self.database.as_ref().unwrap_or(&self.user)
    }

    /// Asks the hosts in `order` for a session on a server of the kind that `dial` wants.
    pub(super) async fn first_that_will_do(&self, dial: &Dial<'_>, order: &[usize], access: Access) -> Result<Dialed> {
        let mut failures = Vec::new();
        for &index in order {
            let host = &self.hosts[index];
            match Box::pin(self.dial(dial, host)).await {
                Ok(session) => {
                    // What only stands in for a standby is no standby.
                    if !(self.prefers_standby(access) && dial.target == TargetSessionAttrs::Any) {
                        self.memory.did(index, access);
                    }
                    return Ok(session);
                }
                Err(error) => {
                    let error = error.context(format_args!("cannot connect to {host}"));
                    if !error.is_transient() {
                        return Err(error);
                    }
                    let silent = error.reason() == Reason::Broken;
                    self.memory.refused(index, access, if silent { Standing::Silent } else { Standing::Unfit });
                    failures.push(error);
                }
            }
        }
        Err(no_host(failures))
    }

    /// Those that lately were no standby, or did not answer, are not asked whether they are one again.
    pub(super) async fn standby_or_any(&self, standby: Dial<'_>, order: &[usize]) -> Result<Dialed> {
        let standings = || self.memory.standings(self.hosts.len(), Access::Read);
        let now = standings();
        let fit: Vec<_> = order.iter().copied().filter(|host| now[*host] == Standing::Fit).collect();
        match self.first_that_will_do(&standby, &fit, Access::Read).await {
            Err(error) if error.is_transient() => {
                let (mut order, now) = (order.to_vec(), standings());
                order.sort_by_key(|host| now[*host]);
                let any = Dial { target: TargetSessionAttrs::Any, ..standby };
                self.first_that_will_do(&any, &order, Access::Read).await
            }
            outcome => outcome,
        }
    }

    async fn dial(&self, dial: &Dial<'_>, host: &Host) -> Result<Dialed> {
        let mut config = dial.config.clone();
        if let (None, Some(file)) = (&self.key, &self.pass_file)
            && let Some(secret) = file.look_up(&host.name, host.port, self.database_name(), &self.user)?
        {
            config.password(secret.expose());
        }
        dial.host(config, host).await
    }
}

impl Connector for PostgresConnector {
    type Connection = PostgresConnection;

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("PostgreSQL", Dialect::Postgres);
        capabilities.cancel = CancelKind::Server;
        capabilities.namespace = Some(names::shown(self.database_name()).into());
        let is_spread = matches!(self.readers, Some(Readers::Any | Readers::PreferStandby));
        capabilities.reads_elsewhere = is_spread && self.hosts.len() > 1 && self.target.is_none();
        capabilities
    }

    /// # Errors
    /// Transient when no host can be reached, or none is of the kind asked for, as happens during a failover.
    /// A login that is refused, a certificate that is not trusted or a database that does not exist is permanent, and
    /// the other hosts are not tried then.
    async fn connect(&self, access: Access) -> Result<PostgresConnection> {
        let age = Age::of(&self.breaks);
        let session = self.log_in(access).await?;
        if self.opened.set(()).is_ok() {
            tracing::info!(
                database = names::shown(self.database_name()),
                encrypted = session.encrypted,
                server_version = session.server_version,
                key_source = self.key.as_deref().map(KeySource::describe),
                "the database is open"
            );
        }
        let cache = Cache::new(self.statement_cache);
        Ok(PostgresConnection::new(session, cache, access, self.clone(), age))
    }

    async fn release(&self) -> Result<()> {
        self.followers.stop().await
    }

    fn observed(&self, listener: EngineListener) {
        self.listener.set(listener).ok();
    }

    async fn shut_down(&self) {
        if let Err(error) = self.followers.stop().await {
            tracing::warn!(%error, "a session was left open");
        }
    }
}

impl fmt::Debug for PostgresConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConnector")
            .field("hosts", &self.hosts)
            .field("database", &self.database.as_deref().map(names::shown))
            .field("user", &names::shown(&self.user))
            .field("key", &self.key.as_deref().map(KeySource::describe))
            .field("tls", &self.tls)
            .field("target_session_attrs", &self.target)
            .field("readers", &self.readers)
            .field("statement_cache", &self.statement_cache)
            .finish_non_exhaustive()
    }
}
