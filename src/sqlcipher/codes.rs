//! SQLite's result codes, and what each means here.
//!
//! A code that is not in the table means what its primary code (the low byte) means. Sources: "Result and Error Codes" in
//! SQLite's documentation; where it leaves a choice, what was measured.

use rusqlite::ffi;

use crate::error::ErrorKind::{
    Busy, Cancelled, Connection, Constraint, Encryption, Query, Serialization, Storage, Transaction, Unsupported,
};
use crate::error::Reason::{
    Broken, Check, Control, Damaged, DiskFull, Doomed, ForeignKey, Io, Moved, NotADatabase, NotAFile, NotFound,
    NotNull, NotPermitted, NotWritable, Parameters, Syntax, TooLarge, Type, Unique, Unspecified, WrongKey,
};
use crate::error::{ErrorKind, Reason};

/// What a code means.
#[derive(Clone, Copy)]
pub(super) struct Meaning {
    pub(super) kind: ErrorKind,
    pub(super) reason: Reason,
    /// Whether the same call may succeed later.
    pub(super) transient: bool,
    /// What helps.
    pub(super) hint: Option<&'static str>,
}

const fn is(kind: ErrorKind, reason: Reason) -> Meaning {
    Meaning { kind, reason, transient: false, hint: None }
}

const fn passes(kind: ErrorKind, reason: Reason) -> Meaning {
    Meaning { transient: true, ..is(kind, reason) }
}

impl Meaning {
    const fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }
}

pub(super) const LOOK_AT_THE_DISK: &str =
    "look in the system's log for the disk; a limit on the size of files or a lost network drive does this too";

const ANOTHER_PROCESS: &str = "another process holds the file; raise Tuning::busy_timeout if it needs that long";

const STILL_USED: &str = "another statement of this process still uses the table; end it first";

const MISUSED: &str = "this is no error of the database; look at the code in interact() or in the SQL function";

const TABLE: &[(i32, Meaning)] = &[
    (ffi::SQLITE_ERROR, is(Query, Syntax)),
    (ffi::SQLITE_ERROR_SNAPSHOT, passes(Serialization, Unspecified)),
    (ffi::SQLITE_ERROR_KEY, is(Encryption, WrongKey)),
    (ffi::SQLITE_INTERNAL, is(Connection, Broken)),
    (ffi::SQLITE_PERM, is(Connection, NotPermitted)),
    (ffi::SQLITE_ABORT, is(Cancelled, Unspecified).hint("a callback ended the statement")),
    (
        ffi::SQLITE_ABORT_ROLLBACK,
        is(Transaction, Doomed).hint("its transaction was rolled back while the statement ran; run it again in another one"),
    ),
    (ffi::SQLITE_BUSY, passes(Busy, Unspecified).hint(ANOTHER_PROCESS)),
    (ffi::SQLITE_BUSY_SNAPSHOT, passes(Serialization, Unspecified)),
    (ffi::SQLITE_LOCKED, passes(Busy, Unspecified).hint(STILL_USED)),
    (ffi::SQLITE_NOMEM, is(Storage, TooLarge)),
    (
        ffi::SQLITE_READONLY,
        is(Connection, NotWritable).hint(
            "the process needs to write the file and to create files beside it; what was lent for reading cannot write at all",
        ),
    ),
    (
        ffi::SQLITE_READONLY_DBMOVED,
        is(Storage, Moved).hint("the file was moved, replaced or deleted while it was open"),
    ),
    (
        ffi::SQLITE_INTERRUPT,
        is(Cancelled, Unspecified).hint("its caller gave up, or the database was closed meanwhile"),
    ),
    (ffi::SQLITE_IOERR, is(Storage, Io).hint(LOOK_AT_THE_DISK)),
    (ffi::SQLITE_IOERR_NOMEM, is(Storage, TooLarge)),
    (ffi::SQLITE_IOERR_DATA, DAMAGED),
    (ffi::SQLITE_IOERR_BADKEY, is(Encryption, WrongKey)),
    (ffi::SQLITE_CORRUPT, DAMAGED),
    (ffi::SQLITE_CORRUPT_INDEX, is(Storage, Damaged).hint("rebuild the index with REINDEX, and check the file")),
    (ffi::SQLITE_NOTFOUND, is(Unsupported, Unspecified)),
    (ffi::SQLITE_FULL, is(Storage, DiskFull).hint("free space; nothing was lost")),
    (
        ffi::SQLITE_CANTOPEN,
        is(Connection, NotFound).hint("check its directory, and whether the process may create files there"),
    ),
    (ffi::SQLITE_CANTOPEN_ISDIR, is(Connection, NotAFile).hint("give the path of a file")),
    (ffi::SQLITE_CANTOPEN_SYMLINK, is(Connection, NotAFile).hint("give the path that the link leads to")),
    (
        ffi::SQLITE_PROTOCOL,
        passes(Busy, Unspecified).hint("other processes kept changing the locks of the log; try again"),
    ),
    (ffi::SQLITE_EMPTY, is(Storage, NotADatabase)),
    (ffi::SQLITE_SCHEMA, passes(Serialization, Unspecified).hint("the schema changed again and again; try again")),
    (ffi::SQLITE_TOOBIG, is(Query, TooLarge)),
    (ffi::SQLITE_CONSTRAINT, is(Constraint, Unspecified)),
    (ffi::SQLITE_CONSTRAINT_UNIQUE, is(Constraint, Unique)),
    (ffi::SQLITE_CONSTRAINT_PRIMARYKEY, is(Constraint, Unique)),
    (ffi::SQLITE_CONSTRAINT_ROWID, is(Constraint, Unique)),
    (ffi::SQLITE_CONSTRAINT_FOREIGNKEY, is(Constraint, ForeignKey)),
    (ffi::SQLITE_CONSTRAINT_NOTNULL, is(Constraint, NotNull)),
    (ffi::SQLITE_CONSTRAINT_CHECK, is(Constraint, Check)),
    (ffi::SQLITE_CONSTRAINT_DATATYPE, is(Constraint, Type)),
    (ffi::SQLITE_MISMATCH, is(Query, Type)),
    (ffi::SQLITE_MISUSE, is(Query, Unspecified).hint(MISUSED)),
    (ffi::SQLITE_NOLFS, is(Storage, TooLarge).hint("the file system has no larger files")),
    (ffi::SQLITE_AUTH, is(Unsupported, Control)),
    (ffi::SQLITE_FORMAT, is(Storage, NotADatabase)),
    (ffi::SQLITE_RANGE, is(Query, Parameters)),
    (ffi::SQLITE_NOTADB, is(Encryption, WrongKey)),
    // No errors by themselves: somebody took an answer for one.
    (ffi::SQLITE_OK, is(Query, Unspecified).hint(MISUSED)),
    (ffi::SQLITE_NOTICE, is(Query, Unspecified).hint(MISUSED)),
    (ffi::SQLITE_WARNING, is(Query, Unspecified).hint(MISUSED)),
    (ffi::SQLITE_ROW, is(Query, Unspecified).hint(MISUSED)),
    (ffi::SQLITE_DONE, is(Query, Unspecified).hint(MISUSED)),
];

const DAMAGED: Meaning = is(Storage, Damaged)
    .hint("restore it from a backup; rows on other pages can still be read, and salvage_to() takes them out");

/// What an extended code means.
pub(super) fn read(extended: i32) -> Meaning {
    let find = |code| TABLE.iter().find(|(known, _)| *known == code).map(|(_, meaning)| *meaning);
    find(extended).or_else(|| find(extended & 0xFF)).unwrap_or(is(Connection, Unspecified))
}
