//! What statements touch that stay prepared: the authorizer is asked of each only when it is prepared.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;

use super::kinds::{Kind, Kinds, may_be_shadow};
use super::touched::{Ran, Touched};
use crate::sqlcipher::statement::watch::{Mode, Watch};

/// So many are remembered: as many as there are plans.
const STATEMENTS: usize = 512;

/// What each touches, by the text that it was prepared from.
#[derive(Debug, Default)]
pub(super) struct PreparedTouches(HashMap<Box<str>, Arc<Touched>, foldhash::fast::RandomState>);

impl PreparedTouches {
    /// Has the authorizer asked again of all of them.
    pub(super) fn forget(&mut self, connection: &Connection) {
        self.0.clear();
        connection.flush_prepared_statement_cache();
    }

    /// What has run touches: as it was seen now, or when it was prepared.
    pub(super) fn touched(
        &mut self,
        kinds: &mut Kinds,
        connection: &Connection,
        watch: &Watch,
        ran: Ran<'_>,
    ) -> Arc<Touched> {
        let mut touched = watch.notes.take().unwrap_or_default();
        let sql = match ran {
            Ran::Closure => return Arc::new(touched),
            Ran::Statement(sql) | Ran::Sets(sql) | Ran::Once(sql) => sql,
        };
        only_named(&mut touched, sql, kinds, connection, watch);
        if matches!(ran, Ran::Once(_)) {
            return Arc::new(touched);
        }
        if touched.is_empty() {
            return self.0.get(sql).map(Arc::clone).unwrap_or_default();
        }
        if self.0.len() >= STATEMENTS {
            self.forget(connection);
        }
        // A statement that was found prepared may have had others prepared, as virtual tables do.
        if let Some(before) = self.0.get(sql).filter(|_| touched.savepoints.is_empty()) {
            touched.add(before);
        }
        let touched = Arc::new(touched);
        self.0.insert(sql.into(), Arc::clone(&touched));
        touched
    }
}

/// Leaves out the shadow tables that virtual tables have prepared statements of their own for. SQLite takes each table for one
/// that is named so; but what the statement itself names is told. Prepared a second time, it has no others prepared.
fn only_named(touched: &mut Touched, sql: &str, kinds: &mut Kinds, connection: &Connection, watch: &Watch) {
    if !touched.written.iter().any(|written| may_be_shadow(&written.table)) {
        return;
    }
    // The engine's own questions are no work of the statement.
    watch.look(Mode::Running);
    let mut is_shadow =
        |table: &Arc<str>| may_be_shadow(table) && matches!(kinds.of(table, connection), Kind::Shadow(_));
    let (shadows, mut written): (Vec<_>, Vec<_>) =
        std::mem::take(&mut touched.written).into_iter().partition(|written| is_shadow(&written.table));
    if !shadows.is_empty() {
        let ((), named) = watch.notes.tables_of(|| drop(connection.prepare(sql)));
        written.extend(shadows.into_iter().filter(|shadow| named.writes(&shadow.table)));
    }
    touched.written = written;
    watch.notes.take();
}
