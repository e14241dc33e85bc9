//! What a caller of rusqlite can set on a connection without a statement.
//!
//! Switches and limits are asked by number, as rusqlite names only those that its own build knows of. The library answers
//! an error to a switch, and -1 to a limit, that it does not have.

use std::ffi::c_int;

use rusqlite::{Connection, ffi};

/// The switches that are set by a number and tell it: from `SQLITE_DBCONFIG_ENABLE_FKEY` to `SQLITE_DBCONFIG_FP_DIGITS` (3.53).
/// What a later one takes is not known.
const SWITCHES: std::ops::RangeInclusive<c_int> = 1002..=1023;

/// More than there are.
const LIMITS: std::ops::Range<c_int> = 0..32;

/// All switches and limits as they are now.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Switches {
    switches: Vec<Option<c_int>>,
    limits: Vec<c_int>,
}

impl Switches {
    pub(in super::super) fn of(connection: &Connection) -> Self {
        let switch = |number| {
            let mut now: c_int = 0;
            // SAFETY: the handle is valid while `connection` is borrowed. Each of these switches takes a number, of which a
            // negative one changes nothing, and a place for the answer. Source: `sqlite3_db_config` in `main.c`.
            let code = unsafe { ffi::sqlite3_db_config(connection.handle(), number, -1, &raw mut now) };
            (code == ffi::SQLITE_OK).then_some(now)
        };
        // SAFETY: as above; a negative value changes nothing, and a number out of range is answered by -1.
        let limit = |number| unsafe { ffi::sqlite3_limit(connection.handle(), number, -1) };
        Self { switches: SWITCHES.map(switch).collect(), limits: LIMITS.map(limit).collect() }
    }
}
