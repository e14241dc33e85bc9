//! Whether the end of a file is missing.
//!
//! SQLite counts a page that is there in part, and with a log it does not look at the size of the file at all: the later
//! pages may legally stand in the log alone. So each page that the file lacks is looked for there.
//!
//! Source: "WAL-mode File Format", section 1 (the log's header and frames).

use std::collections::HashSet;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::location::Location;
use crate::sqlcipher::ffi::header;

/// The log's header, and that of each frame.
const HEADER: usize = 32;
const FRAME: usize = 24;

/// Whether pages are missing from a database that can be read, and stand in no log either.
pub(crate) fn is_cut_off(location: &Location, connection: &Connection) -> rusqlite::Result<bool> {
    // While somebody reads from it, the log does not start over.
    connection.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema")?;
    let missing = lacks_pages(location, connection);
    connection.execute_batch("COMMIT")?;
    missing
}

fn lacks_pages(location: &Location, connection: &Connection) -> rusqlite::Result<bool> {
    let ask = |pragma: &str| {
        connection.query_row(&format!("PRAGMA {pragma}"), (), |row| match row.get_ref(0)? {
            // SQLCipher answers for the size of its pages, in text.
            ValueRef::Text(digits) => {
                Ok(str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0))
            }
            number => Ok(number.as_i64()?),
        })
    };
    let (size, pages) = (ask("page_size")?, ask("page_count")?);
    let whole = location.len().and_then(|len| i64::try_from(len).ok()?.checked_div(size));
    let Some(whole) = whole.filter(|whole| *whole < pages) else { return Ok(false) };
    let in_log = pages_in_log(connection, size)?;
    Ok((whole + 1..=pages).any(|page| !in_log.contains(&page)))
}

fn pages_in_log(connection: &Connection, size: i64) -> rusqlite::Result<HashSet<i64>> {
    let mut found = HashSet::new();
    let mut start = [0; HEADER];
    if !header::read_log_at(connection, 0, &mut start)? {
        return Ok(found);
    }
    let mut frame = [0; FRAME];
    let mut at = 32;
    // Frames of an earlier round of the log have another salt.
    while header::read_log_at(connection, at, &mut frame)? && frame[8..16] == start[16..24] {
        let [a, b, c, d, ..] = frame;
        found.insert(i64::from(u32::from_be_bytes([a, b, c, d])));
        at += 24 + size;
    }
    Ok(found)
}
