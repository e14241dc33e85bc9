//! The default engine's connector: a plain value that says what to open.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::again::{KeyedFile, KnownFile, State, closed};
use super::connection::SqlCipherConnection;
use super::errors;
use super::ffi::fork::{self, ProcessMark};
use super::format::{Format, Header};
use super::keys::{Offer, OfferedKeys, settle};
use super::opening::location::{Location, followed};
use super::opening::opened::Opened;
use super::opening::way::{OpenSettings, Way, Wishes};
use super::running::job::on_thread;
use super::stats::EngineStats;
use super::tuning::{Checkpoints, Tuning};
use crate::connector::{
    Access, AskedKeySource, CancelKind, Capabilities, Connector, EngineListener, EngineReadings, Rekeying, TellProgress,
};
use crate::error::{Reason, Result};
use crate::key::KeySource;
use crate::params::Dialect;

/// Opens connections to one SQLite or SQLCipher database.
///
/// Most programs use it through [`AsyncDatabase::builder`](crate::AsyncDatabase::builder), which has the same settings.
///
/// The key is resolved and derived at the first connect, and only the derived key is kept, until the pool closes. The source
/// is asked again if the file has another key later, because another process has changed it.
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
    pub(super) has_key: bool,
    pub(super) wishes: Wishes,
    settings: OpenSettings,
    pub(super) known: KnownFile,
    /// The process in which the database was opened, known without a lock.
    process: OnceLock<ProcessMark>,
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
        let (way, format) = (Way::default(), Format::default());
        let settings = OpenSettings { way, create_if_missing: true, format, tuning, tallies, log };
        let (wishes, known, process) = (Wishes::default(), KnownFile::new(None), OnceLock::new());
        Self { shown, path, has_key: false, wishes, settings, known, process }
    }

    /// Encrypts with the key from `source`. Without SQLCipher in the build, opening then fails.
    pub fn key(self, source: impl KeySource + 'static) -> Self {
        Self { has_key: true, known: KnownFile::new(Some(Arc::new(source))), ..self }
    }

    /// Whether a file that is missing is created; true by default.
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.wishes.create = Some(create);
        self
    }

    /// Opens for reading only: nothing is written, made or removed on the disk, and the process needs no right to. Others
    /// may write meanwhile, and what they commit is read.
    ///
    /// Statements that would write are refused before they begin
    /// ([`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), [`Reason::NotWritable`](crate::Reason::NotWritable)); temporary tables are allowed
    /// where the connection is the caller's own. A file that is missing is not created. A log that another program left
    /// behind is read as it stands. What cannot be had: a file with a transaction that was cut off in a rollback mode
    /// (a hot journal), which somebody has to roll back first.
    ///
    /// Where nobody else has the file open, its log needs an index that SQLite would make in a file; here it is kept in
    /// memory, by each connection. A read during which another process begins to write is then answered by an error that
    /// may pass ([`ErrorKind::Busy`](crate::ErrorKind::Busy)), as SQLite would not notice it.
    pub fn read_only(mut self) -> Self {
        self.wishes.read_only = true;
        self
    }

    /// Opens for reading what never changes, such as a file on a medium that cannot be written: without locks, and
    /// without a look at whether somebody writes. If somebody does, reads may be wrong; use
    /// [`read_only`](Self::read_only) where that is possible.
    ///
    /// A log that stands beside the file is read too. Everything else is as with [`read_only`](Self::read_only).
    pub fn immutable(mut self) -> Self {
        self.wishes.immutable = true;
        self
    }

    /// Keeps all other processes out: they can neither read nor write until the database is closed, and are told that it
    /// is locked. Opening fails with [`ErrorKind::Busy`](crate::ErrorKind::Busy) while another process has the file open.
    ///
    /// SQLite gives the file to one connection, so readers do not work beside the writer, as in a pool of one: everything
    /// takes its turn in the lane, and [`Tuning::kept_snapshots`] and [`Checkpoints::Background`] have no effect. No index
    /// of the log is made in a file (`-shm`), which helps where there is no shared memory, as on network drives.
    pub fn exclusive(mut self) -> Self {
        self.wishes.exclusive = true;
        self
    }

    /// The version of SQLCipher's format, 1 to 4, for files that older programs wrote; 4 by default. Another number is
    /// an error at opening.
    pub fn cipher_compatibility(mut self, version: u8) -> Self {
        self.settings.format.compatibility = version;
        self
    }

    /// How many rounds made the key from the passphrase, for files of programs that set `kdf_iter`; at most 10,000,000.
    /// Raw keys are not derived. A new file with fewer than the usual 256,000 is easier to attack.
    pub fn cipher_kdf_iter(mut self, rounds: u32) -> Self {
        self.settings.format.rounds = Some(rounds);
        self
    }

    /// The size of a page in bytes, for files of programs that set `cipher_page_size`: a power of two from 1024 to 65536.
    pub fn cipher_page_size(mut self, bytes: u32) -> Self {
        self.settings.format.page_size = Some(bytes);
        self
    }

    /// Leaves the first 32 bytes of the file unencrypted (`cipher_plaintext_header_size`), so that iOS recognises the
    /// database in a container that apps share. They hold the size of the pages and counters, and no data.
    ///
    /// The salt, which stands there otherwise, comes with the key
    /// ([`Secret::raw_key_with_salt`](crate::Secret::raw_key_with_salt)). Without it, the file cannot be opened: keep it as
    /// long as the file, as [`plaintext_header_with`](Self::plaintext_header_with) needs it too.
    pub fn plaintext_header(mut self) -> Self {
        self.settings.format.header = Header::Plain(None);
        self
    }

    /// [`plaintext_header`](Self::plaintext_header) with a salt that is given here, for passphrases and raw keys. It is no
    /// secret, but must be another one, of random bytes, for each file.
    pub fn plaintext_header_with(mut self, salt: [u8; 16]) -> Self {
        self.settings.format.header = Header::Plain(Some(salt));
        self
    }

    /// Cache, durability and waiting.
    pub fn tuning(mut self, tuning: Tuning) -> Self {
        self.settings.tuning = tuning;
        self
    }

    /// What the engine has done so far.
    pub(super) fn stats(&self) -> EngineStats {
        let wal_bytes = self.bytes_of("-wal").unwrap_or(0);
        EngineStats { wal_bytes, failed_checkpoints: self.settings.log.failures(), ..self.settings.tallies.stats() }
    }

    /// The size of the database's file, or of one beside it. Opens nothing: SQLite's locks would be lost by that.
    fn bytes_of(&self, suffix: &str) -> Option<u64> {
        let mut path = self.file()?.into_os_string();
        path.push(suffix);
        Some(Path::new(&path).metadata().ok()?.len())
    }

    /// Names the source of the key that opened the database.
    pub(super) fn key_source(&self) -> Option<&str> {
        self.known.key_source.last()
    }

    /// Opens once, for the first caller; the others wait. If that caller goes away, the opening ends without it, and the
    /// next one finds it done.
    pub(super) async fn opened(&self) -> Result<Arc<Opened>> {
        let before = self.known.questions.begun();
        let mut state = Arc::clone(&self.known.state).lock_owned().await;
        let key = match &*state {
            State::Opened(KeyedFile { opened, .. }) => return opened.refuse_child().map(|()| Arc::clone(opened)),
            State::ShutDown => return Err(closed()),
            // A call that waited for the question has its answer: a person is not asked once for each.
            State::Unopened { refused: Some((number, error)), .. } if *number > before => return Err(error.clone()),
            State::Unopened { key, .. } => key.clone().map(|key| self.asked(key)),
        };
        let location = Location::parse(&self.path, &self.shown)?;
        // Before a thread is asked for, which could meet a lock that one of the parent's had at the fork.
        if fork::has_inherited() && !location.is_memory() {
            return Err(errors::forked());
        }
        let (settings, location) = self.settings_for(location)?;
        settings.format.check(self.has_key)?;
        let offer = match &key {
            Some(source) => Offer::of(&**source, &location, settings.create_if_missing).await?,
            None => Offer::default(),
        };
        let (key_source, made, source) = (Arc::clone(&self.known.key_source), offer.made, key.clone());
        let questions = self.known.questions.clone();
        let opened = on_thread(move || {
            let (opened, name) =
                Opened::with_one_of(&location, &settings, offer.candidates).inspect_err(|error| match &mut *state {
                    State::Unopened { key: Some(source), refused } if error.reason() == Reason::WrongKey => {
                        // The next attempt gets what the source has then, not what it remembers.
                        source.forget();
                        *refused = Some((questions.begin(), error.clone()));
                    }
                    _ => {}
                })?;
            let opened = Arc::new(opened);
            if let Some(name) = name {
                key_source.add(name);
            }
            *state = State::Opened(KeyedFile::new(Arc::clone(&opened), source));
            Ok(opened)
        })
        .await??;
        self.process.get_or_init(|| opened.mark());
        if let (Some(source), Some(secret)) = (key, made) {
            settle(&*source, &secret).await;
        }
        let format = if self.has_key { self.settings.format.to_string() } else { "SQLite".to_owned() };
        tracing::info!(
            database = %self.shown.display(), encrypted = self.has_key, format,
            key_source = self.known.key_source.last(),
            "the database is open"
        );
        Ok(opened)
    }
}

impl SqlCipherConnector {
    /// A connector with the same settings for another file, or for the same one in another way, which does not make it.
    pub(super) fn like(&self, path: &Path, keys: Option<OfferedKeys>) -> Self {
        let mut other = Self::new(path).create_if_missing(false).tuning(self.settings.tuning.clone());
        if let Some(keys) = keys {
            other = other.key(keys);
            other.settings.format = self.settings.format;
        }
        other
    }

    /// The path of the file itself, no symbolic link; `None` in memory.
    pub(super) fn file(&self) -> Option<PathBuf> {
        if self.shown.as_os_str() == ":memory:" { None } else { Some(followed(&self.path)) }
    }

    pub(super) fn location(&self) -> Result<Location> {
        Ok(Location::parse(&self.path, &self.shown)?.only_read())
    }

    pub(super) fn format(&self) -> Format {
        self.settings.format
    }

    /// Where the key comes from, of a database that was not opened yet.
    pub(super) async fn source(&self) -> Option<Arc<dyn KeySource>> {
        match &*self.known.state.lock().await {
            State::Unopened { key, .. } => key.clone(),
            State::Opened(_) | State::ShutDown => None,
        }
    }

    /// What its source offers, asked for without opening anything.
    pub(super) async fn offered(&self) -> Result<Option<OfferedKeys>> {
        match self.source().await {
            Some(source) => OfferedKeys::of(&*source).await.map(Some),
            None => Ok(None),
        }
    }

    /// A source of which it is told how it answers.
    fn asked(&self, source: Arc<dyn KeySource>) -> Arc<dyn KeySource> {
        Arc::new(AskedKeySource::new(source, self.settings.log.listener().cloned()))
    }

    /// The settings as they fit together, or why they do not.
    fn settings_for(&self, location: Location) -> Result<(OpenSettings, Location)> {
        let mut settings = self.settings.clone();
        settings.way = self.wishes.way(&location)?;
        settings.create_if_missing = self.wishes.creates();
        if settings.way == Way::Exclusive {
            settings.log.make_private();
        }
        if !settings.way.only_reads() {
            return Ok((settings, location));
        }
        settings.tuning = settings.tuning.checkpoints(Checkpoints::External);
        Ok((settings, location.only_read()))
    }
}

impl Connector for SqlCipherConnector {
    type Connection = SqlCipherConnection;

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new("SQLite", Dialect::Sqlite);
        capabilities.single_writer = true;
        // A database in memory has no write-ahead log: an open write makes readers fail.
        capabilities.concurrent_readers = self.shown.as_os_str() != ":memory:" && !self.wishes.exclusive;
        capabilities.group_commit = self.settings.tuning.group_commit;
        capabilities.cancel = CancelKind::Interrupt;
        capabilities.max_params = 32_766;
        capabilities.encryption_at_rest = self.has_key;
        // The directories above often have the name of a user or of a customer.
        capabilities.namespace = self.shown.file_name().map(|name| name.to_string_lossy().into());
        capabilities
    }

    fn usable(&self) -> Result<()> {
        if self.process.get().is_some_and(|process| process.has_forked()) { Err(errors::forked()) } else { Ok(()) }
    }

    async fn connect(&self, access: Access) -> Result<SqlCipherConnection> {
        self.known.connection(self.opened().await?, access).await
    }

    async fn release(&self) -> Result<()> {
        // An opening whose caller has gone away is waited for.
        let state = Arc::clone(&self.known.state).lock_owned().await;
        match &*state {
            State::Opened(known) => known.opened.let_go().await,
            State::Unopened { .. } | State::ShutDown => Ok(()),
        }
    }

    async fn rekey(&self, source: Box<dyn KeySource>, progress: Option<TellProgress>) -> Result<Rekeying> {
        self.prepare_rekey(self.asked(source.into()), progress).await
    }

    fn observed(&self, listener: EngineListener) {
        self.settings.log.observed(listener);
    }

    fn readings(&self) -> EngineReadings {
        let stats = self.stats();
        let mut readings = EngineReadings::default();
        if self.shown.as_os_str() != ":memory:" {
            readings.database_bytes = self.bytes_of("");
            readings.log_bytes = Some(stats.wal_bytes);
            readings.log_frames = Some(self.settings.log.frames().into());
            readings.failed_checkpoints = Some(stats.failed_checkpoints);
        }
        readings.snapshot_hits = Some(stats.snapshot_hits);
        readings.statement_hits = Some(stats.statement_hits);
        readings.statement_misses = Some(stats.statement_misses);
        readings.page_cache_hits = Some(stats.page_cache_hits);
        readings.page_cache_misses = Some(stats.page_cache_misses);
        readings
    }

    async fn shut_down(&self) {
        let state = std::mem::replace(&mut *self.known.state.lock().await, State::ShutDown);
        if let State::Opened(known) = state {
            known.opened.abandoned().close().await;
        }
    }
}

impl fmt::Debug for SqlCipherConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlCipherConnector")
            .field("path", &self.shown)
            .field("has_key", &self.has_key)
            .field("wishes", &self.wishes)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
