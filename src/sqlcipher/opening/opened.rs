//! The way of an open: look, key once, prove it, set up; every further connection reuses the key.

use std::collections::HashSet;
use std::sync::{Arc, Once};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::abandoned::Abandoned;
use super::diagnose::{self, trial};
use super::first::Opening;
use super::location::Location;
use super::patience::Patience;
use super::reading::{self, Failure, Tried};
use super::way::{OpenSettings, Way};
use crate::connector::Access;
use crate::crypto::exit_gate;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::key::KeyCandidate;
use crate::lock::Lock;
use crate::secret::Secret;
use crate::sqlcipher::changes::following::Following;
use crate::sqlcipher::cipher::{self, KeySpec};
use crate::sqlcipher::errors;
use crate::sqlcipher::ffi::fork::{Process, ProcessMark};
use crate::sqlcipher::ffi::library;
use crate::sqlcipher::ffi::wal_index;
use crate::sqlcipher::log::checkpoint::{Log, WORTH_COPYING};
use crate::sqlcipher::log::snapshot::Snapshots;
use crate::sqlcipher::log::sweeper;
use crate::sqlcipher::log::syncs;
use crate::sqlcipher::running::control::Control;
use crate::sqlcipher::running::engine::Engine;
use crate::sqlcipher::running::inline::InlineRights;
use crate::sqlcipher::running::job::on_thread;
use crate::sqlcipher::running::session::Sharing;
use crate::sqlcipher::statement::watch::Watch;
use crate::sqlcipher::tuning::{Checkpoints, Synchronous, Tuning};

/// The gate stands behind the handlers for the exit that SQLCipher and libcrypto register as the first database opens.
static GATED: Once = Once::new();

/// A database that was opened once: what is needed to open more connections, without the passphrase.
#[derive(Debug)]
pub(crate) struct Opened {
    location: Location,
    settings: OpenSettings,
    /// None is added or taken away, but one may be changed.
    key: Lock<Option<Arc<KeySpec>>>,
    /// The file had a first page when it was opened; it has one from then on.
    has_content: bool,
    /// The connection of the first opening, for the first caller.
    spare: Lock<Option<Tried>>,
    /// Keeps a database in memory alive while no other connection is open.
    #[allow(dead_code, reason = "it only has to live")]
    anchor: Option<Lock<Connection>>,
    built_in: Arc<HashSet<String>>,
    snapshots: Arc<Snapshots>,
    abandoned: Abandoned,
    /// Each connection that writes has one.
    writers: Arc<()>,
    log: Arc<Log>,
    following: Following,
    process: Process,
}

impl Opened {
    /// Opens with the first key that fits; says where that is from. Blocks.
    pub(crate) fn with_one_of(
        location: &Location,
        settings: &OpenSettings,
        candidates: Vec<KeyCandidate>,
    ) -> Result<(Self, Option<String>)> {
        let open = |secret: Option<&Secret>| Self::first(location.clone(), settings.clone(), secret);
        if candidates.is_empty() {
            return Ok((open(None)?, None));
        }
        let (mut tried, mut refusal) = (Vec::new(), None);
        for KeyCandidate { secret, source } in candidates {
            match open(Some(&secret)) {
                Ok(opened) => return Ok((opened, Some(source))),
                Err(error) if error.reason() == Reason::WrongKey => refusal = Some(error),
                Err(error) => return Err(error),
            }
            tried.push(source);
        }
        let error = refusal.unwrap_or_else(|| Error::new(ErrorKind::Key, "there is no key"));
        match tried.len() {
            1 => Err(error),
            _ => Err(error.context(format!("none of the keys fits ({})", tried.join(", ")))),
        }
    }

    /// Opens for the first time. Blocks: derives the key, and creates the file if need be.
    pub(crate) fn first(location: Location, settings: OpenSettings, secret: Option<&Secret>) -> Result<Self> {
        let (way, shown) = (settings.way, location.clone());
        Self::open_first(location, settings, secret).map_err(|error| way.explain(&shown, error))
    }

    fn open_first(location: Location, settings: OpenSettings, secret: Option<&Secret>) -> Result<Self> {
        let (_pass, process) = (exit_gate::enter(), Process::opening());
        library::check()?;
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
        GATED.call_once(exit_gate::install);
        let built_in = built_in(&tried.connection).map_err(|error| location.describe(errors::classify(error)))?;
        let (spare, anchor) =
            if location.is_memory() { (None, Some(Lock::new(tried.connection))) } else { (Some(tried), None) };
        let log = Arc::clone(&settings.log);
        let has_content = location.len().is_some_and(|len| len > 0);
        Ok(Self {
            location,
            settings,
            key: Lock::new(key.map(Arc::new)),
            has_content,
            spare: Lock::new(spare),
            anchor,
            built_in: Arc::new(built_in),
            snapshots: Arc::default(),
            writers: Arc::default(),
            abandoned: Abandoned::default(),
            log,
            following: Following::default(),
            process,
        })
    }

    /// Opens one connection. Blocks for a fraction of a millisecond.
    pub(crate) fn connect(&self, access: Access, control: &Arc<Control>) -> Result<Engine> {
        let patience = Patience::begin(self.busy_timeout());
        self.connect_once(access, control).map_err(|error| patience.settle(error))
    }

    /// If SQLite cannot open the index of the log for writing, it opens it for reading, and all connections of this process
    /// share that until the last of them is closed. So a connection that finds it so is closed, and opened once more.
    fn connect_once(&self, access: Access, control: &Arc<Control>) -> Result<Engine> {
        let mut engine = self.connect_as_it_comes(access, control)?;
        let may_write = !self.settings.way.only_reads() && !self.log.is_private();
        if may_write && wal_index::only_reads(engine.raw()) && engine.raw().is_readonly(rusqlite::MAIN_DB) == Ok(false)
        {
            drop(engine);
            return self.connect_as_it_comes(access, control);
        }
        Ok(engine)
    }

    fn connect_as_it_comes(&self, access: Access, control: &Arc<Control>) -> Result<Engine> {
        let _pass = exit_gate::enter();
        let spare = self.spare.lock().take();
        let Tried { connection, still } = match spare {
            Some(tried) => tried,
            None => self.open_another(self.key().as_deref())?,
        };
        if self.settings.tuning.memory_security {
            // Before the first row is read, and before our own rules, which refuse settings of the cipher in SQL.
            let set = connection.execute_batch("PRAGMA cipher_memory_security = ON");
            set.map_err(|error| self.location.describe(errors::classify(error)))?;
        }
        let watch = Arc::new(Watch::new(self.key().is_some(), self.is_memory(), Arc::clone(&self.built_in)));
        let mut engine = Engine::new(connection, watch, self.settings.tallies.open(), Arc::clone(&self.log));
        (engine.open, engine.way, engine.still) = (self.following.opened(), self.settings.way, still);
        let engine = self.configure(engine, access, control);
        let mut engine = engine.map_err(|error| self.location.describe(errors::classify(error)))?;
        if access == Access::Write {
            self.share_syncs(&mut engine)?;
        }
        Ok(engine)
    }

    /// Gives a writer the log to sync, if it shares syncs. After one that failed, also SQLite's own, the log is written
    /// anew first.
    fn share_syncs(&self, engine: &mut Engine) -> Result<()> {
        let shares = self.settings.tuning.synchronous == Synchronous::FullShared && engine.session.index().is_some();
        let syncs = self.log.syncs();
        let Some(path) = self.location.log_path().filter(|_| shares || syncs.have_failed()) else { return Ok(()) };
        let log = match syncs::open(&path) {
            Err(error) if !shares && error.kind() == std::io::ErrorKind::NotFound => {
                syncs.forget_failure();
                return Ok(());
            }
            log => log.map_err(|error| self.location.failed(&error))?,
        };
        syncs.write_anew(engine.raw(), &log)?;
        if shares {
            engine.sharing = Sharing::of(log);
        }
        Ok(())
    }

    /// Closes what is open beside the connections that were asked for, and waits for the thread that copies the log.
    pub(crate) async fn let_go(&self) -> Result<()> {
        self.refuse_child()?;
        self.abandoned.close().await;
        self.log_is_left_alone().await;
        let spare = self.spare.lock().take();
        on_thread(move || {
            let _pass = exit_gate::enter();
            drop(spare);
        })
        .await
    }

    /// What a connection that writes holds as long as it is open.
    pub(crate) fn writer(&self) -> Arc<()> {
        Arc::clone(&self.writers)
    }

    pub(crate) fn has_writer(&self) -> bool {
        Arc::strong_count(&self.writers) > 1
    }

    /// Without its first page, a file would be taken for a new database, with no table in it.
    pub(crate) fn refuse_emptied(&self) -> Result<()> {
        if self.has_content && self.location.len() == Some(0) { Err(diagnose::emptied(&self.location)) } else { Ok(()) }
    }

    /// Opens with `key`, which is the one of the database, or may be.
    pub(super) fn open_another(&self, key: Option<&KeySpec>) -> Result<Tried> {
        self.refuse_emptied()?;
        let give = |connection: &Connection| key.map_or(Ok(()), |key| cipher::key(connection, key));
        let way = self.settings.way;
        let opened = if way.only_reads() {
            reading::open(&self.location, &self.settings, &give)
        } else {
            Patience::begin(self.busy_timeout()).in_turn(way, || {
                let connection = self.location.open()?;
                give(&connection)?;
                let tried = way.take(&connection, self.busy_timeout()).and_then(|()| trial(&connection));
                Failure::unless(tried, connection).map(|connection| Tried { connection, still: None })
            })
        };
        opened.map_err(|failure| {
            failure.explained(|of, error| way.explain(&self.location, diagnose::later(&self.location, of, key, error)))
        })
    }

    /// Keeps a connection for the next caller.
    pub(super) fn keep(&self, tried: Tried) {
        let old = self.spare.lock().replace(tried);
        drop(old);
    }

    /// A connection that only copies the log, as durably as the others write.
    pub(crate) fn open_for_checkpoints(&self) -> Result<Connection> {
        let Tried { connection, .. } = self.open_another(self.key().as_deref())?;
        let set = connection.execute_batch(self.settings.tuning.synchronous.pragmas());
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
        let durability = synchronous.pragmas();
        connection.execute_batch(&format!(
            "{durability} PRAGMA foreign_keys = ON; PRAGMA cache_size = -{cache_kib};
             PRAGMA temp_store = MEMORY; PRAGMA query_only = {query_only};"
        ))?;
        pragma(connection, &format!("PRAGMA journal_size_limit = {journal_size_limit}"))?;
        // SQLite's own would tell nobody when it fails.
        pragma(connection, &format!("PRAGMA wal_autocheckpoint = {by_itself}"))?;
        if *checkpoints == Checkpoints::External {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        } else if by_itself == 0 && access == Access::Write {
            engine.copy_attached_logs()?;
        }
        engine.accept_session();
        (engine.checkpoints, engine.statement_cache) = (*checkpoints, *statement_cache);
        if access == Access::Write {
            self.following.resume(&mut engine)?;
        }
        Ok(engine)
    }

    /// What a connection of this database may do inline.
    pub(crate) fn inline(&self, access: Access, index: bool, change: bool) -> InlineRights {
        let Tuning { inline_reads, inline_writes, commit_in_place, kept_snapshots, synchronous, .. } =
            self.settings.tuning;
        // Without a log, a commit writes to the file and waits for it; in memory there is nothing to wait for.
        let logs = self.is_memory() || index;
        let quick = self.is_memory() || synchronous == Synchronous::Normal;
        let writes = inline_writes && access == Access::Write && logs;
        InlineRights {
            reads: inline_reads,
            writes: writes && quick,
            inside: writes,
            in_place: writes && !quick && commit_in_place && synchronous == Synchronous::Full,
            keep: kept_snapshots && index && access == Access::Read && sweeper::is_here(),
            change,
        }
    }

    /// What the database is encrypted with.
    pub(crate) fn key(&self) -> Option<Arc<KeySpec>> {
        self.key.lock().clone()
    }

    /// Further connections are keyed with this one, which opens the file now.
    pub(crate) fn go_on_with(&self, key: KeySpec) {
        *self.key.lock() = Some(Arc::new(key));
    }

    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    pub(crate) fn way(&self) -> Way {
        self.settings.way
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
        if self.mark().has_forked() { Err(errors::forked()) } else { Ok(()) }
    }

    pub(crate) fn mark(&self) -> ProcessMark {
        self.process.mark()
    }

    /// The listeners to what is committed here.
    pub(crate) fn following(&self) -> &Following {
        &self.following
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
        if self.mark().has_forked() {
            self.abandoned.forget();
            std::mem::forget(self.spare.lock().take());
        }
    }
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
