//! What the schema says of a table.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _};

/// How a table tells of its changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Row by row.
    Rows,
    /// By their number.
    WithoutRowid,
    /// Not at all, but for its shadow tables.
    Virtual,
    /// It belongs to a virtual table, if that is known by name.
    Shadow(Option<Arc<str>>),
}

/// Whether a table's name is that of another one, an underscore and more.
pub(super) fn may_be_shadow(table: &str) -> bool {
    table.contains('_')
}

/// The kinds that were asked for since the schema changed last.
#[derive(Debug, Default)]
pub(super) struct Kinds(HashMap<Arc<str>, Kind, foldhash::fast::RandomState>);

impl Kinds {
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    pub(super) fn of(&mut self, table: &Arc<str>, connection: &Connection) -> Kind {
        if let Some(kind) = self.0.get(table) {
            return kind.clone();
        }
        // A table that is gone by now had rows as others do. What a budget cuts off is asked again the next time.
        let Ok(kind) = look_up(connection, table) else { return Kind::Rows };
        let kind = kind.unwrap_or(Kind::Rows);
        self.0.insert(Arc::clone(table), kind.clone());
        kind
    }
}

fn look_up(connection: &Connection, table: &str) -> rusqlite::Result<Option<Kind>> {
    let sql = "SELECT type, wr FROM pragma_table_list(?1) WHERE schema = 'main'";
    let mut list = connection.prepare_cached(sql)?;
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?));
    let found = list.query_row([table], row).optional()?;
    drop(list);
    let Some((kind, without_rowid)) = found else { return Ok(None) };
    Ok(Some(match &*kind {
        "virtual" => Kind::Virtual,
        "shadow" => Kind::Shadow(owner(connection, table)?),
        _ if without_rowid => Kind::WithoutRowid,
        _ => Kind::Rows,
    }))
}

/// The virtual table whose name, and an underscore, a shadow table begins with.
fn owner(connection: &Connection, shadow: &str) -> rusqlite::Result<Option<Arc<str>>> {
    let sql = "SELECT name FROM pragma_table_list
               WHERE schema = 'main' AND type = 'virtual' AND substr(?1, 1, length(name) + 1) = name || '_'
               ORDER BY length(name) DESC LIMIT 1";
    let mut list = connection.prepare_cached(sql)?;
    list.query_row([shadow], |row| row.get::<_, String>(0)).optional().map(|name| name.map(Arc::from))
}
