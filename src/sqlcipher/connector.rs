//! The default engine's connector: a plain value that says what to open.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;

use super::cipher::{self, KeySpec};
use super::connection::SqlCipherConnection;
use super::errors;
use super::ffi::fork;
use super::opening::location::Location;
use super::opening::opened::{Opened, Settings};
use super::running::job::on_thread;
use super::stats::EngineStats;
use super::tuning::Tuning;
use crate::connector::{Access, CancelKind, Capabilities, Connector};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::key::KeySource;
use crate::params::Dialect;
use crate::secret::{Secret, SecretForm};

/// Opens connections to one SQLite or SQLCipher database.
///
/// Most programs use it through [`AsyncDatabase::builder`](crate::AsyncDatabase::builder), which has the same settings.
///
/// The key is resolved and derived at the first connect; after that the source is dropped, and only the derived key is
/// kept, until the pool closes.
///
/// ```
/// use strongroom::engine::{Access, Resource, Statement};
/// use strongroom::{Connection, Connector, Secret, SqlCipherConnector};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// let connector = SqlCipherConnector::new(":memory:").key(strongroom::PassphraseKeySource::new("passphrase"));
/// let mut connection = connector.connect(Access::Write).await?;
/// let rows = connection.run(Statement::new("SELECT $2 || $1", ("A", "B"))?).await?;
/// assert_eq!(rows.first().unwrap().get::<String>(0)?, "BA");
/// connection.close().await?;
/// # Ok(()) }
/// ```
pub struct SqlCipherConnector {
    /// As it was given.
    shown: PathBuf,
    /// Absolute from the beginning: the process may change its directory later.
    path: PathBuf,
    has_key: bool,
    settings: Settings,
    state: Arc<Mutex<State>>,
}

/// Moves on from top to bottom.
enum State {
    Unopened { key: Option<Box<dyn KeySource>> },
    Opened(Arc<Opened>),
    ShutDown,
}

impl SqlCipherConnector {
    /// Names the file, or `:memory:` for a database in memory that all connections of this connector share.
    ///
    /// A relative path starts at the working directory of this moment, whatever that becomes later.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let shown = path.as_ref().to_owned();
        // What is no path is refused at opening, as it was written.
        let path = std::path::absolute(&shown).unwrap_or_else(|_| shown.clone());
        let (tuning, tallies, log) = (Tuning::default(), Arc::default(), Arc::default());
        let settings = Settings { create_if_missing: true, compatibility: KeySpec::CURRENT, tuning, tallies, log };
        let state = Arc::new(Mutex::new(State::Unopened { key: None }));
        Self { shown, path, has_key: false, settings, state }
    }

    /// Encrypts with the key from `source`. Without SQLCipher in the build, opening then fails.
    pub fn key(self, source: impl KeySource + 'static) -> Self {
        let state = State::Unopened { key: Some(Box::new(source)) };
        Self { has_key: true, state: Arc::new(Mutex::new(state)), ..self }
    }

    /// Whether a file that is missing is created; true by default.
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.settings.create_if_missing = create;
        self
    }

    /// The version of SQLCipher's format, 1 to 4, for files that older programs wrote; 4 by default. Another number is
    /// an error at opening.
    pub fn cipher_compatibility(mut self, version: u8) -> Self {
        self.settings.compatibility = version;
        self
    }

    /// Cache, durability and waiting.
    pub fn tuning(mut self, tuning: Tuning) -> Self {
        self.settings.tuning = tuning;
        self
    }

    /// What the engine has done so far.
    pub(super) fn stats(&self) -> EngineStats {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        let wal_bytes = Path::new(&log).metadata().map_or(0, |log| log.len());
        EngineStats { wal_bytes, failed_checkpoints: self.settings.log.failures(), ..self.settings.tallies.stats() }
    }

    /// Opens once, whoever asks first; the others wait. If that caller goes away, the opening ends without it, and the
    /// next one finds it done.
    async fn opened(&self) -> Result<Arc<Opened>> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let key = match &*state {
            State::Opened(opened) => return opened.refuse_child().map(|()| Arc::clone(opened)),
            State::ShutDown => return Err(Error::new(ErrorKind::Closed, "the database was closed")),
            State::Unopened { key } => key,
        };
        let location = Location::parse(&self.path, &self.shown)?;
        // Before a thread is asked for, which could meet a lock that one of the parent's had at the fork.
        if fork::has_inherited() && !location.is_memory() {
            return Err(errors::forked());
        }
        let settings = self.settings.clone();
        if !(1..=KeySpec::CURRENT).contains(&settings.compatibility) {
            let message = format!("cipher compatibility {} is not between 1 and 4", settings.compatibility);
            let error = Error::new(ErrorKind::Config, message).during(Phase::Connect);
            return Err(error.hint("it is the major version of the SQLCipher that wrote the file"));
        }
        let secret = match key {
            Some(source) => Some(resolve(&**source).await?),
            None => None,
        };
        on_thread(move || {
            let opened = Arc::new(Opened::first(location, settings, secret.as_ref())?);
            *state = State::Opened(Arc::clone(&opened));
            Ok(opened)
        })
        .await?
    }
}

/// The secret of `source`; one that could protect nothing is refused by the name of the source.
async fn resolve(source: &dyn KeySource) -> Result<Secret> {
    let secret = source.resolve().await.map_err(|error| error.about(source.describe()).during(Phase::Key))?;
    if secret.form() == SecretForm::Passphrase {
        cipher::check_passphrase(&secret).map_err(|error| error.context(source.describe()))?;
    }
    Ok(secret)
}

impl Connector for SqlCipherConnector {
    type Connection = SqlCipherConnection;

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("SQLite", Dialect::Sqlite);
        capabilities.single_writer = true;
        // A database in memory has no write-ahead log: an open write makes readers fail.
        capabilities.concurrent_readers = self.shown.as_os_str() != ":memory:";
        capabilities.group_commit = self.settings.tuning.group_commit;
        capabilities.cancel = CancelKind::Interrupt;
        capabilities.max_params = 32_766;
        capabilities.encryption_at_rest = self.has_key;
        capabilities
    }

    async fn connect(&self, access: Access) -> Result<SqlCipherConnection> {
        SqlCipherConnection::open(self.opened().await?, access).await
    }

    async fn shut_down(&self) {
        let state = std::mem::replace(&mut *self.state.lock().await, State::ShutDown);
        if let State::Opened(opened) = state {
            opened.abandoned().close().await;
        }
    }
}

impl fmt::Debug for SqlCipherConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlCipherConnector")
            .field("path", &self.shown)
            .field("has_key", &self.has_key)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
