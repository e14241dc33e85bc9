//! Making a new database: whole, or not at all.
//!
//! It is made beside its place, synced, and then given its name in one step that never replaces what is there. So a
//! full disk, a killed process or a power failure leaves no half of a database behind, and of several who create the
//! same file at the same moment one wins and the others find its file. The file at its own place is never opened here.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::diagnose;
use super::location::{Location, directory_of};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::sqlcipher::cipher::{self, KeySpec};
use crate::sqlcipher::errors;
use crate::sqlcipher::ffi::{header, publish};
use crate::sqlcipher::os::is_full;

/// How the name of a file in the making goes on after the name of the database; random digits follow.
const MARK: &str = "-new-";

/// Makes the database, empty and in rollback mode, unless somebody else has made it meanwhile.
pub(crate) fn create(location: &Location, target: &Path, key: Option<&KeySpec>, token: [u8; 16]) -> Result<()> {
    let token: String = token[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let draft = beside(target, &format!("{MARK}{token}"));
    let stale = stale_logs(target);
    let made = make(location, &draft, key).and_then(|()| {
        discard(target, &stale);
        publish::rename_new(&draft, target).map_err(|error| not_published(location, &error))
    });
    if made.is_err() {
        std::fs::remove_file(&draft).ok();
        // Somebody else was first, and may have removed our draft: that file is as good.
        return if target.symlink_metadata().is_ok() { Ok(()) } else { made };
    }
    if let Err(error) = sync_directory(target) {
        tracing::warn!(database = %location, %error, "the directory of a new database could not be synced");
    }
    sweep(target);
    Ok(())
}

fn make(location: &Location, draft: &Path, key: Option<&KeySpec>) -> Result<()> {
    let connection = location.open_or_create(draft)?;
    if let Some(key) = key {
        cipher::key(&connection, key)?;
    }
    // A journal of its own would only be one more file; a draft is never rolled back. The vacuum mode has to be settled
    // before the first page.
    let done = connection.execute_batch(
        "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA user_version = 0",
    );
    done.map_err(|error| diagnose::explain_with(location, &connection, error))?;
    if let Some(key) = key {
        prove_encrypted(location, &connection, key)?;
    }
    connection.close().map_err(|(_, error)| location.describe(errors::classify(error)))
}

/// After the first write the file must begin with the salt; anything else is not encrypted with our key.
pub(crate) fn prove_encrypted(location: &Location, connection: &Connection, key: &KeySpec) -> Result<()> {
    let plain_header = key.format().has_plain_header();
    match header::read(connection).map_err(|error| diagnose::explain_with(location, connection, error))? {
        Some(_) if plain_header && diagnose::has_plain_header_only(connection) && cipher::is_at_work(connection) => {
            Ok(())
        }
        Some(header) if !plain_header && header == *key.salt() => Ok(()),
        _ => Err(location
            .error(ErrorKind::Encryption, "the file did not become encrypted")
            .because(Reason::NoCipher)
            .hint("delete it; the SQLite library of this program does not encrypt")),
    }
}

fn beside(target: &Path, end: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Logs that an earlier database of this name left behind; they would be taken for the new one's. SQLite removes them
/// when it creates a file.
fn stale_logs(target: &Path) -> Vec<(PathBuf, (u64, Option<std::time::SystemTime>))> {
    let logs = ["-wal", "-journal"].map(|end| beside(target, end));
    let stale = logs.into_iter().filter_map(|log| Some((log.clone(), look(&log)?))).collect();
    // Seen before the database was seen to be missing, so they belong to none.
    if target.symlink_metadata().is_ok() { Vec::new() } else { stale }
}

fn look(file: &Path) -> Option<(u64, Option<std::time::SystemTime>)> {
    let found = file.symlink_metadata().ok()?;
    Some((found.len(), found.modified().ok()))
}

fn discard(target: &Path, stale: &[(PathBuf, (u64, Option<std::time::SystemTime>))]) {
    for (log, seen) in stale {
        if target.symlink_metadata().is_err() && look(log).as_ref() == Some(seen) {
            tracing::warn!(log = %log.display(), "a log without its database is removed before a new database is made");
            std::fs::remove_file(log).ok();
        }
    }
}

pub(crate) fn sync_directory(target: &Path) -> io::Result<()> {
    if cfg!(unix) { std::fs::File::open(directory_of(target))?.sync_all() } else { Ok(()) }
}

/// Removes what killed processes have left. A process that works on a draft at this moment finds the database instead.
fn sweep(target: &Path) {
    for draft in drafts(target, MARK) {
        std::fs::remove_file(draft).ok();
    }
}

/// The files beside `target` that have its name, `mark` and sixteen digits behind it.
pub(crate) fn drafts(target: &Path, mark: &str) -> Vec<PathBuf> {
    let Some(name) = target.file_name() else { return Vec::new() };
    let mut start = OsString::from(name);
    start.push(mark);
    let is_draft = |name: OsString| {
        let token = name.as_encoded_bytes().strip_prefix(start.as_encoded_bytes());
        token.is_some_and(|token| token.len() == 16 && token.iter().all(u8::is_ascii_hexdigit))
    };
    let Ok(entries) = directory_of(target).read_dir() else { return Vec::new() };
    entries.flatten().filter(|entry| is_draft(entry.file_name())).map(|entry| entry.path()).collect()
}

#[cold]
fn not_published(location: &Location, error: &io::Error) -> Error {
    let (kind, reason) = match error.kind() {
        _ if is_full(error) => (ErrorKind::Storage, Reason::DiskFull),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::Connection, Reason::NotPermitted)
        }
        _ => (ErrorKind::Storage, Reason::Io),
    };
    location.error(kind, format_args!("the new file could not be given its name: {error}")).because(reason)
}
