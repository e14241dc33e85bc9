//! Another key for a database that nothing has open.
//!
//! SQLCipher writes all pages anew in one transaction, but ignores what the commit answers; and after a failure, the
//! connection would write with the new key into a file that has the old one. So the connection is closed in any case, and
//! what counts is which key opens the file then. The salt stays: one that stood in the log alone would be lost with it.
//!
//! Source: `sqlite3_rekey_v2` in SQLCipher's `sqlcipher.c`.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use rusqlite::{Connection, ErrorCode, ffi};

use super::rekey_progress::RekeyTeller;
use super::seals;
use crate::connector::{BackupStage, RekeyReport, TellProgress};
use crate::crypto::exit_gate;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::secret::Secret;
use crate::sqlcipher::again::closed;
use crate::sqlcipher::cipher::{self, KeySpec};
use crate::sqlcipher::errors::{self, classify};
use crate::sqlcipher::ffi::system;
use crate::sqlcipher::opening::creation::prove_encrypted;
use crate::sqlcipher::opening::diagnose;
use crate::sqlcipher::opening::diagnose::trial;
use crate::sqlcipher::opening::location::Location;
use crate::sqlcipher::opening::opened::Opened;
use crate::sqlcipher::opening::patience::Patience;
use crate::sqlcipher::opening::reading::Failure;
use crate::sqlcipher::opening::way::Way;
use crate::sqlcipher::os::is_full;

/// The key that a secret makes with the salt of the file. Blocks: a passphrase is derived.
pub(in super::super) fn another_key(opened: &Opened, secret: &Secret) -> Result<KeySpec> {
    let _pass = exit_gate::enter();
    let Some(old) = opened.key() else { return Err(not_encrypted()) };
    let mut salt = [0; 16];
    salt.copy_from_slice(old.salt());
    let new = KeySpec::make(secret, salt, old.format())?;
    if new.salt() == old.salt() {
        return Ok(new);
    }
    let error =
        Error::new(ErrorKind::Config, "the new key brings another salt, and a change of key keeps that of the file");
    Err(error.hint("give it as Secret::raw_key; a copy by backup_with() gets a salt of its own"))
}

#[cold]
pub(in super::super) fn not_encrypted() -> Error {
    let error = Error::new(ErrorKind::Config, "the database is not encrypted, so it has no key that could be changed");
    error.because(Reason::NotEncrypted).hint("encrypt the file with .encrypt() of the builder")
}

/// A file that nobody else can read or change, until this is dropped.
pub(in super::super) struct HeldFile {
    opened: Arc<Opened>,
    old: Arc<KeySpec>,
    connection: Option<Connection>,
    began: Instant,
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        let _pass = exit_gate::enter();
        self.connection = None;
    }
}

impl HeldFile {
    /// Takes the file. Blocks. No connection of this database may be open.
    pub(in super::super) fn take(opened: &Arc<Opened>) -> Result<Self> {
        let _pass = exit_gate::enter();
        opened.refuse_child()?;
        opened.refuse_emptied()?;
        let (began, opened) = (Instant::now(), Arc::clone(opened));
        let Some(old) = opened.key() else { return Err(not_encrypted()) };
        if opened.log().syncs().have_failed() {
            return Err(unsynced(opened.location()));
        }
        let connection = Some(alone(&opened, &old)?);
        Ok(Self { opened, old, connection, began })
    }

    /// Encrypts the file with `new`, which has the salt of the old key, and says so by `in_use` once the database goes on
    /// with it. Blocks.
    pub(in super::super) fn rekey(
        mut self,
        new: KeySpec,
        progress: Option<TellProgress>,
        in_use: impl FnOnce(),
    ) -> Result<RekeyReport> {
        let _pass = exit_gate::enter();
        let Some(connection) = self.connection.take() else { return Err(closed()) };
        change(connection, &self, new, progress, in_use)
    }
}

fn change(
    connection: Connection,
    held: &HeldFile,
    new: KeySpec,
    progress: Option<TellProgress>,
    in_use: impl FnOnce(),
) -> Result<RekeyReport> {
    let HeldFile { opened, old, began, .. } = held;
    let location = opened.location();
    let pages: i64 = connection.query_row("PRAGMA page_count", (), |row| row.get(0)).map_err(classify)?;
    let (mut teller, count) = (RekeyTeller::new(progress), u64::try_from(pages).unwrap_or(0));
    let size = u64::try_from(new.page_size()).unwrap_or(4096);
    let logs = location.logs();
    let changed = teller.during(&logs, count, size, || cipher::change(&connection, &new));
    // Nothing if it was not committed: the transaction is still open then.
    let folded = if changed.is_ok() { fold(&connection) } else { Ok(()) };
    let disk = system::failure(&connection);
    drop(connection);
    let found = opens(opened, &new);
    let is_changed = match &found {
        Ok(found) => found.is_some(),
        Err(_) => changed.is_ok() && folded.is_ok(),
    };
    if !is_changed {
        let opens_with_old = found.and_then(|_| opens(opened, old));
        return Err(match opens_with_old {
            Ok(None) => neither(location),
            Ok(Some(_)) => unchanged(location, cause(changed, disk)),
            Err(error) => unchanged(location, error),
        });
    }
    opened.go_on_with(new);
    in_use();
    folded.map_err(|error| not_folded(location, error))?;
    teller.at(BackupStage::Check, 0, count);
    let looked = found.and_then(|connection| match (connection, opened.key(), location.len()) {
        (Some(connection), Some(key), Some(length)) => {
            seals::first_broken(&connection, length, &key, true, &mut || Ok(()))
        }
        _ => Ok(None),
    });
    teller.at(BackupStage::Check, count, count);
    match looked {
        Ok(None) => {}
        Ok(Some(page)) => return Err(damaged(location, page)),
        Err(error) => {
            return Err(error.context(format_args!("{location} has the new key now, but could not be looked at")));
        }
    }
    Ok(RekeyReport::new(count, began.elapsed()))
}

/// A connection that has the file for itself, with nothing in its log.
fn alone(opened: &Opened, old: &KeySpec) -> Result<Connection> {
    let location = opened.location();
    let take = |connection: &Connection| {
        Way::Exclusive.take(connection, opened.busy_timeout())?;
        trial(connection)?;
        connection
            .execute_batch("PRAGMA synchronous = EXTRA; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON")?;
        fold(connection)
    };
    let taken = Patience::begin(opened.busy_timeout()).in_turn(Way::Exclusive, || {
        let connection = location.open()?;
        cipher::key(&connection, old)?;
        Failure::unless(take(&connection), connection)
    });
    taken.map_err(|failure| {
        failure.explained(|of, error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy) => occupied(location),
            _ => unchanged(location, diagnose::later(location, of, Some(old), error)),
        })
    })
}

/// Copies the log into the file, and leaves nothing in it. In a rollback mode there is none.
fn fold(connection: &Connection) -> rusqlite::Result<()> {
    let is_busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, i64>(0))? != 0;
    if is_busy {
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None));
    }
    Ok(())
}

/// A connection that has read with this key; `None` if the key does not open the file.
fn opens(opened: &Opened, key: &KeySpec) -> Result<Option<Connection>> {
    let location = opened.location();
    let (way, limit) = (opened.way(), opened.busy_timeout());
    let read = Patience::begin(limit).in_turn(way, || {
        let connection = location.open()?;
        cipher::key(&connection, key)?;
        let tried = way.take(&connection, limit).and_then(|()| trial(&connection));
        Failure::unless(tried, connection)
    });
    match read {
        Ok(connection) => prove_encrypted(location, &connection, key).map(|()| Some(connection)),
        Err(Failure::Explained(error)) => Err(error),
        Err(Failure::Engine(found)) => match found.1.sqlite_error_code() {
            // The latter behind a header that is not encrypted.
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Ok(None),
            _ => Err(diagnose::explain_with(location, &found.0, found.1)),
        },
    }
}

/// Why it was not changed: what the engine says, or else the system.
fn cause(changed: rusqlite::Result<()>, disk: Option<io::Error>) -> Error {
    let code = match (changed, disk) {
        (_, Some(disk)) if is_full(&disk) => return errors::full(&disk),
        (Err(error), _) => return classify(error),
        (Ok(()), Some(_)) => ffi::SQLITE_IOERR,
        // A full disk is no error of the system for SQLite.
        (Ok(()), None) => ffi::SQLITE_FULL,
    };
    classify(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
}

#[cold]
fn occupied(location: &Location) -> Error {
    let message = format!("the key of {location} was not changed: another connection has the file open");
    Error::new(ErrorKind::Busy, message)
        .about(location.to_string())
        .hint("close it there, in another process or another handle, and call again; the old key is in use")
        .transient()
}

#[cold]
fn unsynced(location: &Location) -> Error {
    let message = format!("the key of {location} was not changed: a sync of its log failed");
    Error::new(ErrorKind::Storage, message)
        .because(Reason::Io)
        .about(location.to_string())
        .hint("write something, which writes the log anew, and call again; look in the system's log for the disk")
}

fn unchanged(location: &Location, error: Error) -> Error {
    error.context(format_args!("the key of {location} was not changed")).about(location.to_string())
}

#[cold]
fn not_folded(location: &Location, error: rusqlite::Error) -> Error {
    let what =
        format!("{location} has the new key now, but pages under the old one stay in it until the log is copied");
    classify(error).context(what).about(location.to_string())
}

#[cold]
fn damaged(location: &Location, page: u64) -> Error {
    Error::new(
        ErrorKind::Storage,
        format!("{location} has the new key now, but is damaged: page {page} fails its seal"),
    )
    .because(Reason::Damaged)
    .about(location.to_string())
    .hint("restore it from a backup")
}

#[cold]
fn neither(location: &Location) -> Error {
    Error::new(ErrorKind::Storage, format!("{location} opens neither with the old key nor with the new one"))
        .because(Reason::Damaged)
        .about(location.to_string())
        .hint("restore it from a backup")
}
