//! What a salvage has found, and what not.

use std::time::Duration;

/// What was found in a damaged file, and what was lost; see
/// [`salvage_to`](crate::DatabaseBuilder::salvage_to).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SalvageReport {
    /// The tables that the schema names, in its order.
    pub tables: Vec<SalvagedTable>,
    /// Pages that could not be read, or are not what they should be, by number; the first is 1.
    pub lost_pages: Vec<u32>,
    /// Pages that are missing at the end of the file.
    pub missing_pages: u32,
    /// Pages of the log that counted, or of the journal of a transaction that was cut off.
    pub log_pages: u64,
    /// Whether no page was lost that could have held a part of the schema.
    pub schema_is_whole: bool,
    /// The table with rows that belong to no known table, or that theirs did not take; `None` if there are none.
    pub lost_and_found: Option<String>,
    /// How many rows it has.
    pub lost_and_found_rows: u64,
    /// Rows that were found, but of which a part was lost, so that they were not copied; those of the tables included.
    pub broken_rows: u64,
    /// The indexes that were built anew.
    pub indexes: Vec<String>,
    /// The virtual tables of which the index was built anew, as their own tables had lost something.
    pub rebuilt: Vec<String>,
    /// What the schema names and the new file does not have.
    pub not_made: Vec<NotMade>,
    /// Pages of the new file.
    pub pages: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// How long all of it took.
    pub duration: Duration,
}

/// What was found of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SalvagedTable {
    /// Its name.
    pub name: String,
    /// Rows that were found, whole or not.
    pub found: u64,
    /// Rows that the new table has.
    pub copied: u64,
    /// Rows of which a part was lost.
    pub broken: u64,
    /// How many of its pages the tree led to in vain. What these held, and what was below, was looked for among all pages.
    pub gaps: u64,
}

/// A part of the schema that could not be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotMade {
    /// Its name.
    pub name: String,
    /// What the engine says to it.
    pub why: String,
}

impl SalvageReport {
    /// Whether nothing is known to be lost: the new file holds what the old one held. Where pages have no seals (plain
    /// files, and the format of SQLCipher 1), damage within a value shows nowhere.
    pub fn is_complete(&self) -> bool {
        let whole = |table: &SalvagedTable| table.gaps == 0 && table.found == table.copied;
        self.lost_pages.is_empty()
            && self.missing_pages == 0
            && self.schema_is_whole
            && self.lost_and_found_rows == 0
            && self.broken_rows == 0
            && self.not_made.is_empty()
            && self.tables.iter().all(whole)
    }

    /// Rows of all tables of the new file, but for [`lost_and_found`](Self::lost_and_found).
    pub fn copied(&self) -> u64 {
        self.tables.iter().map(|table| table.copied).sum()
    }
}
