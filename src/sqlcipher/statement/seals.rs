//! Whether a statement met a page that does not bear the seal of its key.
//!
//! SQLCipher reads such a page as zeroes, refuses the next one, and says nothing to a statement that needs none: of a value
//! over several pages, the end would be zeroes. Source: `sqlcipher_codec_ctx_set_error` in `sqlcipher.c`.

use rusqlite::{Connection, MAIN_DB, ffi};

use crate::error::Error;
use crate::sqlcipher::errors::classify;
use crate::sqlcipher::ffi::page_cache;

/// How to find out after a statement.
#[derive(Clone, Copy)]
pub(super) enum SealCheck {
    /// There are none.
    Absent,
    /// Where nothing is being written, the connection only reads from then on.
    AreReadOnly,
    /// Anywhere else the cipher has to be asked, which is expensive, if pages were read since there were so many.
    Read(i32),
}

impl SealCheck {
    /// Before a statement that reads, outside of a transaction and on a connection that may write, or any other one.
    pub(super) fn before(connection: &Connection, is_encrypted: bool, only_reads_here: bool) -> Self {
        match (is_encrypted, only_reads_here) {
            (false, _) => Self::Absent,
            (true, true) => Self::AreReadOnly,
            (true, false) => Self::Read(page_cache::pages_read(connection)),
        }
    }

    /// Whether a page was read since that is not what was written.
    #[inline]
    pub(super) fn are_broken(self, connection: &Connection) -> bool {
        match self {
            Self::Absent => false,
            // So does one that could not open the file for writing.
            Self::AreReadOnly => connection.is_readonly(MAIN_DB).unwrap_or(true) && is_given_up(connection),
            Self::Read(before) => page_cache::pages_read(connection) != before && is_given_up(connection),
        }
    }
}

/// The error of such a statement.
#[cold]
pub(crate) fn broken() -> Error {
    let message = "a page does not bear the seal of its key".to_owned();
    classify(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(message)))
}

/// Whether SQLCipher has given the connection up. The answer is made while the question is prepared, so it is always
/// prepared anew.
pub(crate) fn is_given_up(connection: &Connection) -> bool {
    let status = connection.query_row("PRAGMA cipher_status", (), |row| row.get::<_, String>(0));
    status.is_ok_and(|status| status == "0")
}
