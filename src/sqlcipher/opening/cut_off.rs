//! Whether the end of a file is missing.
//!
//! SQLite counts a page that is there in part, and with a log it does not look at the size of the file at all: the later
//! pages may legally stand in the log alone. So each page that the file lacks is looked for there.

use std::collections::HashMap;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::location::Location;
use super::log_pages;

/// Whether pages are missing from a database that can be read, and stand in no log either.
pub(crate) fn is_cut_off(location: &Location, connection: &Connection) -> rusqlite::Result<bool> {
    // While somebody reads from it, the log does not start over.
    connection.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema")?;
    let missing = lacks_pages(location, connection);
    connection.execute_batch("COMMIT")?;
    missing
}

/// What a pragma says that answers with a number.
fn ask(connection: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA {pragma}"), (), |row| match row.get_ref(0)? {
        // SQLCipher answers for the size of its pages, in text.
        ValueRef::Text(digits) => Ok(str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)),
        number => Ok(number.as_i64()?),
    })
}

fn lacks_pages(location: &Location, connection: &Connection) -> rusqlite::Result<bool> {
    let (size, pages) = (ask(connection, "page_size")?, ask(connection, "page_count")?);
    let whole = location.len().and_then(|len| i64::try_from(len).ok()?.checked_div(size));
    let Some(whole) = whole.filter(|whole| *whole < pages) else { return Ok(false) };
    let in_log = newer_pages(connection)?;
    Ok((whole + 1..=pages).any(|page| u32::try_from(page).is_ok_and(|page| !in_log.contains_key(&page))))
}

/// The pages that stand in the log, of which the file may have older ones.
pub(crate) fn newer_pages(connection: &Connection) -> rusqlite::Result<HashMap<u32, i64>> {
    log_pages::committed(connection, usize::try_from(ask(connection, "page_size")?).unwrap_or(0))
}
