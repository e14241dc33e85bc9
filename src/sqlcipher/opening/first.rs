//! The first opening of a database: the key is derived and proved, and what is stored in the file is settled.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::diagnose::trial;
use super::location::Location;
use super::patience::Patience;
use super::reading::{self, Failure, Tried};
use super::way::OpenSettings;
use super::{creation, cut_off, diagnose};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::secret::{Secret, SecretForm};
use crate::sqlcipher::cipher::{self, KeySpec};
use crate::sqlcipher::ffi::header;
use crate::sqlcipher::format::Header;

/// The first opening of one database.
pub(super) struct Opening<'a> {
    pub(super) location: &'a Location,
    pub(super) settings: &'a OpenSettings,
    pub(super) is_new: bool,
}

impl Opening<'_> {
    pub(super) fn plain(&self) -> Result<Tried> {
        if self.settings.way.only_reads() {
            let probe = self.location.open()?;
            self.refuse_piece(&probe)?;
            let patience = self.patience();
            return match reading::open(self.location, self.settings, &|_| Ok(())) {
                Ok(opened) => self.whole(opened),
                Err(failure) => {
                    Err(failure.explained(|of, error| patience.settle(diagnose::without_key(self.location, of, error))))
                }
            };
        }
        self.create(None)?;
        let patience = self.patience();
        let opened = patience.in_turn(self.settings.way, || {
            let connection = match self.location {
                // The file is there by now; this is for new files that are attached to it.
                Location::File { path, .. } if self.settings.create_if_missing => self.location.open_or_create(path)?,
                _ => self.location.open()?,
            };
            self.refuse_piece(&connection)?;
            Failure::unless(self.set_up(&connection), connection)
        });
        match opened {
            Ok(connection) => self.whole(Tried { connection, still: None }),
            Err(failure) => {
                Err(failure.explained(|of, error| patience.settle(diagnose::without_key(self.location, of, error))))
            }
        }
    }

    /// Two programs may create the file at the same moment, each with a salt of its own; one of them then finds a salt
    /// that is not its own and derives again, once.
    pub(super) fn encrypted(&self, secret: &Secret) -> Result<(Tried, KeySpec)> {
        if self.settings.way.only_reads() {
            return self.encrypted_to_read(secret);
        }
        let outer = self.outer_salt(secret)?;
        let fresh = || outer.map_or_else(random_salt, Ok);
        let make = |salt| KeySpec::make(secret, salt, self.settings.format);
        let mut ready = if self.is_new { Some(make(fresh()?)?) } else { None };
        self.create(ready.as_ref())?;
        let (mut last, mut patience) = (false, None);
        loop {
            let connection = self.location.open()?;
            let found = self.salt(&connection, outer)?;
            let fits = |key: &KeySpec| found.is_none_or(|salt| key.salt() == salt);
            let key = match ready.take().filter(fits) {
                Some(key) => key,
                None => make(found.map_or_else(fresh, Ok)?)?,
            };
            cipher::key(&connection, &key)?;
            let patience = *patience.get_or_insert_with(|| self.patience());
            let Err(error) = self.set_up(&connection) else {
                creation::prove_encrypted(self.location, &connection, &key)?;
                return Ok((self.whole(Tried { connection, still: None })?, key));
            };
            if patience.may_wait(self.settings.way, &error) {
                drop(connection);
                ready = Some(key);
                Patience::pause();
                continue;
            }
            let now = self.salt(&connection, outer)?;
            if last || now.is_none() || now == found {
                return Err(patience.settle(diagnose::with_key(self.location, &connection, secret, &key, error)));
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
        let patience = self.patience();
        match reading::open(self.location, self.settings, &|connection| cipher::key(connection, &key)) {
            Ok(opened) => {
                let tried = self.whole(opened)?;
                creation::prove_encrypted(self.location, &tried.connection, &key)?;
                Ok((tried, key))
            }
            Err(failure) => {
                let explain = |of: &_, error| diagnose::with_key(self.location, of, secret, &key, error);
                Err(failure.explained(|of, error| patience.settle(explain(of, error))))
            }
        }
    }

    /// Begins where the key is there already: to derive one takes its time, too.
    fn patience(&self) -> Patience {
        Patience::begin(self.settings.tuning.busy_timeout)
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
        self.settings.way.take(connection, self.settings.tuning.busy_timeout)?;
        trial(connection)?;
        let in_memory = self.is_new && self.location.is_memory();
        if in_memory {
            connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
        }
        let mode = journal_mode(connection, "WAL")?;
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

/// Changes how commits are kept, and says how they are. The change is committed when the statement ends, after its only
/// row: to read that row alone would leave a commit that failed unnoticed, and the file as it was.
pub(crate) fn journal_mode(connection: &Connection, mode: &str) -> rusqlite::Result<String> {
    let mut statement = connection.prepare(&format!("PRAGMA journal_mode = {mode}"))?;
    let modes = statement.query_map((), |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(modes.concat())
}

pub(crate) fn random_salt() -> Result<[u8; 16]> {
    let mut salt = [0; 16];
    match getrandom::fill(&mut salt) {
        Ok(()) => Ok(salt),
        Err(error) => {
            Err(Error::new(ErrorKind::Encryption, "the system gave no random bytes for the salt").caused_by(error))
        }
    }
}
