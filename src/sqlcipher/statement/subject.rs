//! What a statement does, in a few words, as the authorizer sees it: the operation, and the table if it is one.

use std::sync::Arc;

use rusqlite::hooks::{AuthAction, AuthContext};

use crate::connector::StatementSummary;

/// What was seen of the statement that is being prepared. Of several actions, the one of the highest rank says what it is: an
/// insert reads too. Of statements that alter the schema nothing is kept, so nothing is told.
#[derive(Debug, Default)]
pub(super) struct Subject {
    rank: u8,
    operation: &'static str,
    table: Option<String>,
    /// It reads from more than one.
    several: bool,
}

const READS: u8 = 1;
const WRITES: u8 = 2;
const ALONE: u8 = 3;

impl Subject {
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    pub(super) fn summary(&self) -> Option<StatementSummary> {
        let table = self.table.as_deref().filter(|_| !self.several).map(Arc::from);
        (self.rank > 0).then(|| StatementSummary::new(self.operation, table))
    }

    /// Looks at what the authorizer is asked about. What a trigger does is not what the statement says; what a view or a named
    /// subquery reads, it reads.
    pub(super) fn see(&mut self, context: &AuthContext<'_>) {
        match context.action {
            AuthAction::Read { table_name, .. } if self.rank <= READS => self.reads(table_name),
            _ if context.accessor.is_some() => {}
            AuthAction::Select => self.is(READS, "SELECT", None),
            AuthAction::Insert { table_name } => self.writes("INSERT", table_name),
            AuthAction::Update { table_name, .. } => self.writes("UPDATE", table_name),
            AuthAction::Delete { table_name } => self.writes("DELETE", table_name),
            AuthAction::Pragma { .. } => self.is(ALONE, "PRAGMA", None),
            _ => {}
        }
    }

    fn is(&mut self, rank: u8, operation: &'static str, table: Option<&str>) {
        if rank > self.rank {
            *self = Self { rank, operation, table: table.map(str::to_owned), several: false };
        }
    }

    fn reads(&mut self, table: &str) {
        self.is(READS, "SELECT", None);
        match &self.table {
            None => self.table = Some(table.to_owned()),
            Some(other) => self.several |= other != table,
        }
    }

    /// SQLite's own tables are written by what alters the schema.
    fn writes(&mut self, operation: &'static str, table: &str) {
        if !table.starts_with("sqlite_") {
            self.is(WRITES, operation, Some(table));
        }
    }
}
