//! What is behind "file is not a database": SQLite says the same for a wrong key, a plaintext file, an encrypted file
//! without a key and a damaged one.

use rusqlite::Connection;

use super::cipher::{self, KeySpec};
use super::errors;
use super::ffi::header;
use super::location::Location;
use super::opening::{Settings, trial};
use crate::{Error, ErrorKind, Reason, Secret};

/// The first bytes of a plaintext database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

pub(super) fn is_plain(header: [u8; 16]) -> bool {
    header == *MAGIC
}

pub(super) fn not_encrypted(location: &Location) -> Error {
    location
        .error(ErrorKind::Encryption, "a key was given, but the file is not encrypted")
        .because(Reason::NotEncrypted)
        .hint("open it without a key, or export it into an encrypted database")
}

/// Explains a failed first read of a database opened without a key.
pub(super) fn without_key(location: &Location, connection: &Connection, error: rusqlite::Error) -> Error {
    let header = header::read(connection).ok().flatten();
    match header {
        Some(header) if is_not_a_database(&error) && !is_plain(header) => location
            .error(ErrorKind::Encryption, "the file is encrypted or not a database, and no key was given")
            .because(Reason::KeyMissing)
            .hint("give the key to the builder with .key()"),
        _ => location.describe(errors::classify(error)),
    }
}

/// Explains a failed first read of a database opened with a key: the same passphrase may fit an older format.
pub(super) fn with_key(
    location: &Location,
    settings: &Settings,
    secret: &Secret,
    salt: [u8; 16],
    error: rusqlite::Error,
) -> Error {
    if !is_not_a_database(&error) {
        return location.describe(errors::classify(error));
    }
    let older = [4, 3, 2, 1].into_iter().filter(|level| *level != settings.compatibility);
    if let Some(level) = older.into_iter().find(|level| opens_with(location, secret, salt, *level)) {
        return location
            .error(
                ErrorKind::Encryption,
                format_args!("the key is right, but the file has the format of SQLCipher {level}"),
            )
            .because(Reason::OtherCipherSettings)
            .hint(format!("call .cipher_compatibility({level}) on the builder"));
    }
    location
        .error(ErrorKind::Encryption, "the key does not open it")
        .because(Reason::WrongKey)
        .hint("check the key; other cipher settings or a damaged first page look the same")
}

fn opens_with(location: &Location, secret: &Secret, salt: [u8; 16], level: u8) -> bool {
    let open = || -> crate::Result<()> {
        let connection = location.open(false)?;
        let key = KeySpec::make(secret, salt, level)?;
        cipher::key(&connection, &key)?;
        trial(&connection).map_err(errors::classify)
    };
    open().is_ok()
}

fn is_not_a_database(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase)
}
