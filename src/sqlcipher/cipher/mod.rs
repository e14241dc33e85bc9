//! Keying: from a secret to a keyed connection.
//!
//! The passphrase is stretched once per pool; every connection then gets the key and the file's salt, which opens in a
//! fraction of a millisecond where a passphrase takes the time of 256,000 hashes.

mod derive;
mod page;
mod spec;
mod version;

pub(super) use derive::check_passphrase;
pub(super) use page::{PageCipher, is_authentic};
pub(super) use spec::KeySpec;

use rusqlite::Connection;

use super::ffi;
use super::format::{CURRENT, Format};
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::secret::{Secret, SecretForm};

/// How many bytes of a file stay readable where its header is not encrypted: what iOS looks at, and no more.
const PLAIN_HEADER: u32 = 32;

/// The version of the cipher in the engine, where there is one.
fn version(connection: &Connection) -> Option<String> {
    connection.query_row("PRAGMA cipher_version", (), |row| row.get(0)).ok()
}

/// Proves that the engine is SQLCipher and keeps it from writing to the terminal. Must pass before any keying: plain
/// SQLite ignores keys without a word and would write plaintext.
pub(super) fn require(connection: &Connection) -> Result<()> {
    let Some(version) = version(connection).filter(|version| !version.is_empty()) else {
        return Err(Error::new(ErrorKind::Encryption, "the SQLite library of this program has no cipher")
            .because(Reason::NoCipher)
            .hint(
                "another crate links its own SQLite; build with strongroom's feature `sqlcipher` or `vendored-openssl`",
            ));
    };
    version::check(&version)?;
    // SQLCipher reports failed decryption on standard error by default; errors are for the caller.
    let _ = connection.query_row("PRAGMA cipher_log_level = NONE", (), |_| Ok(()));
    Ok(())
}

/// Keys a fresh connection. Nothing is read yet.
pub(super) fn key(connection: &Connection, spec: &KeySpec) -> Result<()> {
    spec.with_text(|text| ffi::key::set(connection, text)).map_err(|_| cannot_key())?;
    let Format { compatibility, page_size, .. } = spec.format();
    let plain_header = spec.format().has_plain_header().then_some(PLAIN_HEADER);
    let settings = [
        ("cipher_compatibility", Some(u32::from(compatibility)).filter(|_| compatibility != CURRENT)),
        ("cipher_page_size", page_size),
        ("cipher_plaintext_header_size", plain_header),
    ];
    // Numbers and no secrets, so statements may carry them. They must stand between keying and the first read.
    for (name, value) in settings.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let set = connection.query_row(&format!("PRAGMA {name} = {value}"), (), |_| Ok(()));
        set.or_else(no_rows).map_err(|_| cannot_key())?;
    }
    Ok(())
}

/// Writes all pages anew under another key with the same salt. Whether that was committed, only an opening tells.
pub(super) fn change(connection: &Connection, spec: &KeySpec) -> rusqlite::Result<()> {
    spec.with_text(|text| ffi::key::change(connection, text))
}

/// Whether a connection that has read found the codes of the pages right.
pub(super) fn is_at_work(connection: &Connection) -> bool {
    connection.query_row("PRAGMA cipher_status", (), |row| row.get::<_, String>(0)).is_ok_and(|status| status == "1")
}

fn no_rows(error: rusqlite::Error) -> rusqlite::Result<()> {
    match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        other => Err(other),
    }
}

/// The engine's own words are dropped: they may quote what was keyed.
fn cannot_key() -> Error {
    Error::new(ErrorKind::Encryption, "the engine refused the key").during(Phase::Key)
}

/// Keys a connection of your own with `secret`, as this crate keys its connections: through `sqlite3_key_v2`, never by
/// a statement. The connection must be fresh; a passphrase is derived by SQLCipher at the first read.
///
/// ```
/// use strongroom::{Secret, apply_cipher_key, rusqlite::Connection};
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("own.db");
/// let connection = Connection::open(path).unwrap();
/// apply_cipher_key(&connection, &Secret::raw_key([7; 32]))?;
/// connection.execute_batch("CREATE TABLE t (a)").unwrap();
/// # Ok::<(), strongroom::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Key`] for secrets that are no keys, [`ErrorKind::Encryption`] when the engine has no cipher or refuses.
pub fn apply_cipher_key(connection: &Connection, secret: &Secret) -> Result<()> {
    require(connection)?;
    match secret.form() {
        SecretForm::Passphrase => {
            check_passphrase(secret)?;
            ffi::key::set(connection, secret.expose()).map_err(|_| cannot_key())
        }
        SecretForm::RawKey | SecretForm::RawKeyWithSalt => {
            let text = spec::text(secret.expose());
            ffi::key::set(connection, &text).map_err(|_| cannot_key())
        }
    }
}

/// Whether the SQLite library of this program is SQLCipher.
pub fn is_sqlcipher_available() -> bool {
    ffi::system::start();
    Connection::open_in_memory().ok().and_then(|connection| version(&connection)).is_some()
}
