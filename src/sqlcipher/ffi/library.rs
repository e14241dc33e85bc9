//! The SQLite library that the program is linked with, which need not be the one that comes with libsqlite3-sys.

use std::ffi::CStr;
use std::sync::OnceLock;

use rusqlite::ffi;

use super::system;
use crate::error::{Error, ErrorKind, Result};

/// The oldest SQLite with which the tests pass that were tried with it.
const OLDEST: i32 = 3_046_000;

pub(in super::super) const WAY_OUT: &str =
    "install another one, or build without LIBSQLITE3_SYS_USE_PKG_CONFIG, which links the one that comes with rusqlite";

/// Left out of a library that was compiled so. What else SQLite can be compiled without, the linker misses.
const NEEDED: [(&CStr, &str); 3] = [
    (c"OMIT_WAL", "the write-ahead log"),
    (c"OMIT_FOREIGN_KEY", "foreign keys"),
    (c"OMIT_AUTOVACUUM", "incremental vacuum"),
];

/// Refuses a library that is too old, or was compiled without what is relied on. Looks once.
pub(in super::super) fn check() -> Result<()> {
    static FAULT: OnceLock<Option<String>> = OnceLock::new();
    let Some(fault) = FAULT.get_or_init(fault) else { return Ok(()) };
    let message = format!("the SQLite library of this program, {}, {fault}", rusqlite::version());
    Err(Error::new(ErrorKind::Unsupported, message).hint(WAY_OUT))
}

fn fault() -> Option<String> {
    system::start();
    if rusqlite::version_number() < OLDEST {
        return Some("is too old: 3.46.0 is the oldest that works".into());
    }
    // SAFETY: a constant of the library.
    if unsafe { ffi::sqlite3_threadsafe() } == 0 {
        return Some("was compiled for programs of one thread".into());
    }
    let lacks = NEEDED.into_iter().find(|(option, _)| is_compiled_with(option))?;
    Some(format!("was compiled without {}", lacks.1))
}

/// Whether the library was compiled with this option, without `SQLITE_` in front.
pub(in super::super) fn is_compiled_with(option: &CStr) -> bool {
    // SAFETY: the name ends with a NUL byte; it is compared with constants of the library.
    unsafe { ffi::sqlite3_compileoption_used(option.as_ptr()) != 0 }
}
