//! The authorizer: sees what every statement is about to do, refuses what would break a promise, and so tells what
//! kind of statement it is.
//!
//! Many statements that alter a session count as read-only in SQLite (`BEGIN`, `ATTACH`, `PRAGMA foreign_keys=OFF`), and
//! some pragmas act while they are prepared. So classifying prepares in [`Mode::Guarded`], where such statements are
//! denied before they can act.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use rusqlite::ffi;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use super::seen::{
    ALONE, ALTERS, ANYTHING, BOUNDED, CHANGES_ROWS, CONTROLS, DEFINES, FOREIGN_KEYS, INSERTS, INTO, LAST_ID, MORE,
    PERSISTS, REFUSED, REFUSED_ATTACH, REFUSED_EXTENSION, REFUSED_IN_MEMORY, REFUSED_KEY, REFUSED_PROCESS,
    REFUSED_TEMPORARY, REMEMBERS, REMEMBERS_WITHIN, Seen, TRANSACTION, UPDATES, USER_FUNCTION, WALKS, WRITES,
};
use super::subject::Subject;
use super::telling::TELLING;
use crate::connector::StatementSummary;
use crate::lock::Lock;
use crate::sqlcipher::changes::touched::Notes;

/// How much is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    /// Nothing that alters the session or controls a transaction: for classifying.
    Guarded,
    /// The same inside a transaction, where what ends with the transaction is allowed.
    Inside,
    /// The caller owns the session; only what would weaken the encryption is refused.
    Open,
    /// A statement runs; SQLite's own sub-statements (VACUUM attaches a file) pass.
    Running,
}

/// What the authorizer of one connection saw since it was last asked.
///
/// Atomic only because a hook must be `Sync`: the authorizer runs on the thread that prepares, under the engine's lock, which
/// orders all of it. The same is true of its [`Notes`].
#[derive(Debug)]
pub(crate) struct Watch {
    seen: AtomicU32,
    mode: AtomicU8,
    encrypted: bool,
    in_memory: bool,
    /// The table that a statement inserts into, of those that insert.
    target: Lock<String>,
    /// What the statement that is being prepared does, in a few words.
    subject: Lock<Subject>,
    /// Which tables are touched, for listeners.
    pub(crate) notes: Notes,
    /// SQLite's own functions; all others may do anything outside of the database.
    built_in: Arc<HashSet<String>>,
}

impl Watch {
    pub(crate) fn new(encrypted: bool, in_memory: bool, built_in: Arc<HashSet<String>>) -> Self {
        let (seen, mode) = (AtomicU32::new(0), AtomicU8::new(Mode::Open as u8));
        let (target, subject, notes) = (Lock::default(), Lock::default(), Notes::default());
        Self { seen, mode, encrypted, in_memory, target, subject, notes, built_in }
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    pub(crate) fn is_in_memory(&self) -> bool {
        self.in_memory
    }

    /// Starts a new look, under `mode`.
    pub(crate) fn look(&self, mode: Mode) {
        self.seen.store(0, Relaxed);
        self.mode(mode);
    }

    pub(crate) fn mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Relaxed);
    }

    /// What was seen since.
    pub(crate) fn seen(&self) -> Seen {
        Seen(self.seen.load(Relaxed))
    }

    /// The table that the last statement that inserts was prepared for.
    pub(crate) fn target(&self) -> String {
        self.target.lock().clone()
    }

    /// A statement is prepared next of which a [`summary`](Self::summary) is wanted.
    pub(crate) fn look_anew(&self) {
        self.subject.lock().forget();
    }

    /// What the statement does that was prepared since, in a few words.
    pub(crate) fn summary(&self) -> Option<StatementSummary> {
        self.subject.lock().summary()
    }

    /// The authorizer itself.
    pub(crate) fn judge(&self, context: &AuthContext<'_>) -> Authorization {
        if self.mode.load(Relaxed) != Mode::Running as u8 {
            self.subject.lock().see(context);
        }
        let (flags, one_by_one) = (self.flags(context), self.notes.see(context));
        let persists = flags & WRITES != 0 && context.database_name != Some("temp");
        let flags = if persists { flags | PERSISTS } else { flags };
        self.seen.fetch_or(flags | ANYTHING, Relaxed);
        let denied = match self.mode.load(Relaxed) {
            mode if mode == Mode::Guarded as u8 => REFUSED | CONTROLS | BOUNDED | WALKS,
            mode if mode == Mode::Inside as u8 => REFUSED | CONTROLS,
            _ => REFUSED,
        };
        match flags & denied != 0 {
            true => Authorization::Deny,
            false if one_by_one => Authorization::Ignore,
            false => Authorization::Allow,
        }
    }

    fn flags(&self, context: &AuthContext<'_>) -> u32 {
        let temporary = context.database_name == Some("temp");
        match context.action {
            AuthAction::Read { table_name: "pragma_data_version", .. } => MORE | REMEMBERS,
            AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => MORE,
            AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => TRANSACTION,
            AuthAction::Attach { filename } => self.attach(filename),
            // A name that is computed or bound is not told.
            AuthAction::Unknown { code: ffi::SQLITE_ATTACH, .. } => self.attach("?"),
            AuthAction::Unknown { code: ffi::SQLITE_DETACH, .. }
            | AuthAction::Detach { .. }
            | AuthAction::CreateTempIndex { .. }
            | AuthAction::CreateTempTable { .. }
            | AuthAction::CreateTempTrigger { .. }
            | AuthAction::CreateTempView { .. }
            | AuthAction::DropTempIndex { .. }
            | AuthAction::DropTempTable { .. }
            | AuthAction::DropTempTrigger { .. }
            | AuthAction::DropTempView { .. } => ALTERS | WRITES | DEFINES,
            AuthAction::Pragma { pragma_name, pragma_value } => {
                pragma(pragma_name, pragma_value) | self.temporary(pragma_name, pragma_value)
            }
            AuthAction::Function { function_name } => MORE | self.function(function_name, context.accessor.is_none()),
            // What a trigger inserts has no identity that the caller asked for.
            AuthAction::Insert { table_name } if context.accessor.is_none() => {
                table_name.clone_into(&mut self.target.lock());
                INSERTS | rows(table_name, temporary)
            }
            AuthAction::Update { table_name, .. } if context.accessor.is_none() => {
                MORE | UPDATES | rows(table_name, temporary)
            }
            AuthAction::Insert { table_name }
            | AuthAction::Update { table_name, .. }
            | AuthAction::Delete { table_name } => MORE | rows(table_name, temporary),
            _ if temporary => ALTERS | WRITES | DEFINES,
            _ => WRITES | DEFINES,
        }
    }

    /// `outright`: the statement itself calls it, and no trigger or view.
    fn function(&self, name: &str, outright: bool) -> u32 {
        let remembers = if outright { REMEMBERS } else { REMEMBERS_WITHIN };
        match name.to_ascii_lowercase().as_str() {
            "load_extension" => REFUSED_EXTENSION,
            // Copies whole databases; only where the caller owns the session.
            "sqlcipher_export" => ALTERS | WRITES,
            "last_insert_rowid" => LAST_ID | remembers,
            "changes" | "total_changes" => remembers,
            name if self.built_in.contains(name) => 0,
            _ => USER_FUNCTION,
        }
    }

    /// Temporary files are not encrypted, so an encrypted database keeps temporary data in memory.
    fn temporary(&self, pragma: &str, value: Option<&str>) -> u32 {
        let in_memory = |value: &str| value == "2" || value.eq_ignore_ascii_case("memory");
        let spills = pragma.eq_ignore_ascii_case("temp_store") && value.is_some_and(|value| !in_memory(value));
        if self.encrypted && spills { REFUSED_TEMPORARY } else { 0 }
    }

    fn attach(&self, filename: &str) -> u32 {
        let name = filename.to_ascii_lowercase();
        let running = self.mode.load(Relaxed) == Mode::Running as u8;
        if self.in_memory && !name.is_empty() && name != ":memory:" && !name.contains("vfs=") {
            // SQLite would make another database in memory by that name, and write no file.
            ALTERS | REFUSED_IN_MEMORY
        } else if running && !(self.encrypted && name.starts_with("file:")) {
            // VACUUM attaches a file without a name, VACUUM INTO one with a name.
            if name.is_empty() { WRITES } else { WRITES | INTO }
        } else if self.encrypted && !name.is_empty() {
            // Also the target of VACUUM INTO when it is a URI, which can bring another key or none.
            ALTERS | REFUSED_ATTACH
        } else {
            // An empty name is a temporary database; VACUUM inside `interact` attaches one too.
            ALTERS
        }
    }
}

/// A write to a table; SQLite's own tables do not count as rows changed. ALTER TABLE goes through the temporary schema
/// too, in search of triggers and views.
fn rows(table: &str, temporary: bool) -> u32 {
    match (table.starts_with("sqlite_"), temporary) {
        (true, _) => WRITES,
        (false, true) => WRITES | CHANGES_ROWS | ALTERS,
        (false, false) => WRITES | CHANGES_ROWS,
    }
}

fn pragma(name: &str, value: Option<&str>) -> u32 {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        telling if TELLING.contains(&telling) => 0,
        "cipher_integrity_check" => WALKS,
        // Two readers say different things of one state.
        "data_version" => REMEMBERS,
        "key" | "rekey" | "hexkey" | "hexrekey" | "textkey" | "textrekey" => ALTERS | REFUSED_KEY,
        cipher if cipher.starts_with("cipher") => ALTERS | REFUSED_KEY,
        // Process-wide, and SQLite sets them while it prepares: closing the connection would not take them back.
        "soft_heap_limit" | "hard_heap_limit" | "temp_store_directory" | "data_store_directory" if value.is_some() => {
            ALTERS | REFUSED_PROCESS
        }
        "defer_foreign_keys" if value.is_some() => BOUNDED,
        "foreign_keys" if value.is_some() => ALTERS | FOREIGN_KEYS,
        "user_version" | "application_id" if value.is_some() => WRITES,
        "incremental_vacuum" => WRITES,
        "optimize" | "wal_checkpoint" => WRITES | ALONE,
        _ if value.is_some() => ALTERS,
        _ => 0,
    }
}
