//! What is behind "file is not a database": SQLite says the same for a wrong key, a plaintext file, an encrypted file
//! without a key and a damaged one.
//!
//! Runs only after an open failed. It looks at the size, the first bytes and a few pages, never at the whole file.

use std::io;

use rusqlite::{Connection, ErrorCode};

use super::location::Location;
use super::log_pages;
use crate::error::{Error, ErrorKind, Reason};
use crate::secret::Secret;
use crate::sqlcipher::cipher::{self, KeySpec};
use crate::sqlcipher::errors;
use crate::sqlcipher::ffi::{header, system};
use crate::sqlcipher::format::{CURRENT, Format};
use crate::sqlcipher::os::{is_full, is_held, is_of_the_disk};

/// The first bytes of a plaintext database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The size of a page is a multiple of this, and so is the size of every database.
const SMALLEST_PAGE: u64 = 512;

/// How many pages after the first are asked whether the key is right.
const PAGES_ASKED: u32 = 7;

/// Why an open fails that worked before.
const ANOTHER_KEY: &str = "the key of the file was changed by another process, or another file was put in its place";

/// The first read: derives SQLCipher's inner keys and decrypts the first page.
pub(crate) fn trial(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("SELECT count(*) FROM sqlite_schema", (), |_| Ok(()))
}

pub(crate) fn is_plain(header: [u8; 16]) -> bool {
    header == *MAGIC
}

/// Explains that there is a key and a file that begins like a plaintext one.
pub(crate) fn not_encrypted(location: &Location, connection: &Connection) -> Error {
    if has_plain_header_only(connection) {
        return plain_header(location);
    }
    location
        .error(ErrorKind::Encryption, "a key was given, but the file is not encrypted")
        .because(Reason::NotEncrypted)
        .hint("open it without a key, or encrypt it once with .encrypt() of the builder")
}

/// Encrypted behind a header that is not: SQLCipher needs room at the end of every page, and the header tells of it.
pub(crate) fn has_plain_header_only(connection: &Connection) -> bool {
    /// Where the header says how many bytes of each page are kept free.
    const RESERVED: usize = 20;
    /// An initialisation vector, at least.
    const FEWEST: u8 = 16;
    let mut start = [0; 32];
    header::read_at(connection, 0, &mut start).unwrap_or(false) && start.starts_with(MAGIC) && start[RESERVED] >= FEWEST
}

fn plain_header(location: &Location) -> Error {
    location
        .error(ErrorKind::Encryption, "the file is encrypted but for its header (cipher_plaintext_header_size)")
        .because(Reason::OtherCipherSettings)
        .hint(
            "call .plaintext_header() on the builder, with a key that brings its salt, or .plaintext_header_with(salt)",
        )
}

/// Explains that a plaintext header was announced and is not there.
pub(crate) fn encrypted_header(location: &Location) -> Error {
    location
        .error(ErrorKind::Encryption, "the header of the file is encrypted, or it is no database")
        .because(Reason::OtherCipherSettings)
        .hint("leave .plaintext_header() away")
}

/// Explains a failed first read of a file whose header is not encrypted. SQLite believes what the header says.
fn behind_plain_header(location: &Location, connection: &Connection, key: &KeySpec) -> Error {
    if fits_later_pages(connection, key) {
        return damaged(location, "the key is right, but page 1 is damaged");
    }
    location
        .error(ErrorKind::Encryption, "the key, or the salt that was given with it, does not open it")
        .because(Reason::WrongKey)
        .hint("check both; other cipher settings or a damaged first page look the same")
}

/// Explains a failed first read of a database opened without a key.
pub(crate) fn without_key(location: &Location, connection: &Connection, error: rusqlite::Error) -> Error {
    if has_plain_header_only(connection) {
        return plain_header(location);
    }
    if !is_not_a_database(&error) {
        return explain_with(location, connection, error);
    }
    match header::read(connection) {
        Ok(Some(header)) if is_plain(header) => damaged(location, "its first page is damaged"),
        Ok(Some(_)) if !is_foreign(location, connection) => location
            .error(ErrorKind::Encryption, "the file is encrypted or not a database, and no key was given")
            .because(Reason::KeyMissing)
            .hint("give the key to the builder with .key()"),
        Ok(_) => not_a_database(location),
        Err(error) => explain_with(location, connection, error),
    }
}

/// Explains a failed first read of a database opened with `key`, which was made from `secret`.
pub(crate) fn with_key(
    location: &Location,
    connection: &Connection,
    secret: &Secret,
    key: &KeySpec,
    error: rusqlite::Error,
) -> Error {
    let is_corrupt = error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt);
    if key.format().has_plain_header() && (is_corrupt || is_not_a_database(&error)) {
        return behind_plain_header(location, connection, key);
    }
    if !is_not_a_database(&error) {
        return explain_with(location, connection, error);
    }
    let salt = match header::read(connection) {
        Ok(Some(salt)) => salt,
        Ok(None) => return not_a_database(location),
        Err(error) => return explain_with(location, connection, error),
    };
    if is_foreign(location, connection) {
        return not_a_database(location);
    }
    if fits_later_pages(connection, key) {
        return damaged(location, "the key is right, but page 1 is damaged");
    }
    let others = (1..=CURRENT).rev().filter(|level| *level != key.format().compatibility);
    if let Some(level) = others.into_iter().find(|level| opens_with(location, secret, salt, *level)) {
        return location
            .error(
                ErrorKind::Encryption,
                format_args!("the key is right, but the file has the format of SQLCipher {level}"),
            )
            .because(Reason::OtherCipherSettings)
            .hint(format!("call .cipher_compatibility({level}) on the builder"));
    }
    // No version of SQLCipher has written smaller pages.
    if location.len().is_some_and(|len| len < 1024) {
        return not_a_database(location);
    }
    location
        .error(ErrorKind::Encryption, "the key does not open it")
        .because(Reason::WrongKey)
        .hint("check the key; other cipher settings or a damaged first page look the same")
}

/// Explains why a connection does not open with `key` though an earlier one did.
pub(crate) fn later(
    location: &Location,
    connection: &Connection,
    key: Option<&KeySpec>,
    error: rusqlite::Error,
) -> Error {
    let Some(key) = key else { return without_key(location, connection, error) };
    let is_corrupt = error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt);
    let is_expected = is_not_a_database(&error) || (is_corrupt && key.format().has_plain_header());
    if !is_expected {
        return explain_with(location, connection, error);
    }
    match header::read(connection) {
        Ok(Some(header)) if is_plain(header) && !has_plain_header_only(connection) => {
            return not_encrypted(location, connection);
        }
        Ok(Some(_)) if fits_later_pages(connection, key) => {
            return damaged(location, "the key is right, but page 1 is damaged");
        }
        Ok(_) => {}
        Err(error) => return explain_with(location, connection, error),
    }
    location
        .error(ErrorKind::Encryption, ANOTHER_KEY)
        .because(Reason::WrongKey)
        .hint("open the database anew, with the key that it has now")
}

/// Explains that the file has another key now, which its source does not have.
pub(crate) fn not_offered(location: &Location, source: &str) -> Error {
    location
        .error(ErrorKind::Encryption, format_args!("{ANOTHER_KEY}, and {source} does not offer the new one"))
        .because(Reason::WrongKey)
        .hint("store the new key there; each call asks again, and works as soon as it fits (an environment variable changes when the program begins anew)")
}

/// The same as a context.
pub(crate) fn another_key(location: &Location) -> String {
    format!("{location}: {ANOTHER_KEY}, and the new one cannot be had")
}

/// Explains an error that has nothing to do with keys.
pub(crate) fn explain_with(location: &Location, connection: &Connection, error: rusqlite::Error) -> Error {
    let why = match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => system::open_failure(connection),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::SystemIoFailure) => system::failure(connection),
        _ => None,
    };
    explain(location, error, why)
}

/// The same, with what the system told SQLite, if that is known.
pub(crate) fn explain(location: &Location, error: rusqlite::Error, why: Option<io::Error>) -> Error {
    if let Some(why) = why.as_ref().filter(|why| is_of_the_disk(why)) {
        return location.failed(why);
    }
    if let Some(why) = why.as_ref().filter(|why| is_full(why)) {
        return location.describe(errors::full(why));
    }
    if why.is_some_and(|why| is_held(&why)) {
        return location
            .error(ErrorKind::Busy, "another program has the file open and shares it with nobody")
            .hint("close it there; scanners and backup programs let go by themselves")
            .transient();
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) => location.refused(),
        Some(ErrorCode::ReadOnly) if location.is_marked_read_only() => location
            .error(ErrorKind::Connection, "the file has the attribute read-only")
            .because(Reason::NotWritable)
            .hint("take it off (`attrib -r`), or open the file with `.read_only()`"),
        Some(ErrorCode::ReadOnly) => location
            .error(ErrorKind::Connection, "the file cannot be written")
            .because(Reason::NotWritable)
            .hint("the process needs to write the file and to create files beside it"),
        Some(ErrorCode::DatabaseCorrupt) => cut_off(location),
        _ => location.describe(errors::classify(without_path(location, error))),
    }
}

/// Explains that the end of the file is missing.
pub(crate) fn cut_off(location: &Location) -> Error {
    match location.len() {
        Some(len) if len % SMALLEST_PAGE != 0 => damaged(location, "the file ends in the middle of a page"),
        _ => damaged(location, "the file is damaged or its end is missing"),
    }
}

/// Where rusqlite has no message of SQLite, it takes the path for one.
fn without_path(location: &Location, error: rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, Some(message)) if message == location.to_string() => {
            rusqlite::Error::SqliteFailure(code, None)
        }
        other => other,
    }
}

fn damaged(location: &Location, what: &'static str) -> Error {
    location
        .error(ErrorKind::Storage, what)
        .because(Reason::Damaged)
        .hint("restore it from a backup, or take out what can be read by salvage_to()")
}

pub(crate) fn emptied(location: &Location) -> Error {
    damaged(location, "the file was emptied while it was open").hint("restore it from a backup")
}

pub(crate) fn piece(location: &Location) -> Error {
    damaged(location, "the file ends in the middle of a page")
}

/// The engine would remove the log if it opened the file.
pub(crate) fn lost_but_for_its_log(location: &Location) -> Error {
    location
        .error(ErrorKind::Storage, "the file is empty, though its log (-wal) is not")
        .because(Reason::Damaged)
        .hint("restore both from a backup, and keep the log until then")
}

pub(crate) fn not_a_database(location: &Location) -> Error {
    location
        .error(ErrorKind::Storage, "the file is not a database, or was cut off")
        .because(Reason::NotADatabase)
        .hint("check the path; if it has been a database, restore it from a backup")
}

/// Whether this can be no database, encrypted or not: text (beyond the salt, which may be anything), or a size that no
/// database has.
fn is_foreign(location: &Location, connection: &Connection) -> bool {
    let mut start = [0; 64];
    let is_text = header::read_at(connection, 0, &mut start).unwrap_or(false)
        && start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    is_text || location.len().is_some_and(|len| len % SMALLEST_PAGE != 0)
}

/// Whether one of the pages after the first was written with `key`: then the key is right whatever became of page 1. After
/// a change of key that was cut off, the file has older pages than the log.
fn fits_later_pages(connection: &Connection, key: &KeySpec) -> bool {
    let mut page = vec![0; key.page_size()];
    let size = i64::try_from(page.len()).unwrap_or(i64::MAX);
    let in_log = log_pages::committed(connection, page.len()).unwrap_or_default();
    (2..2 + PAGES_ASKED).any(|number| {
        let read = match in_log.get(&number) {
            Some(at) => header::read_log_at(connection, *at, &mut page),
            None => header::read_at(connection, i64::from(number - 1) * size, &mut page),
        };
        read.unwrap_or(false) && cipher::is_authentic(key, number, &page)
    })
}

fn opens_with(location: &Location, secret: &Secret, salt: [u8; 16], level: u8) -> bool {
    let open = || -> crate::error::Result<()> {
        let connection = location.open_to_look()?;
        let key = KeySpec::make(secret, salt, Format::of(level))?;
        cipher::key(&connection, &key)?;
        trial(&connection).map_err(errors::classify)
    };
    open().is_ok()
}

fn is_not_a_database(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::NotADatabase)
}
