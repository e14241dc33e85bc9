//! What the authorizer saw of one statement, and what follows from that.

use crate::connector::StatementKind;

pub(super) const WRITES: u32 = 1;
/// Alters the session.
pub(super) const ALTERS: u32 = 1 << 1;
pub(super) const ALONE: u32 = 1 << 2;
pub(super) const CHANGES_ROWS: u32 = 1 << 3;
pub(super) const INSERTS: u32 = 1 << 4;
pub(super) const TRANSACTION: u32 = 1 << 5;
pub(super) const REFUSED_KEY: u32 = 1 << 6;
pub(super) const REFUSED_ATTACH: u32 = 1 << 7;
pub(super) const REFUSED_EXTENSION: u32 = 1 << 8;
pub(super) const ANYTHING: u32 = 1 << 9;
pub(super) const USER_FUNCTION: u32 = 1 << 10;
pub(super) const DEFINES: u32 = 1 << 11;
pub(super) const REFUSED_TEMPORARY: u32 = 1 << 12;
pub(super) const REFUSED_IN_MEMORY: u32 = 1 << 13;
/// Something beside inserting into a table.
pub(super) const MORE: u32 = 1 << 14;
/// Updates rows, beside what triggers do.
pub(super) const UPDATES: u32 = 1 << 15;
/// Sets what ends with the transaction.
pub(super) const BOUNDED: u32 = 1 << 16;
pub(super) const FOREIGN_KEYS: u32 = 1 << 17;
/// Calls `last_insert_rowid`, itself or in a trigger.
pub(super) const LAST_ID: u32 = 1 << 18;
/// Asks what earlier statements of the connection did or saw; the second, in a trigger or a view.
pub(super) const REMEMBERS: u32 = 1 << 19;
pub(super) const REMEMBERS_WITHIN: u32 = 1 << 23;
pub(super) const REFUSED_PROCESS: u32 = 1 << 20;
/// Copies the database into another file.
pub(super) const INTO: u32 = 1 << 21;
/// Writes, and not only temporary data.
pub(super) const PERSISTS: u32 = 1 << 22;
/// Reads the whole file while it is prepared, and cannot be stopped.
pub(super) const WALKS: u32 = 1 << 24;
pub(super) const CONTROLS: u32 = ALTERS | TRANSACTION;
pub(super) const REFUSED: u32 =
    REFUSED_KEY | REFUSED_ATTACH | REFUSED_EXTENSION | REFUSED_TEMPORARY | REFUSED_IN_MEMORY | REFUSED_PROCESS;

/// What one statement does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen(pub(super) u32);

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

    /// Whether it needs a held connection, or an open transaction.
    #[inline]
    pub(crate) fn needs_holder(self) -> bool {
        self.is_bounded() || self.remembers()
    }

    /// Whether it reads the whole file while it is prepared.
    pub(crate) fn walks(self) -> bool {
        self.0 & WALKS != 0
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
