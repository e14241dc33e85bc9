//! The table for rows of which it is not known where they belong, or that their table does not take.

use std::fmt::Write as _;

use rusqlite::types::{ToSqlOutput, Value};
use rusqlite::{Connection, params_from_iter};

use crate::error::Result;
use crate::sqlcipher::errors::classify;

/// More columns than this, a table cannot have by default; some are the table's own.
const MOST: usize = 1990;

/// Made when the first row comes, and made wider when one needs it.
#[derive(Debug, Default)]
pub(super) struct LostAndFound {
    pub(super) name: Option<String>,
    pub(super) rows: u64,
    columns: usize,
}

/// Where a row was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The root of its tree, as far as it is known.
    pub(super) root: Option<u32>,
    pub(super) page: u32,
    pub(super) rowid: Option<i64>,
}

impl LostAndFound {
    /// False for a row that has too many fields for any table.
    pub(super) fn take(&mut self, target: &Connection, place: Place, values: &[ToSqlOutput<'_>]) -> Result<bool> {
        if values.len() > MOST {
            return Ok(false);
        }
        self.widen(target, values.len()).map_err(classify)?;
        let name = self.name.as_deref().unwrap_or_default();
        let mut sql = format!("INSERT INTO main.\"{name}\" (rootpgno, pgno, nfield, id");
        for at in 0..values.len() {
            write!(sql, ", c{at}").ok();
        }
        let bound = values.len() + 4;
        write!(sql, ") VALUES ({})", vec!["?"; bound].join(", ")).ok();
        let number = |number: Option<i64>| ToSqlOutput::Owned(number.map_or(Value::Null, Value::Integer));
        let count = i64::try_from(values.len()).unwrap_or(0);
        let own = [place.root.map(i64::from), Some(place.page.into()), Some(count), place.rowid].map(number);
        let mut insert = target.prepare_cached(&sql).map_err(classify)?;
        insert.execute(params_from_iter(own.iter().chain(values))).map_err(classify)?;
        self.rows += 1;
        Ok(true)
    }

    fn widen(&mut self, target: &Connection, columns: usize) -> rusqlite::Result<()> {
        if self.name.is_none() {
            let mut taken = target.prepare("SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE")?;
            let names =
                (0..).map(|at| if at == 0 { "lost_and_found".to_owned() } else { format!("lost_and_found_{at}") });
            for name in names {
                if !taken.exists([&name])? {
                    let columns = "rootpgno INTEGER, pgno INTEGER, nfield INTEGER, id INTEGER";
                    target.execute_batch(&format!("CREATE TABLE main.\"{name}\" ({columns})"))?;
                    self.name = Some(name);
                    break;
                }
            }
        }
        let name = self.name.as_deref().unwrap_or_default();
        for at in self.columns..columns {
            target.execute_batch(&format!("ALTER TABLE main.\"{name}\" ADD COLUMN c{at}"))?;
        }
        self.columns = self.columns.max(columns);
        Ok(())
    }
}
