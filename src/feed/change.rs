//! One commit, or several merged into one, as listeners are told of it.

use std::sync::Arc;

/// So many rows are told one by one in an event; of more, only their number.
const MOST_ROWS: usize = 1 << 16;

/// What was committed; see [`AsyncDatabase::changes`](crate::AsyncDatabase::changes).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Numbers the commits of this database from 1 on, in their order, as far as they changed anything. Of merged ones it is the
    /// number of the last.
    pub sequence: u64,
    /// How many commits this tells of: more than 1 if the listener was slow and they were merged, 0 for more of the commit
    /// before. Nothing was missed if `sequence` is that of the event before plus this.
    pub commits: u64,
    /// The tables that changed, each once, in the order of their first change.
    pub tables: Vec<TableChange>,
    /// A table, view, index or trigger was made, altered or dropped.
    pub schema: bool,
    /// Beside what `tables` says, something was committed of which the tables are not known, or may have been: by another
    /// process, past SQL, or while the way to the server was broken. Any table may have changed.
    pub unattributed: bool,
}

/// What happened in one table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableChange {
    /// Its name, as it was created; in PostgreSQL after its schema and a dot, unless that is `public`.
    pub table: Arc<str>,
    /// Rows that were inserted; one that replaced another (`INSERT OR REPLACE`) counts as inserted only.
    pub inserted: u64,
    /// Rows that were updated.
    pub updated: u64,
    /// Rows that were deleted.
    pub deleted: u64,
    /// Whether the counts are right. If not, the table changed or may have changed, and the counts are what is known of it:
    /// virtual tables tell no rows, and what cannot be taken off is what a closure on the raw connection undid by a savepoint, and
    /// what a set of parameters did before it failed, if the sets before it were committed all the same.
    pub exact: bool,
    /// The rows one by one, in the order in which they changed, if the listener asked for them; `None` if it did not, if they
    /// are too many (more than 65,536), and for tables without a rowid (PostgreSQL: without a key that is one integer).
    pub rows: Option<Vec<RowChange>>,
}

/// What happened to one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RowChange {
    /// What was done.
    pub kind: ChangeKind,
    /// The row's identity; of an update that changed it, the new one.
    pub row_id: i64,
}

/// What is done to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// A row was inserted.
    Insert,
    /// A row was updated.
    Update,
    /// A row was deleted.
    Delete,
}

impl Change {
    /// Whether the listener was slow, and this tells of more than one commit.
    pub fn is_merged(&self) -> bool {
        self.commits > 1
    }

    /// What is known of a table; its name as it is, or else in any case.
    pub fn table(&self, name: &str) -> Option<&TableChange> {
        let exact = self.tables.iter().find(|change| *change.table == *name);
        exact.or_else(|| self.tables.iter().find(|change| change.table.eq_ignore_ascii_case(name)))
    }

    /// Whether a table has changed, or may have.
    pub fn touches(&self, table: &str) -> bool {
        self.unattributed || self.table(table).is_some()
    }

    /// Whether it tells of nothing.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && !self.schema && !self.unattributed
    }

    /// The entry of a table, made if there is none; for engines.
    pub fn entry(&mut self, table: &str) -> &mut TableChange {
        let found = self.tables.iter().rposition(|change| *change.table == *table).unwrap_or_else(|| {
            self.tables.push(TableChange::new(table));
            self.tables.len() - 1
        });
        &mut self.tables[found]
    }

    /// Adds what came later.
    pub(crate) fn merge(&mut self, later: &Self) {
        self.sequence = later.sequence;
        self.commits += later.commits;
        self.schema |= later.schema;
        self.unattributed |= later.unattributed;
        for change in &later.tables {
            match self.tables.iter_mut().find(|known| known.table == change.table) {
                Some(known) => known.merge(change),
                None => self.tables.push(change.clone()),
            }
        }
    }

    /// Adds what came later, for engines: the tables move, where there are none yet.
    pub fn absorb(&mut self, mut later: Self) {
        if self.tables.is_empty() {
            std::mem::swap(&mut self.tables, &mut later.tables);
        }
        self.merge(&later);
    }

    /// The same without the rows one by one.
    pub(crate) fn without_rows(&self) -> Self {
        let mut change = self.clone();
        change.tables.iter_mut().for_each(|table| table.rows = None);
        change
    }
}

impl TableChange {
    /// A table that did not change yet.
    pub fn new(table: impl Into<Arc<str>>) -> Self {
        Self { table: table.into(), inserted: 0, updated: 0, deleted: 0, exact: true, rows: None }
    }

    /// How many rows changed in any way.
    pub fn rows_changed(&self) -> u64 {
        self.inserted + self.updated + self.deleted
    }

    /// Counts rows that are not told one by one; for engines.
    pub fn count(&mut self, kind: ChangeKind, rows: u64) {
        *match kind {
            ChangeKind::Insert => &mut self.inserted,
            ChangeKind::Update => &mut self.updated,
            ChangeKind::Delete => &mut self.deleted,
        } += rows;
    }

    /// Tells of one row, and counts it; for engines.
    pub fn row(&mut self, kind: ChangeKind, row_id: i64) {
        let before = self.rows_changed();
        self.count(kind, 1);
        if before == 0 && self.exact {
            self.rows = Some(Vec::new());
        }
        if let Some(rows) = &mut self.rows {
            if rows.len() < MOST_ROWS {
                rows.push(RowChange { kind, row_id });
            } else {
                self.rows = None;
            }
        }
    }

    pub(crate) fn merge(&mut self, later: &Self) {
        let was_empty = self.rows_changed() == 0 && self.exact;
        self.inserted += later.inserted;
        self.updated += later.updated;
        self.deleted += later.deleted;
        self.exact &= later.exact;
        self.rows = match (self.rows.take(), &later.rows) {
            (Some(mut rows), Some(more)) if rows.len() + more.len() <= MOST_ROWS => {
                rows.extend_from_slice(more);
                Some(rows)
            }
            (None, Some(more)) if was_empty => Some(more.clone()),
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(table: &str, sequence: u64, rows: &[(ChangeKind, i64)]) -> Change {
        let mut change = Change { sequence, commits: 1, ..Change::default() };
        for (kind, row) in rows {
            change.entry(table).row(*kind, *row);
        }
        change
    }

    #[test]
    fn merging_adds_up_by_table_and_keeps_the_rows_in_order() {
        let mut all = of("a", 1, &[(ChangeKind::Insert, 1)]);
        all.merge(&of("b", 2, &[(ChangeKind::Delete, 7)]));
        all.merge(&of("a", 3, &[(ChangeKind::Update, 1), (ChangeKind::Delete, 1)]));
        assert_eq!((all.sequence, all.commits, all.tables.len()), (3, 3, 2));
        let a = all.table("A").unwrap();
        assert_eq!((a.inserted, a.updated, a.deleted), (1, 1, 1));
        let kinds: Vec<_> = a.rows.as_ref().unwrap().iter().map(|row| row.kind).collect();
        assert_eq!(kinds, [ChangeKind::Insert, ChangeKind::Update, ChangeKind::Delete]);
    }

    #[test]
    fn of_too_many_rows_only_the_number_is_told() {
        let mut change = Change::default();
        let row = |change: &mut Change, number| change.entry("t").row(ChangeKind::Insert, number);
        (0..1 << 16).for_each(|number| row(&mut change, number));
        assert_eq!(change.table("t").unwrap().rows.as_ref().unwrap().len(), 1 << 16);
        row(&mut change, 0);
        row(&mut change, 0);
        let told = change.table("t").unwrap();
        assert_eq!((told.inserted, told.rows.is_none()), ((1 << 16) + 2, true));
    }
}
