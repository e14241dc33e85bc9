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

use super::subject::Subject;
use super::telling::TELLING;
use crate::connector::{StatementKind, StatementSummary};
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

const WRITES: u32 = 1;
/// Alters the session.
const ALTERS: u32 = 1 << 1;
const ALONE: u32 = 1 << 2;
const CHANGES_ROWS: u32 = 1 << 3;
const INSERTS: u32 = 1 << 4;
const TRANSACTION: u32 = 1 << 5;
const REFUSED_KEY: u32 = 1 << 6;
const REFUSED_ATTACH: u32 = 1 << 7;
const REFUSED_EXTENSION: u32 = 1 << 8;
const ANYTHING: u32 = 1 << 9;
const USER_FUNCTION: u32 = 1 << 10;
const DEFINES: u32 = 1 << 11;
const REFUSED_TEMPORARY: u32 = 1 << 12;
const REFUSED_IN_MEMORY: u32 = 1 << 13;
/// Something beside inserting into a table.
const MORE: u32 = 1 << 14;
/// Updates rows, beside what triggers do.
const UPDATES: u32 = 1 << 15;
/// Sets what ends with the transaction.
const BOUNDED: u32 = 1 << 16;
const FOREIGN_KEYS: u32 = 1 << 17;
/// Calls `last_insert_rowid`, itself or in a trigger.
const LAST_ID: u32 = 1 << 18;
/// Asks what earlier statements of the connection did or saw; the second, in a trigger or a view.
const REMEMBERS: u32 = 1 << 19;
const REMEMBERS_WITHIN: u32 = 1 << 23;
const REFUSED_PROCESS: u32 = 1 << 20;
/// Copies the database into another file.
const INTO: u32 = 1 << 21;
/// Writes, and not only temporary data.
const PERSISTS: u32 = 1 << 22;
const CONTROLS: u32 = ALTERS | TRANSACTION;
const REFUSED: u32 =
    REFUSED_KEY | REFUSED_ATTACH | REFUSED_EXTENSION | REFUSED_TEMPORARY | REFUSED_IN_MEMORY | REFUSED_PROCESS;

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
    /// Which tables are touched, for those who listen.
    pub(crate) notes: Notes,
    /// SQLite's own functions; all others may do anything outside of the database.
    built_in: Arc<HashSet<String>>,
}

/// What one statement does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen(u32);

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
            mode if mode == Mode::Guarded as u8 => REFUSED | CONTROLS | BOUNDED,
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

impl Seen {
    /// The kind of a statement of which the authorizer saw this, and which SQLite calls read-only or not.
    pub(crate) fn kind(self, readonly: bool) -> StatementKind {
        let has = |flag| self.0 & flag != 0;
        if has(CONTROLS) {
            StatementKind::Control
        } else if has(ALONE) {
            StatementKind::OutsideTransaction
        } else if has(WRITES | BOUNDED) || !readonly {
            StatementKind::Write
        } else {
            StatementKind::Read
        }
    }

    /// Whether a statement that SQLite calls read-only or not changes what is stored. To prepare one that reads may
    /// prepare others that write, as virtual tables do; a pragma that tells of the journal counts as writing.
    pub(crate) fn writes(self, readonly: bool) -> bool {
        let has = |flag| self.0 & flag != 0;
        let only_asks = self.0 == ANYTHING;
        let only_temporary = has(WRITES) && !has(PERSISTS);
        has(ALONE) || !(readonly || only_asks || only_temporary)
    }

    /// Whether it alters the session beyond beginning and ending transactions.
    pub(crate) fn alters_session(self) -> bool {
        self.0 & ALTERS != 0
    }

    /// The same of a statement that is only explained.
    pub(crate) fn without_changes(self) -> Self {
        Self(self.0 & !(CHANGES_ROWS | INSERTS | DEFINES | REMEMBERS | REMEMBERS_WITHIN))
    }

    /// Whether it needs somebody who holds the connection, or an open transaction.
    #[inline]
    pub(crate) fn needs_holder(self) -> bool {
        self.is_bounded() || self.remembers()
    }

    /// Whether it sets something that ends with the transaction.
    pub(crate) fn is_bounded(self) -> bool {
        self.0 & BOUNDED != 0
    }

    /// Whether it switches foreign keys, which SQLite ignores inside a transaction.
    pub(crate) fn sets_foreign_keys(self) -> bool {
        self.0 & FOREIGN_KEYS != 0
    }

    /// Whether it asks what the connection did before, and not in a trigger that it may fire: only a holder knows that.
    pub(crate) fn remembers(self) -> bool {
        self.0 & REMEMBERS != 0 || self.0 & (REMEMBERS_WITHIN | WRITES) == REMEMBERS_WITHIN
    }

    /// Whether it copies the database into another file.
    pub(crate) fn copies_into_file(self) -> bool {
        self.0 & INTO != 0
    }

    /// The same of a statement that may change the schema.
    pub(crate) fn as_defining(self) -> Self {
        Self(self.0 | DEFINES)
    }

    /// Whether it changes the schema.
    pub(crate) fn defines(self) -> bool {
        self.0 & DEFINES != 0
    }

    /// Whether it calls `last_insert_rowid`.
    pub(crate) fn asks_last_id(self) -> bool {
        self.0 & LAST_ID != 0
    }

    /// Whether it updates rows, be it instead of inserting them.
    pub(crate) fn updates(self) -> bool {
        self.0 & UPDATES != 0
    }

    /// Whether it changes rows of the user's tables. Dropping a table announces the end of its rows too, but SQLite
    /// does not count them.
    pub(crate) fn changes_rows(self) -> bool {
        self.0 & (CHANGES_ROWS | DEFINES) == CHANGES_ROWS
    }

    /// Whether all it does is to insert given values into a table: no query, no trigger, no function, so that the work is
    /// bounded by the table's indexes.
    pub(crate) fn only_inserts(self) -> bool {
        self.0 & (INSERTS | MORE) == INSERTS
    }

    /// Whether it inserts into them.
    pub(crate) fn inserts(self) -> bool {
        self.0 & INSERTS != 0
    }

    /// Whether it calls functions that the user registered.
    pub(crate) fn calls_user_functions(self) -> bool {
        self.0 & USER_FUNCTION != 0
    }

    /// Whether the authorizer was asked at all.
    pub(crate) fn anything(self) -> bool {
        self.0 & ANYTHING != 0
    }

    /// Why it was refused, with the way out.
    pub(crate) fn refusal(self) -> Option<(&'static str, &'static str)> {
        let has = |flag| self.0 & flag != 0;
        if has(REFUSED_KEY) {
            let way = "give the key to the builder with .key(), and settings of old files with .cipher_compatibility(); \
                       rekey() changes the key";
            Some(("key and cipher settings cannot be set by SQL", way))
        } else if has(REFUSED_ATTACH) {
            let way = "open the other file as a database of its own";
            Some(("a file attached to an encrypted database could be plaintext", way))
        } else if has(REFUSED_TEMPORARY) {
            Some(("temporary files are not encrypted", "leave temp_store at MEMORY"))
        } else if has(REFUSED_IN_MEMORY) {
            let way = "copy it into a connection of your own with rusqlite's backup, in interact()";
            Some(("what a database in memory attaches or copies would be in memory too", way))
        } else if has(REFUSED_PROCESS) {
            let way = "set it before, on a rusqlite connection of your own";
            Some(("this pragma sets something for the whole process", way))
        } else if has(REFUSED_EXTENSION) {
            Some(("extensions cannot be loaded by SQL", "register functions in the on_connect hook"))
        } else {
            None
        }
    }
}
