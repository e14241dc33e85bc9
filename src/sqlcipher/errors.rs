//! SQLite's error codes as this crate's errors.
//!
//! The statement's text is dropped (rusqlite would quote it); SQLite's own message is kept, as it names tables and
//! columns and no values.

use std::io;

use rusqlite::{Connection, ffi};

use super::codes::{self, LOOK_AT_THE_DISK, Meaning};
use super::ffi::system;
use super::os::{TOO_MANY_FILES, has_too_many_files, is_full, is_of_the_disk};
use super::statement::seen::Seen;
use crate::error::{Error, ErrorKind, Phase, Reason};

/// Classifies an error of the engine.
pub(super) fn classify(error: rusqlite::Error) -> Error {
    match error {
        rusqlite::Error::SqliteFailure(code, message) => sqlite(code, message),
        rusqlite::Error::SqlInputError { error, msg, .. } => sqlite(error, Some(msg)),
        rusqlite::Error::MultipleStatement => Error::new(ErrorKind::Query, "the text holds more than one statement")
            .because(Reason::Syntax)
            .hint("run them with execute_script"),
        rusqlite::Error::NulError(_) => {
            Error::new(ErrorKind::Query, "the statement contains a NUL byte").because(Reason::Syntax)
        }
        other => misuse(other),
    }
}

/// What rusqlite itself refused. Said in words of our own: rusqlite's would repeat the source, and quote values.
fn misuse(error: rusqlite::Error) -> Error {
    use rusqlite::Error as Sql;
    let (reason, what) = match &error {
        Sql::QueryReturnedNoRows => (Reason::Unspecified, "the query answered no row".to_owned()),
        Sql::QueryReturnedMoreThanOneRow => (Reason::Unspecified, "the query answered more than one row".into()),
        Sql::ExecuteReturnedResults => (Reason::Unspecified, "execute met a statement that answers rows".into()),
        Sql::StatementChangedRows(count) => (Reason::Unspecified, format!("the statement changed {count} rows")),
        Sql::InvalidQuery => (Reason::Unspecified, "the statement does not read".into()),
        Sql::InvalidColumnIndex(index) => (Reason::NoSuchColumn, format!("there is no column {index}")),
        Sql::InvalidColumnName(name) => (Reason::NoSuchColumn, format!("there is no column \"{name}\"")),
        Sql::InvalidColumnType(_, name, found) => {
            (Reason::Type, format!("column \"{name}\" holds {found}, which does not fit the type asked for"))
        }
        Sql::FromSqlConversionFailure(index, found, _) => {
            (Reason::Type, format!("column {index} holds {found}, which cannot be converted"))
        }
        Sql::IntegralValueOutOfRange(index, _) => {
            (Reason::Type, format!("column {index} holds a number that does not fit"))
        }
        Sql::ToSqlConversionFailure(_) => (Reason::Type, "a parameter cannot be converted".into()),
        Sql::InvalidParameterCount(given, wanted) => {
            (Reason::Parameters, format!("{given} values were given for {wanted} placeholders"))
        }
        Sql::InvalidParameterName(name) => (Reason::Parameters, format!("there is no placeholder {name}")),
        _ => (Reason::Unspecified, "its cause is beneath this error".into()),
    };
    let error =
        Error::new(ErrorKind::Query, format!("the call to rusqlite failed: {what}")).because(reason).caused_by(error);
    match reason {
        Reason::Unspecified if what.ends_with("no row") => error.hint("use rusqlite's optional() where that may be"),
        _ => error,
    }
}

/// The same for a statement that the authorizer may have refused.
pub(super) fn classify_refused(error: rusqlite::Error, seen: Seen) -> Error {
    match seen.refusal() {
        Some((what, way_out)) => Error::new(ErrorKind::Unsupported, what).because(Reason::Control).hint(way_out),
        None if seen.copies_into_file() && is_in_the_way(&error) => {
            Error::new(ErrorKind::Query, "the file that VACUUM INTO would write exists already")
                .because(Reason::Unspecified)
                .hint("delete it, or give the name of a new file")
        }
        None => classify(error),
    }
}

/// Whether VACUUM INTO found its target in use: SQLite says so, unless SQLCipher cannot read what stands there.
fn is_in_the_way(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(code, message) => {
            code.extended_code & 0xFF == ffi::SQLITE_NOTADB
                || message.as_deref().is_some_and(|message| message == "output file already exists")
        }
        _ => false,
    }
}

fn sqlite(code: ffi::Error, message: Option<String>) -> Error {
    let Meaning { kind, reason, transient, hint } = codes::read(code.extended_code);
    let text = message.unwrap_or_else(|| ffi::code_to_str(code.extended_code).to_owned());
    let text = match (kind, reason) {
        // SQLite's own words mean little to those who do not know it.
        (ErrorKind::Cancelled, _) => "the statement was stopped before its end".to_owned(),
        (ErrorKind::Storage, Reason::Damaged) => format!("the file is damaged ({text})"),
        _ => text,
    };
    // "UNIQUE constraint failed: users.name"
    let object = text.rsplit_once(": ").filter(|_| kind == ErrorKind::Constraint).map(|(_, what)| what.to_owned());
    let mut error = Error::new(kind, text).because(reason).with_code(code.extended_code);
    if let Some(object) = object {
        error = error.about(object);
    }
    if let Some(hint) = hint {
        error = error.hint(hint);
    }
    if transient { error.transient() } else { error }
}

/// The first page does not open any more with the key of the connection, which has to be closed.
#[cold]
pub(super) fn another_key() -> Error {
    wrong_now().hint("nothing was done; call again, and the key source is asked for the new key").transient()
}

/// The same for work of several parts, of which something was committed before that: it must not simply be done again.
#[cold]
pub(super) fn another_key_later(error: Error) -> Error {
    if error.reason() != Reason::WrongKey || !error.is_transient() {
        return error;
    }
    wrong_now().hint("what the call had committed before that stays; the next call asks the key source for the new key")
}

fn wrong_now() -> Error {
    let message =
        "the file does not open with its key any more: another process has changed it, or damaged the first page";
    Error::new(ErrorKind::Encryption, message).because(Reason::WrongKey).with_code(ffi::SQLITE_NOTADB)
}

/// Refuses what tells or sets something of a connection, where the next statement may get another connection.
#[cold]
pub(super) fn needs_holder(seen: Seen) -> Error {
    let (what, way_out) = if seen.remembers() {
        (
            "last_insert_rowid(), changes(), total_changes() and PRAGMA data_version tell what one connection did or saw last, \
             and others use it too",
            "take it from the Changes that execute() answers, or use RETURNING; AsyncDatabase::changes() follows commits; in \
             transaction() or on connection() they work",
        )
    } else {
        ("defer_foreign_keys lasts until the end of a transaction, and none is open", "run it in transaction()")
    };
    Error::new(ErrorKind::Unsupported, what).because(Reason::Control).hint(way_out)
}

/// SQLite would ignore it.
#[cold]
pub(super) fn too_late_for_foreign_keys() -> Error {
    Error::new(ErrorKind::Unsupported, "foreign_keys cannot be changed inside a transaction").because(Reason::Control).hint(
        "PRAGMA defer_foreign_keys = ON puts the checks off until the commit; to rebuild a table, take connection() and \
         run PRAGMA foreign_keys = OFF there before BEGIN",
    )
}

/// What a child is told that uses the databases of its parent.
#[cold]
pub(super) fn forked() -> Error {
    Error::new(
        ErrorKind::Connection,
        "this process was forked while databases were open, and only its parent may use them",
    )
    .because(Reason::Forked)
    .hint("fork before any database is opened, or start the child as a program of its own")
}

/// What the system told, where SQLite told less: it calls a read that failed damage, and a table missing if it could not
/// look whether the file has it by now.
pub(super) fn with_the_system(error: Error, connection: &Connection) -> Error {
    if error.reason() == Reason::NotFound
        && let Some(refused) = system::open_failure(connection).and_then(|why| not_opened(&why))
    {
        return refused.caused_by(error);
    }
    let error = with_quota(error, connection);
    let may_hide_it = match error.kind() {
        ErrorKind::Storage => matches!(error.reason(), Reason::Io | Reason::Damaged),
        ErrorKind::Query => error.reason() == Reason::Syntax,
        _ => false,
    };
    let why = if may_hide_it { system::failure(connection) } else { None };
    match why.filter(|why| error.reason() == Reason::Io || is_of_the_disk(why)) {
        Some(why) => failed(&why).caused_by(error),
        None => error,
    }
}

/// A quota that is used up is a full disk. SQLite has it for any write that failed, and does the same about both: what was
/// to be written is undone.
pub(super) fn with_quota(error: Error, connection: &Connection) -> Error {
    let may_be_one = error.kind() == ErrorKind::Storage && error.reason() == Reason::Io;
    if !may_be_one || system::last_code(connection) != ffi::SQLITE_IOERR_WRITE {
        return error;
    }
    match system::failure(connection).filter(is_full) {
        Some(why) => full(&why).caused_by(error),
        None => error,
    }
}

pub(super) fn full(why: &io::Error) -> Error {
    Error::new(ErrorKind::Storage, format!("the disk is full: {why}"))
        .because(Reason::DiskFull)
        .hint("free space, or have the quota raised; nothing was lost")
}

/// SQLite has one code for every file that it cannot open; what the system says is another thing than a missing file.
fn not_opened(why: &io::Error) -> Option<Error> {
    let (reason, hint) = match why.kind() {
        _ if has_too_many_files(why) => (Reason::TooManyOpenFiles, TOO_MANY_FILES),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (Reason::NotPermitted, "the process needs to create and write the file")
        }
        _ if is_of_the_disk(why) => return Some(failed(why)),
        _ => return None,
    };
    Some(Error::new(ErrorKind::Connection, format!("a file could not be opened: {why}")).because(reason).hint(hint))
}

pub(super) fn failed(why: &io::Error) -> Error {
    Error::new(ErrorKind::Storage, format!("the disk failed: {why}")).because(Reason::Io).hint(LOOK_AT_THE_DISK)
}

/// Whether a connection that answered this must not be used again.
pub(super) fn poisons(error: &Error) -> bool {
    spoils(error.reason())
}

fn spoils(reason: Reason) -> bool {
    matches!(reason, Reason::Damaged | Reason::Io | Reason::Moved | Reason::WrongKey)
}

/// Whether the disk has failed under a connection, or its last call met what spoils it, whatever its caller made of that.
pub(super) fn has_met_a_failure(connection: &Connection) -> bool {
    let last = codes::read(system::last_code(connection));
    spoils(last.reason) || failure_of_the_disk(connection).is_some()
}

/// With what the disk has failed under a connection, whatever its user made of that.
pub(super) fn failure_of_the_disk(connection: &Connection) -> Option<io::Error> {
    system::failure(connection).filter(is_of_the_disk)
}

/// An I/O error of a call in which a commit had begun to write, or had not.
pub(super) fn in_commit(error: Error, begun: bool, connection: &Connection) -> Error {
    let error = with_quota(error, connection);
    if begun && error.kind() == ErrorKind::Storage && matches!(error.reason(), Reason::Io | Reason::TooLarge) {
        return Error::new(
            ErrorKind::OutcomeUnknown,
            "the commit failed while writing; it may or may not have happened",
        )
        .because(error.reason())
        .hint("look in the database before trying again")
        .during(Phase::Commit)
        .caused_by(error);
    }
    error
}

/// Whether a sync failed, of whichever file.
pub(super) fn is_failed_sync(error: &Error) -> bool {
    error.code().is_some_and(|code| code.parse() == Ok(ffi::SQLITE_IOERR_FSYNC))
}

/// Whether a commit can fail like this; of statements that nobody watched one by one.
pub(super) fn may_come_from_a_commit(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map_or(0, |error| error.extended_code);
    let only_reads =
        [ffi::SQLITE_IOERR_READ, ffi::SQLITE_IOERR_SHORT_READ, ffi::SQLITE_IOERR_FSTAT, ffi::SQLITE_IOERR_LOCK];
    !only_reads.contains(&code)
}
