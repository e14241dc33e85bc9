//! The way of an open: look, key once, prove it, set up; every further connection reuses the key.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::abandoned::Abandoned;
use super::creation;
use super::cut_off;
use super::diagnose;
use super::location::Location;
use super::reading::{self, Failure, Still};
use super::way::Way;
use crate::connector::Access;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::secret::{Secret, SecretForm};
use crate::sqlcipher::cipher::{self, KeySpec};
use crate::sqlcipher::errors;
use crate::sqlcipher::ffi::fork::Process;
use crate::sqlcipher::ffi::{exit_gate, header};
use crate::sqlcipher::format::{Format, Header};
use crate::sqlcipher::log::checkpoint::{Log, WORTH_COPYING};
use crate::sqlcipher::log::snapshot::Snapshots;
use crate::sqlcipher::running::control::Control;
use crate::sqlcipher::running::engine::Engine;
use crate::sqlcipher::running::inline::Inline;
use crate::sqlcipher::statement::watch::Watch;
use crate::sqlcipher::stats::Tallies;
use crate::sqlcipher::tuning::{Checkpoints, Synchronous, Tuning};

/// What connections are opened with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) way: Way,
    pub(crate) create_if_missing: bool,
    pub(crate) format: Format,
    pub(crate) tuning: Tuning,
    pub(crate) tallies: Arc<Tallies>,
    pub(crate) log: Arc<Log>,
}

/// A database that was opened once: what is needed to open more connections, without the passphrase.
#[derive(Debug)]
pub(crate) struct Opened {
    location: Location,
    settings: Settings,
    key: Option<KeySpec>,
    /// The file had a first page when it was opened; it has one from then on.
    has_content: bool,
    /// The connection of the first opening, for whoever asks first.
    spare: Mutex<Option<Tried>>,
    /// Keeps a database in memory alive while no other connection is open.
    #[allow(dead_code, reason = "it only has to live")]
    anchor: Option<Mutex<Connection>>,
    built_in: Arc<HashSet<String>>,
    snapshots: Arc<Snapshots>,
    abandoned: Abandoned,
    log: Arc<Log>,
    process: Process,
}

impl Opened {
    /// Opens for the first time. Blocks: derives the key, and creates the file if need be.
    pub(crate) fn first(location: Location, settings: Settings, secret: Option<&Secret>) -> Result<Self> {
        let (way, shown) = (settings.way, location.clone());
        Self::open_first(location, settings, secret).map_err(|error| way.explain(&shown, error))
    }

    fn open_first(location: Location, settings: Settings, secret: Option<&Secret>) -> Result<Self> {
        let (_pass, process) = (exit_gate::enter(), Process::opening());
        let is_new = location.is_new(settings.create_if_missing)?;
        // An engine that does not encrypt is refused before a file is created; so was a key that would not protect.
        if secret.is_some() {
            cipher::require(&Connection::open_in_memory().map_err(errors::classify)?)?;
        }
        let opening = Opening { location: &location, settings: &settings, is_new };
        let (tried, key) = match secret {
            Some(secret) => opening.encrypted(secret).map(|(tried, key)| (tried, Some(key)))?,
            None => (opening.plain()?, None),
        };
        exit_gate::install();
        let built_in = built_in(&tried.connection).map_err(|error| location.describe(errors::classify(error)))?;
        let (spare, anchor) =
            if location.is_memory() { (None, Some(Mutex::new(tried.connection))) } else { (Some(tried), None) };
        let log = Arc::clone(&settings.log);
        let has_content = location.len().is_some_and(|len| len > 0);
        Ok(Self {
            location,
            settings,
            key,
            has_content,
            spare: Mutex::new(spare),
            anchor,
            built_in: Arc::new(built_in),
            snapshots: Arc::default(),
            abandoned: Abandoned::default(),
            log,
            process,
        })
    }

    /// Opens one connection. Blocks for a fraction of a millisecond.
    pub(crate) fn connect(&self, access: Access, control: &Arc<Control>) -> Result<Engine> {
        let _pass = exit_gate::enter();
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Tried { connection, still } = match spare {
            Some(tried) => tried,
            None => self.open_another()?,
        };
        if self.settings.tuning.memory_security {
            // Before the first row is read, and before our own rules, which refuse settings of the cipher in SQL.
            let set = connection.execute_batch("PRAGMA cipher_memory_security = ON");
            set.map_err(|error| self.location.describe(errors::classify(error)))?;
        }
        let watch = Arc::new(Watch::new(self.key.is_some(), self.is_memory(), Arc::clone(&self.built_in)));
        let mut engine = Engine::new(connection, watch, self.settings.tallies.open(), Arc::clone(&self.log));
        (engine.way, engine.still) = (self.settings.way, still);
        self.configure(engine, access, control).map_err(|error| self.location.describe(errors::classify(error)))
    }

    /// Without its first page, a file would be taken for a new database, with no table in it.
    pub(crate) fn refuse_emptied(&self) -> Result<()> {
        if self.has_content && self.location.len() == Some(0) { Err(diagnose::emptied(&self.location)) } else { Ok(()) }
    }

    fn open_another(&self) -> Result<Tried> {
        self.refuse_emptied()?;
        let key = |connection: &Connection| self.key.as_ref().map_or(Ok(()), |key| cipher::key(connection, key));
        if self.settings.way.only_reads() {
            let opened = reading::open(&self.location, self.settings.way, &key);
            return opened.map(Tried::reading).map_err(|failure| match failure {
                Failure::Engine(connection, error) => diagnose::later(&self.location, &connection, error),
                Failure::Explained(error) => error,
            });
        }
        let connection = self.location.open()?;
        key(&connection)?;
        let way = self.settings.way;
        let taken = way.take(&connection).and_then(|()| trial(&connection));
        taken.map_err(|error| way.explain(&self.location, diagnose::later(&self.location, &connection, error)))?;
        Ok(Tried { connection, still: None })
    }

    /// A connection that only copies the log, as durably as the others write.
    pub(crate) fn open_for_checkpoints(&self) -> Result<Connection> {
        let Tried { connection, .. } = self.open_another()?;
        let synchronous = self.settings.tuning.synchronous.pragma();
        let set = connection.execute_batch(&format!("PRAGMA synchronous = {synchronous}"));
        set.map_err(|error| self.location.describe(errors::classify(error)))?;
        Ok(connection)
    }

    fn configure(&self, engine: Engine, access: Access, control: &Arc<Control>) -> rusqlite::Result<Engine> {
        let Tuning { synchronous, cache_kib, statement_cache, busy_timeout, journal_size_limit, checkpoints, .. } =
            &self.settings.tuning;
        let mut engine = engine;
        engine.install(control, *busy_timeout)?;
        let by_itself =
            if engine.log.is_private() && *checkpoints != Checkpoints::External { WORTH_COPYING } else { 0 };
        let connection = engine.raw();
        connection.set_prepared_statement_cache_capacity(*statement_cache);
        let query_only = if access == Access::Read { "ON" } else { "OFF" };
        let synchronous = synchronous.pragma();
        connection.execute_batch(&format!(
            "PRAGMA foreign_keys = ON; PRAGMA synchronous = {synchronous}; PRAGMA cache_size = -{cache_kib};
             PRAGMA temp_store = MEMORY; PRAGMA query_only = {query_only};"
        ))?;
        pragma(connection, &format!("PRAGMA journal_size_limit = {journal_size_limit}"))?;
        // SQLite's own would tell nobody when it fails.
        pragma(connection, &format!("PRAGMA wal_autocheckpoint = {by_itself}"))?;
        if *checkpoints == Checkpoints::External {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        }
        engine.accept_session();
        engine.checkpoints = *checkpoints;
        Ok(engine)
    }

    /// What a connection of this database may do inline.
    pub(crate) fn inline(&self, access: Access, index: bool, change: bool) -> Inline {
        let Tuning { inline_reads, inline_writes, kept_snapshots, synchronous, .. } = self.settings.tuning;
        // Without a log, a commit writes to the file and waits for it; in memory there is nothing to wait for.
        let quick = self.is_memory() || (index && synchronous == Synchronous::Normal);
        Inline {
            reads: inline_reads,
            writes: inline_writes && quick && access == Access::Write,
            keep: kept_snapshots && index && access == Access::Read,
            change,
        }
    }

    pub(crate) fn abandoned(&self) -> &Abandoned {
        &self.abandoned
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn snapshots(&self) -> &Arc<Snapshots> {
        &self.snapshots
    }

    /// Refuses to work for a child of the process that opened this.
    pub(crate) fn refuse_child(&self) -> Result<()> {
        if self.process.has_forked() { Err(errors::forked()) } else { Ok(()) }
    }

    pub(crate) fn is_memory(&self) -> bool {
        self.location.is_memory()
    }

    pub(crate) fn busy_timeout(&self) -> Duration {
        self.settings.tuning.busy_timeout
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if self.process.has_forked() {
            self.abandoned.forget();
            std::mem::forget(self.spare.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

/// A connection that was keyed and has read.
#[derive(Debug)]
struct Tried {
    connection: Connection,
    /// What it takes for unchanging, if anything.
    still: Option<Still>,
}

impl Tried {
    fn reading((connection, still): reading::Reading) -> Self {
        Self { connection, still }
    }
}

/// The first opening of one database.
struct Opening<'a> {
    location: &'a Location,
    settings: &'a Settings,
    is_new: bool,
}

impl Opening<'_> {
    fn plain(&self) -> Result<Tried> {
        if self.settings.way.only_reads() {
            let probe = self.location.open()?;
            self.refuse_piece(&probe)?;
            return match reading::open(self.location, self.settings.way, &|_| Ok(())) {
                Ok(opened) => self.whole(Tried::reading(opened)),
                Err(Failure::Engine(connection, error)) => {
                    Err(diagnose::without_key(self.location, &connection, error))
                }
                Err(Failure::Explained(error)) => Err(error),
            };
        }
        self.create(None)?;
        let connection = match self.location {
            // The file is there by now; this is for new files that are attached to it.
            Location::File { path, .. } if self.settings.create_if_missing => self.location.open_or_create(path)?,
            _ => self.location.open()?,
        };
        self.refuse_piece(&connection)?;
        match self.set_up(&connection) {
            Ok(()) => self.whole(Tried { connection, still: None }),
            Err(error) => Err(diagnose::without_key(self.location, &connection, error)),
        }
    }

    /// Two programs may create the file at the same moment, each with a salt of its own; one of them then finds a salt
    /// that is not its own and derives again, once.
    fn encrypted(&self, secret: &Secret) -> Result<(Tried, KeySpec)> {
        if self.settings.way.only_reads() {
            return self.encrypted_to_read(secret);
        }
        let outer = self.outer_salt(secret)?;
        let fresh = || outer.map_or_else(random_salt, Ok);
        let make = |salt| KeySpec::make(secret, salt, self.settings.format);
        let mut ready = if self.is_new { Some(make(fresh()?)?) } else { None };
        self.create(ready.as_ref())?;
        let mut last = false;
        loop {
            let connection = self.location.open()?;
            let found = self.salt(&connection, outer)?;
            let fits = |key: &KeySpec| found.is_none_or(|salt| key.salt() == salt);
            let key = match ready.take().filter(fits) {
                Some(key) => key,
                None => make(found.map_or_else(fresh, Ok)?)?,
            };
            cipher::key(&connection, &key)?;
            let Err(error) = self.set_up(&connection) else {
                creation::prove_encrypted(self.location, &connection, &key)?;
                return Ok((self.whole(Tried { connection, still: None })?, key));
            };
            let now = self.salt(&connection, outer)?;
            if last || now.is_none() || now == found {
                return Err(diagnose::with_key(self.location, &connection, secret, &key, error));
            }
            last = true;
        }
    }

    fn encrypted_to_read(&self, secret: &Secret) -> Result<(Tried, KeySpec)> {
        let probe = self.location.open()?;
        let outer = self.outer_salt(secret)?;
        let Some(salt) = self.salt(&probe, outer)? else { return Err(diagnose::not_a_database(self.location)) };
        drop(probe);
        let key = KeySpec::make(secret, salt, self.settings.format)?;
        match reading::open(self.location, self.settings.way, &|connection| cipher::key(connection, &key)) {
            Ok(opened) => {
                let tried = self.whole(Tried::reading(opened))?;
                creation::prove_encrypted(self.location, &tried.connection, &key)?;
                Ok((tried, key))
            }
            Err(Failure::Engine(connection, error)) => {
                Err(diagnose::with_key(self.location, &connection, secret, &key, error))
            }
            Err(Failure::Explained(error)) => Err(error),
        }
    }

    /// The salt that does not stand in the file, where its header is not encrypted.
    fn outer_salt(&self, secret: &Secret) -> Result<Option<[u8; 16]>> {
        let Header::Plain(given) = self.settings.format.header else { return Ok(None) };
        let own = match secret.form() {
            SecretForm::RawKeyWithSalt => secret.expose().last_chunk::<16>().copied(),
            _ => None,
        };
        match (given, own) {
            (Some(given), Some(own)) if given != own => Err(self
                .location
                .error(ErrorKind::Config, "plaintext_header_with() gives one salt, and the key brings another")
                .hint("call plaintext_header(), and the salt of the key is used")),
            (None, None) => Err(self
                .location
                .error(ErrorKind::Key, "the header is not to be encrypted, and the key brings no salt")
                .because(Reason::Missing)
                .hint("give Secret::raw_key_with_salt as the key, or the salt to plaintext_header_with()")),
            (given, own) => Ok(given.or(own)),
        }
    }

    /// The salt of the file, which is `outer` if one is given; `None` for one that has no first page yet.
    fn salt(&self, connection: &Connection, outer: Option<[u8; 16]>) -> Result<Option<[u8; 16]>> {
        let header = header::read(connection);
        let header = header.map_err(|error| diagnose::explain_with(self.location, connection, error))?;
        match (header, outer) {
            (Some(_), Some(outer)) if diagnose::has_plain_header_only(connection) => Ok(Some(outer)),
            (Some(header), _) if diagnose::is_plain(header) => Err(diagnose::not_encrypted(self.location, connection)),
            (Some(_), Some(_)) => Err(diagnose::encrypted_header(self.location)),
            (other, _) => Ok(other),
        }
    }

    /// Reads, which proves the key, and settles what is stored in the file: vacuum mode before the first table, then
    /// the write-ahead log.
    fn set_up(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.busy_timeout(self.settings.tuning.busy_timeout)?;
        self.settings.way.take(connection)?;
        trial(connection)?;
        let in_memory = self.is_new && self.location.is_memory();
        if in_memory {
            connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
        }
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))?;
        if mode != "wal" && !self.location.is_memory() {
            tracing::warn!(database = %self.location, mode, "no write-ahead log here; readers and writers will wait for each other");
        }
        if in_memory {
            // Creates the first page, so that connections that come later find the salt.
            connection.execute_batch("PRAGMA user_version = 0")?;
        }
        Ok(())
    }

    /// What was read so far says nothing of the end of the file.
    fn whole(&self, tried: Tried) -> Result<Tried> {
        self.refuse_cut_off(&tried.connection).map(|()| tried)
    }

    fn refuse_cut_off(&self, connection: &Connection) -> Result<()> {
        let is_cut_off = || cut_off::is_cut_off(self.location, connection);
        if self.is_new || !is_cut_off().map_err(|error| diagnose::explain_with(self.location, connection, error))? {
            return Ok(());
        }
        // A failed open changes nothing: closing must not copy the log.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).ok();
        Err(diagnose::cut_off(self.location))
    }

    /// Makes a new file; what stands there afterwards is opened like any other.
    fn create(&self, key: Option<&KeySpec>) -> Result<()> {
        match self.location {
            Location::File { path, .. } if self.is_new => creation::create(self.location, path, key, random_salt()?),
            _ => Ok(()),
        }
    }

    /// Refuses a plaintext file that ends before its first page does; SQLite would think zeros behind it.
    fn refuse_piece(&self, connection: &Connection) -> Result<()> {
        let (mut start, mut size) = ([0; 16], [0; 2]);
        let is_plain = header::read_at(connection, 0, &mut start).is_ok_and(|all| all) && diagnose::is_plain(start);
        let page = match (header::read_at(connection, 16, &mut size), u16::from_be_bytes(size)) {
            // A disk that fails now fails the next read too, which says so.
            (Err(_), _) => return Ok(()),
            (Ok(false), _) => u64::MAX,
            (Ok(true), 1) => 65_536,
            (Ok(true), page) => page.into(),
        };
        if is_plain && self.location.len().is_some_and(|len| len < page) && !self.location.has_log() {
            return Err(diagnose::piece(self.location));
        }
        Ok(())
    }
}

/// The first read: derives SQLCipher's inner keys and decrypts the first page.
pub(crate) fn trial(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("SELECT count(*) FROM sqlite_schema", (), |_| Ok(()))
}

/// The names of SQLite's own functions, before anyone registers others.
fn built_in(connection: &Connection) -> rusqlite::Result<HashSet<String>> {
    let mut names = connection.prepare("SELECT lower(name) FROM pragma_function_list WHERE builtin")?;
    names.query_map((), |row| row.get(0))?.collect()
}

/// Runs a pragma that may or may not answer with a row.
fn pragma(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    match connection.query_row(sql, (), |_| Ok(())) {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(()),
        other => other,
    }
}

fn random_salt() -> Result<[u8; 16]> {
    let mut salt = [0; 16];
    match getrandom::fill(&mut salt) {
        Ok(()) => Ok(salt),
        Err(error) => {
            Err(Error::new(ErrorKind::Encryption, "the system gave no random bytes for the salt").caused_by(error))
        }
    }
}
