//! The settings of a database as plain data.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::veiled::Veiled;

use super::key_place::KeyPlace;
use super::limit::{
    KEY_ENV, POOL_ACQUIRE_TIMEOUT, POOL_MAX_SIZE, POOL_MIN_SIZE, RETRY_ATTEMPTS, RETRY_DELAY, SOPS_KEY,
};
use super::visit;

/// The settings of a database, as they stand in `strongroom.yml` under the key `db`.
///
/// Everything may be left out; unknown settings are errors. Null, which is also what YAML reads where all lines of a
/// section are comments, is the same as left out; only `enabled` must be `true` or `false` where it stands. Numbers
/// outside the bounds are moved to the bound where they are used, with a warning in the log. No secret stands here:
/// [`CipherConfig`] only says where the key is.
///
/// ```yaml
/// db:
///   pool:   { min_size: 1, max_size: 10, acquire_timeout: 30.0 }
///   retry:  { max_attempts: 3, delay: 0.5 }
///   cipher: { enabled: false, key_source: env, key_env: "STRONGROOM_DB_KEY", sops_path: null, sops_key: "db_key" }
/// ```
///
/// With the feature `config`, `DatabaseConfig::from_file` reads it; as part of a program's own configuration, serde
/// does:
///
/// ```
/// use std::time::Duration;
/// use strongroom::DatabaseConfig;
///
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     title: String,
///     db: DatabaseConfig,
/// }
///
/// let text = r#"{ "title": "shop", "db": { "pool": { "acquire_timeout": 2.5 } } }"#;
/// let settings: Settings = serde_json::from_str(text)?;
/// assert_eq!(settings.db.pool.acquire_timeout, Duration::from_millis(2500));
/// assert_eq!(settings.db.pool.max_size, 10);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "sections such as `pool`, `retry` and `cipher`")]
#[non_exhaustive]
pub struct DatabaseConfig {
    /// How many connections, and how long to wait for one.
    #[serde(deserialize_with = "visit::section")]
    pub pool: PoolConfig,
    /// When to try again.
    #[serde(deserialize_with = "visit::section")]
    pub retry: RetryConfig,
    /// Whether to encrypt, and where the key is.
    #[serde(deserialize_with = "visit::section")]
    pub cipher: CipherConfig,
}

/// The section `pool`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of settings")]
#[non_exhaustive]
pub struct PoolConfig {
    /// Connections kept open: 0 to 10, and never above `max_size`; 1 by default. With 0, the first use opens one.
    #[serde(deserialize_with = "visit::min_size")]
    pub min_size: u32,
    /// The most connections there are: 1 to 100; 10 by default.
    #[serde(deserialize_with = "visit::max_size")]
    pub max_size: u32,
    /// How long to wait for a connection: 1 to 300 s, written as seconds; 30 s by default.
    #[serde(deserialize_with = "visit::acquire_timeout")]
    pub acquire_timeout: Duration,
}

/// The section `retry`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of settings")]
#[non_exhaustive]
pub struct RetryConfig {
    /// Attempts in all, the first included: 1 to 10; 3 by default.
    #[serde(deserialize_with = "visit::max_attempts")]
    pub max_attempts: u32,
    /// The pause between them: 0.1 to 60 s, written as seconds; 0.5 s by default.
    #[serde(deserialize_with = "visit::delay")]
    pub delay: Duration,
}

/// The section `cipher`: where the key is, never the key.
///
/// Where a setting of the key is read, `enabled` must be said beside it, `true` or `false`: a section that names a key would
/// otherwise mean a database that is not encrypted.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "CipherSaid")]
#[non_exhaustive]
pub struct CipherConfig {
    /// Whether the database is encrypted; not by default.
    pub enabled: bool,
    /// Where the key is; in the environment by default.
    pub key_source: KeyPlace,
    /// The environment variable that holds the key; `STRONGROOM_DB_KEY` by default.
    pub key_env: String,
    /// The SOPS file that holds the key; none by default. A relative path starts at the working directory in which
    /// these settings were read or made. With another `key_source` than `sops` it is an error, unless it is empty.
    pub sops_path: Option<PathBuf>,
    /// The name of the key in the SOPS file; `db_key` by default.
    pub sops_key: String,
    pub(crate) origin: Origin,
}

/// A private key that somebody wrote in place of a name is not shown.
impl fmt::Debug for CipherConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CipherConfig")
            .field("enabled", &self.enabled)
            .field("key_source", &self.key_source)
            .field("key_env", &Veiled(&self.key_env))
            .field("sops_path", &Veiled(&self.sops_path))
            .field("sops_key", &Veiled(&self.sops_key))
            .field("origin", &self.origin)
            .finish()
    }
}

/// The section `cipher` as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a section of settings")]
struct CipherSaid {
    #[serde(deserialize_with = "visit::enabled")]
    enabled: Option<bool>,
    #[serde(deserialize_with = "visit::key_source")]
    key_source: Option<KeyPlace>,
    #[serde(deserialize_with = "visit::key_env")]
    key_env: Option<String>,
    sops_path: Option<PathBuf>,
    #[serde(deserialize_with = "visit::sops_key")]
    sops_key: Option<String>,
}

impl TryFrom<CipherSaid> for CipherConfig {
    type Error = &'static str;

    fn try_from(said: CipherSaid) -> Result<Self, Self::Error> {
        let CipherSaid { enabled, key_source, key_env, sops_path, sops_key } = said;
        let names_a_key = key_source.is_some() || key_env.is_some() || sops_path.is_some() || sops_key.is_some();
        if names_a_key && enabled.is_none() {
            return Err("expected `enabled` beside the settings of a key: true, or false to store plaintext");
        }
        let own = Self::default();
        Ok(Self {
            enabled: enabled.unwrap_or(own.enabled),
            key_source: key_source.unwrap_or(own.key_source),
            key_env: key_env.unwrap_or(own.key_env),
            sops_path,
            sops_key: sops_key.unwrap_or(own.sops_key),
            origin: own.origin,
        })
    }
}

/// The working directory of the moment in which settings are made. It is no setting: settings that are the same
/// everywhere else are equal.
#[derive(Clone, Debug)]
pub(crate) struct Origin(pub(crate) PathBuf);

impl Default for Origin {
    fn default() -> Self {
        Self(std::env::current_dir().unwrap_or_default())
    }
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            min_size: POOL_MIN_SIZE.default,
            max_size: POOL_MAX_SIZE.default,
            acquire_timeout: POOL_ACQUIRE_TIMEOUT.default,
        }
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { max_attempts: RETRY_ATTEMPTS.default, delay: RETRY_DELAY.default }
    }
}

impl Default for CipherConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            key_source: KeyPlace::default(),
            key_env: KEY_ENV.into(),
            sops_path: None,
            sops_key: SOPS_KEY.into(),
            origin: Origin::default(),
        }
    }
}
