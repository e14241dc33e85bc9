//! Where a server is, as URLs and libpq's environment say it.
//!
//! What a URL does not say comes from the service file, then from libpq's environment variables, then from libpq's
//! defaults, as with psql. The text of a URL appears in no error: it may hold a password.

use std::net::IpAddr;
use std::time::Duration;

use tokio_postgres::config::{ChannelBinding, TargetSessionAttrs};
use zeroize::Zeroizing;

use super::connector::PostgresConnector;
use super::hosts::{Host, Readers};
use super::names::{self, Environment, malformed};
use super::passfile::{self, PassFile};
use super::tls::Tls;
use crate::error::{Error, Result};
use crate::postgres::wire::Keepalive;
use crate::secret::Secret;

/// Named parameters, the first of a name wins. Their texts are wiped when this is dropped.
pub(crate) struct Settings(Vec<(String, Zeroizing<String>)>);

const VARIABLES: &[(&str, &str)] = &[
    ("PGSERVICE", "service"),
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGDATABASE", "dbname"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGPASSFILE", "passfile"),
    ("PGOPTIONS", "options"),
    ("PGAPPNAME", "application_name"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGGSSENCMODE", "gssencmode"),
];

impl PostgresConnector {
    /// What a URL says: `postgres://user:password@host1:5432,host2:5432/database?parameter=value&..`, with the parameters
    /// of libpq (`sslmode`, `sslrootcert`, `target_session_attrs`, `connect_timeout`, `application_name`, `options`,
    /// `host` for a socket's directory, `hostaddr` for the address of a host that is known by another name, `keepalives`,
    /// `passfile`, `service` ..). What it leaves open comes from libpq's environment
    /// variables and files (see [`from_env`](Self::from_env)).
    ///
    /// TLS is never weaker than asked for, and often stronger: `sslmode=require` and `verify-ca` verify in full, and so
    /// does a URL without `sslmode`. Setters called afterwards win.
    ///
    /// The password is kept as a secret: no error, log or `Debug` shows it, and no error repeats the URL.
    ///
    /// ```
    /// # fn main() -> strongroom::Result<()> {
    /// use strongroom::postgres::PostgresConnector;
    ///
    /// let connector = PostgresConnector::from_url("postgres://app:s%40cret@db1,db2:5433/shop?sslmode=verify-full")?;
    /// let shown = format!("{connector:?}");
    /// assert!(!shown.contains("s@cret") && !shown.contains("s%40cret"), "{shown}");
    /// let error = PostgresConnector::from_url("postgres://app:s%40cret@db1/shop?colour=red").unwrap_err();
    /// assert!(error.to_string().contains("colour"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the URL is none, for a parameter that is not known (named) and a value that means
    /// nothing (its parameter is named).
    pub fn from_url(url: impl AsRef<str>) -> Result<Self> {
        Settings::read(Some(url.as_ref()), &names::process)?.connector(&names::process)
    }

    /// What libpq's environment says: `PGHOST`, `PGPORT`, `PGDATABASE`, `PGUSER`, `PGPASSWORD`, `PGPASSFILE`,
    /// `PGSERVICE`, `PGSERVICEFILE`, `PGSSLMODE`, `PGSSLROOTCERT`, `PGAPPNAME`, `PGOPTIONS`, `PGCONNECT_TIMEOUT`,
    /// `PGTARGETSESSIONATTRS`. Without a password, `~/.pgpass` is asked for each connection, which nobody but its owner
    /// may read. An empty variable counts as not set.
    ///
    /// # Errors
    /// As [`from_url`](Self::from_url).
    pub fn from_env() -> Result<Self> {
        Settings::read(None, &names::process)?.connector(&names::process)
    }
}

impl Settings {
    /// What `url` says, or nothing, and what the environment adds.
    pub(crate) fn read(url: Option<&str>, environment: Environment<'_>) -> Result<Self> {
        let mut settings = Self(Vec::new());
        if let Some(url) = url {
            settings.add_url(url)?;
        }
        let service = settings.get("service").map(str::to_owned).or_else(|| environment("PGSERVICE"));
        if let Some(service) = service {
            let lines = passfile::service(&service, environment)?;
            lines.into_iter().try_for_each(|(name, value)| settings.add(&name, value))?;
        }
        for (variable, name) in VARIABLES {
            if let Some(value) = environment(variable) {
                settings.add(name, value.into())?;
            }
        }
        Ok(settings)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn add(&mut self, name: &str, value: Zeroizing<String>) -> Result<()> {
        const KNOWN: &[&str] = &[
            "fallback_application_name",
            "client_encoding",
            "keepalives",
            "keepalives_idle",
            "keepalives_interval",
            "keepalives_count",
            "sslnegotiation",
        ];
        if !KNOWN.contains(&name) && !VARIABLES.iter().any(|(_, known)| *known == name) {
            let error = malformed(format!("{name:?} is no parameter that this connector knows"));
            return Err(error.hint("client certificates and the like are given with Tls::config(..)"));
        }
        if self.get(name).is_none() {
            self.0.push((name.to_owned(), value));
        }
        Ok(())
    }

    /// `postgres://[user[:password]@][host[:port],..][/database][?name=value&..]`.
    fn add_url(&mut self, url: &str) -> Result<()> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let Some(rest) = rest else {
            let error = malformed("the text is no URL of PostgreSQL");
            return Err(error.hint("it begins with postgres:// or postgresql://"));
        };
        if rest.contains('#') {
            return Err(malformed("a URL of PostgreSQL has no fragment").hint("write # as %23"));
        }
        let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
        if query.contains('@') && !rest.contains('@') {
            let error = malformed("the URL has an @ behind its question mark");
            return Err(error.hint("write ? as %3F in a user or a password, and @ as %40 in a parameter"));
        }
        // Whoever forgot to encode an @ or a slash of the password is understood.
        let (user, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| malformed("a parameter of the URL has no value"))?;
            let name = decoded(name, "the name of a parameter")?;
            let value = decoded(value, "a parameter")?;
            match (name.as_str(), value.as_str()) {
                // JDBC's spelling, which libpq reads too.
                ("ssl", "true") => self.add("sslmode", Zeroizing::new("require".into()))?,
                _ => self.add(&name, value)?,
            }
        }
        if let Some(user) = user {
            let (user, password) = user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
            if !user.is_empty() {
                self.add("user", decoded(user, "the user")?)?;
            }
            if let Some(password) = password.filter(|password| !password.is_empty()) {
                self.add("password", decoded(password, "the password")?)?;
            }
        }
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        if !database.is_empty() {
            self.add("dbname", decoded(database, "the database")?)?;
        }
        self.add_hosts(hosts)
    }

    fn add_hosts(&mut self, hosts: &str) -> Result<()> {
        if hosts.is_empty() {
            return Ok(());
        }
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for host in hosts.split(',') {
            let (name, port) = match host.strip_prefix('[') {
                Some(address) => {
                    let (address, port) =
                        address.split_once(']').ok_or_else(|| malformed("an IPv6 address has no closing bracket"))?;
                    (address, port.strip_prefix(':').unwrap_or(port))
                }
                None => host.split_once(':').unwrap_or((host, "")),
            };
            names.push(decoded(name, "a host")?.to_string());
            ports.push(port);
        }
        if names.iter().any(|name| !name.is_empty()) {
            self.add("host", Zeroizing::new(names.join(",")))?;
        }
        if ports.iter().any(|port| !port.is_empty()) {
            self.add("port", Zeroizing::new(ports.join(",")))?;
        }
        Ok(())
    }

    /// The connector that these settings describe.
    pub(crate) fn connector(&self, environment: Environment<'_>) -> Result<PostgresConnector> {
        let mut connector = PostgresConnector::new(default_host(), 5432);
        connector.hosts = self.hosts()?;
        connector.keepalive = self.keepalive()?;
        if let Some(user) = self.get("user").map(str::to_owned).or_else(|| environment("USER")) {
            connector = connector.user(user);
        }
        if let Some(database) = self.get("dbname") {
            connector = connector.database(database);
        }
        if let Some(name) = self.get("application_name").or(self.get("fallback_application_name")) {
            connector = connector.application_name(name);
        }
        if let Some(options) = self.get("options") {
            connector = connector.options_text(options);
        }
        if let Some(tls) = self.tls()? {
            connector = connector.tls(tls);
        }
        if let Some(timeout) = self.get("connect_timeout") {
            // No limit is written as 0 or less; a day is as good.
            let seconds: i64 = timeout.parse().map_err(|_| wrong("connect_timeout", "a number of seconds"))?;
            let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).unwrap_or(86_400);
            connector = connector.connect_timeout(Duration::from_secs(seconds));
        }
        connector = self.target(self.channel_binding(connector)?)?;
        self.check_fixed()?;
        Ok(match self.get("password") {
            Some(password) => connector.key(Secret::new(Zeroizing::new(password.to_owned()))),
            None => match PassFile::find(self.get("passfile"), environment) {
                Some(file) => connector.pass_file(file),
                None => connector,
            },
        })
    }

    /// As with libpq, `hostaddr` says where a host is, so that its name is looked up nowhere, and the name still says whose
    /// certificate and password are wanted.
    fn hosts(&self) -> Result<Vec<Host>> {
        let addresses: Vec<&str> = self.get("hostaddr").map_or_else(Vec::new, |all| all.split(',').collect());
        let names = self.get("host").map(str::to_owned);
        let names = names.unwrap_or_else(|| ",".repeat(addresses.len().saturating_sub(1)));
        let port = |text: &str| match text {
            "" => Ok(5432),
            text => text.parse().ok().filter(|port| *port > 0).ok_or_else(|| wrong("port", "a number up to 65535")),
        };
        let ports: Vec<u16> = self.get("port").unwrap_or_default().split(',').map(port).collect::<Result<_>>()?;
        let names: Vec<&str> = names.split(',').collect();
        if !addresses.is_empty() && addresses.len() != names.len() {
            return Err(malformed(format!("there are {} hosts and {} addresses", names.len(), addresses.len())));
        }
        if ports.len() != 1 && ports.len() != names.len() {
            return Err(malformed(format!("there are {} hosts and {} ports", names.len(), ports.len())));
        }
        let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let host = |(index, name): (usize, &&str)| {
            let (name, address) = (*name, addresses.get(index).copied().unwrap_or_default());
            let parsed =
                || address.parse::<IpAddr>().map_err(|_| wrong("hostaddr", "an IP address; a name goes into host"));
            Ok(match (name, address) {
                ("", "") => Host::new(default_host(), port(index)),
                (name, "") => Host::new(name, port(index)),
                // There is no socket at an address.
                (name, _) if name.is_empty() || name.starts_with('/') => Host::new(parsed()?.to_string(), port(index)),
                _ => Host { address: Some(parsed()?), ..Host::new(name, port(index)) },
            })
        };
        names.iter().enumerate().map(host).collect()
    }

    /// `keepalives` and its three numbers, of which 0 leaves the decision to the operating system.
    fn keepalive(&self) -> Result<Keepalive> {
        let number = |name: &'static str| {
            let number =
                self.get(name).map(|text| text.parse::<u16>().map_err(|_| wrong(name, "a number up to 65535")));
            number.transpose()
        };
        let own = Keepalive::default();
        let seconds = |said: Option<u16>, own| match said {
            None => own,
            Some(0) => None,
            Some(seconds) => Some(Duration::from_secs(seconds.into())),
        };
        Ok(Keepalive {
            on: number("keepalives")? != Some(0),
            idle: seconds(number("keepalives_idle")?, own.idle),
            interval: seconds(number("keepalives_interval")?, own.interval),
            count: number("keepalives_count")?.filter(|count| *count > 0).map(u32::from),
        })
    }

    fn tls(&self) -> Result<Option<Tls>> {
        let authority = |path: &str| {
            let pem = std::fs::read(path).map_err(|error| {
                malformed(format!("the certificates of sslrootcert cannot be read from {path}")).caused_by(error)
            })?;
            Tls::authority(pem)
        };
        let trusted = match self.get("sslrootcert") {
            None => None,
            Some("system") => Some(Tls::verify_full()),
            Some(path) => Some(authority(path)?),
        };
        Ok(match self.get("sslmode") {
            None => trusted,
            Some("disable") => Some(Tls::off()),
            Some("require" | "verify-ca" | "verify-full") => Some(trusted.unwrap_or_default()),
            Some("allow" | "prefer") => {
                let error = malformed("sslmode allow and prefer leave it to the server whether anything is encrypted");
                return Err(error.hint("write verify-full, or disable on a network that you trust"));
            }
            Some(_) => return Err(wrong("sslmode", "disable, require, verify-ca or verify-full")),
        })
    }

    fn channel_binding(&self, connector: PostgresConnector) -> Result<PostgresConnector> {
        let binding = match self.get("channel_binding") {
            None => return Ok(connector),
            Some("disable") => ChannelBinding::Disable,
            Some("prefer") => ChannelBinding::Prefer,
            Some("require") if self.get("sslmode") == Some("disable") => {
                return Err(malformed("channel_binding=require needs TLS").hint("leave sslmode=disable out"));
            }
            Some("require") => ChannelBinding::Require,
            Some(_) => return Err(wrong("channel_binding", "disable, prefer or require")),
        };
        Ok(connector.channel_binding(binding))
    }

    fn target(&self, connector: PostgresConnector) -> Result<PostgresConnector> {
        let connector = match self.get("target_session_attrs") {
            None => connector,
            Some("any") => connector.target_session_attrs(TargetSessionAttrs::Any),
            Some("read-write" | "primary") => connector.target_session_attrs(TargetSessionAttrs::ReadWrite),
            Some("read-only" | "standby") => connector.target_session_attrs(TargetSessionAttrs::ReadOnly),
            Some("prefer-standby") => connector.readers(Readers::PreferStandby),
            Some(_) => {
                let known = "any, read-write, read-only, primary, standby or prefer-standby";
                return Err(wrong("target_session_attrs", known));
            }
        };
        match self.get("load_balance_hosts") {
            // Readers are spread anyway, and there is one host that takes writes.
            None | Some("disable" | "random") => Ok(connector),
            Some(_) => Err(wrong("load_balance_hosts", "disable or random")),
        }
    }

    /// Refuses what would ask for something else than is done anyway.
    fn check_fixed(&self) -> Result<()> {
        let fixed: [(&'static str, &'static [&'static str], &'static str); 3] = [
            ("client_encoding", &["utf8", "utf-8", "unicode", "auto"], "UTF8"),
            ("gssencmode", &["disable", "prefer"], "disable: there is no Kerberos here"),
            ("sslnegotiation", &["postgres"], "postgres"),
        ];
        for (name, known, said) in fixed {
            if self.get(name).is_some_and(|value| !known.contains(&value.to_ascii_lowercase().as_str())) {
                return Err(wrong(name, said));
            }
        }
        Ok(())
    }
}

/// Where a server on this machine is found that is said to be nowhere else, as Debian and Red Hat build libpq.
fn default_host() -> String {
    let directory = "/var/run/postgresql";
    if cfg!(unix) && std::path::Path::new(directory).is_dir() { directory.into() } else { "localhost".into() }
}

/// Undoes percent-encoding; `what` is named where that fails.
fn decoded(text: &str, what: &str) -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|byte| *byte != 0);
        let Some(byte) = byte else {
            let error = malformed(format!("{what} of the URL is not percent-encoded as it should be"));
            return Err(error.hint("write % as %25"));
        };
        bytes.push(byte);
        rest = &tail[2..];
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| malformed(format!("{what} of the URL is not UTF-8")))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cold]
fn wrong(name: &str, known: &str) -> Error {
    malformed(format!("{name} has a value that means nothing here")).hint(format!("write {known}"))
}
