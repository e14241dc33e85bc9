//! A table of the new file, and how records of the old one become its rows.

use std::collections::HashMap;

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, ErrorCode, params_from_iter};

use crate::error::Result;
use crate::sqlcipher::copies::rows::quoted;
use crate::sqlcipher::errors::classify;

/// A generated column that is not stored.
const VIRTUAL: i64 = 2;
/// A generated column that is.
const STORED: i64 = 3;

/// A column, in the order of the records.
#[derive(Debug)]
struct RecordField {
    name: String,
    is_generated: bool,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) has_rowids: bool,
    fields: Vec<RecordField>,
    /// What the rowid is called, and which field is another name of it.
    rowid: Option<(String, Option<usize>)>,
    /// The statement for records of so many fields.
    statements: HashMap<usize, String>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    Copied,
    /// The table does not take it.
    Refused,
}

struct ColumnInfo {
    cid: i64,
    name: String,
    kind: String,
    key: i64,
    hidden: i64,
}

impl Table {
    /// Reads what was just made.
    pub(super) fn of(connection: &Connection, name: &str) -> Result<Self> {
        Self::find(connection, name).map_err(classify)
    }

    fn find(connection: &Connection, name: &str) -> rusqlite::Result<Self> {
        let mut info =
            connection.prepare("SELECT cid, name, type, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid")?;
        let columns: Vec<ColumnInfo> = info
            .query_map([name], |row| {
                let (cid, name, kind) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(ColumnInfo { cid, name, kind, key: row.get(3)?, hidden: row.get(4)? })
            })?
            .collect::<rusqlite::Result<_>>()?;
        let without = "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE";
        let has_rowids = !connection.query_row(without, [name], |row| row.get::<_, bool>(0))?;
        let key = "SELECT name FROM pragma_index_list(?1) WHERE origin = 'pk'";
        let key: Option<String> = connection.prepare(key)?.query_map([name], |row| row.get(0))?.next().transpose()?;
        let order: Vec<i64> = match &key {
            Some(key) if !has_rowids => {
                let mut parts = connection.prepare("SELECT cid FROM pragma_index_xinfo(?1) ORDER BY seqno")?;
                parts.query_map([key], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
            }
            _ => columns.iter().filter(|column| column.hidden != VIRTUAL).map(|column| column.cid).collect(),
        };
        let stored: Vec<&ColumnInfo> =
            order.iter().filter_map(|cid| columns.iter().find(|column| column.cid == *cid)).collect();
        // A primary key with an index of its own is no name of the rowid.
        let alias = stored.iter().position(|column| column.key == 1 && column.kind.eq_ignore_ascii_case("INTEGER"));
        let alias = alias.filter(|_| key.is_none() && columns.iter().filter(|column| column.key > 0).count() == 1);
        let is_free = |name: &&str| !columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
        let spare = ["rowid", "_rowid_", "oid"].into_iter().find(is_free).map(str::to_owned);
        let rowid = match alias {
            Some(at) => Some((stored[at].name.clone(), Some(at))),
            None => spare.map(|name| (name, None)),
        };
        let fields = stored
            .iter()
            .map(|column| RecordField { name: column.name.clone(), is_generated: column.hidden == STORED });
        Ok(Self {
            name: name.to_owned(),
            has_rowids,
            fields: fields.collect(),
            rowid: rowid.filter(|_| has_rowids),
            statements: HashMap::new(),
        })
    }

    /// Whether a record of so many fields can be one of its rows. Those of before a column was added are shorter.
    pub(super) fn may_have(&self, fields: usize) -> bool {
        fields <= self.fields.len() && fields > 0
    }

    fn is_bound(&self, at: usize) -> bool {
        let is_alias = matches!(self.rowid, Some((_, Some(alias))) if alias == at);
        !is_alias && !self.fields[at].is_generated
    }

    pub(super) fn place(
        &mut self,
        connection: &Connection,
        rowid: i64,
        values: &[ToSqlOutput<'_>],
    ) -> rusqlite::Result<Placed> {
        if !self.may_have(values.len()) {
            return Ok(Placed::Refused);
        }
        if !self.statements.contains_key(&values.len()) {
            let statement = self.statement(values.len());
            self.statements.insert(values.len(), statement);
        }
        let statement = &self.statements[&values.len()];
        let own = self.rowid.as_ref().map(|_| ToSqlOutput::from(rowid));
        let bound = (0..values.len()).filter(|at| self.is_bound(*at)).map(|at| &values[at]);
        let placed = connection.prepare_cached(statement)?.execute(params_from_iter(own.iter().chain(bound)));
        match placed {
            Ok(_) => Ok(Placed::Copied),
            Err(error) if is_refusal(&error) => Ok(Placed::Refused),
            Err(error) => Err(error),
        }
    }

    fn statement(&self, fields: usize) -> String {
        let bound = (0..fields).filter(|at| self.is_bound(*at)).map(|at| quoted(&self.fields[at].name));
        let names: Vec<String> = self.rowid.iter().map(|(name, _)| quoted(name)).chain(bound).collect();
        let table = quoted(&self.name);
        if names.is_empty() {
            return format!("INSERT INTO main.{table} DEFAULT VALUES");
        }
        let (places, names) = (vec!["?"; names.len()].join(", "), names.join(", "));
        format!("INSERT INTO main.{table} ({names}) VALUES ({places})")
    }
}

/// What says something of the row, and nothing of the new file.
fn is_refusal(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig | ErrorCode::Unknown)
    )
}
