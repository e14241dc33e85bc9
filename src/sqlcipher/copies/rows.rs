//! Copying row by row, between a file that is encrypted and one that is not.
//!
//! SQLCipher's own `sqlcipher_export` loses the rowids of some tables, the version of the user, the id of the application
//! and the mode of vacuum, and stops at generated columns. This goes the way of `VACUUM`: tables are made and filled, with
//! their rowids and without their triggers; then come the indexes; and what has no pages of its own (views, triggers,
//! virtual tables) is written into the schema as text.
//!
//! Source: `sqlite3RunVacuum` in `vacuum.c`.

use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::quality::FixedState;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, params_from_iter};

use super::watcher::Watcher;
use crate::connector::BackupStage;
use crate::error::{Error, ErrorKind, Result};
use crate::sqlcipher::errors::classify;

/// How many rows are copied between two looks at whether to stop.
const AT_A_TIME: u64 = 256;

const TABLES: &str = "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY rowid";

const INDEXES: &str = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY rowid";

const WITHOUT_PAGES: &str = "
    SELECT type, name, tbl_name, sql FROM sqlite_schema
    WHERE type IN ('view', 'trigger') OR (type = 'table' AND rootpage = 0) ORDER BY rowid";

/// What a table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) table: String,
    pub(super) rows: u64,
    /// Of all values in their order.
    hash: u64,
}

/// How the rows of a table are read and written.
struct RowsWay {
    select: String,
    insert: String,
}

/// Copies everything into the empty `target`, and says what each table holds.
pub(super) fn copy(source: &Connection, target: &Connection, look: &mut Watcher<'_>) -> Result<Vec<Contents>> {
    let number = |pragma: &str| source.query_row(pragma, (), |row| row.get::<_, i64>(0)).map_err(classify);
    let encoding: String = source.query_row("PRAGMA encoding", (), |row| row.get(0)).map_err(classify)?;
    let (vacuum, user, id) =
        (number("PRAGMA auto_vacuum")?, number("PRAGMA user_version")?, number("PRAGMA application_id")?);
    let run = |sql: &str| target.execute_batch(sql).map_err(classify);
    run(&format!("PRAGMA encoding = '{encoding}'; PRAGMA auto_vacuum = {vacuum}"))?;
    run("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON; PRAGMA writable_schema = ON; BEGIN")?;
    let tables = texts(source, TABLES)?;
    let mut total = 0;
    for (name, _) in &tables {
        let count: i64 = source
            .query_row(&format!("SELECT count(*) FROM main.{}", quoted(name)), (), |row| row.get(0))
            .map_err(classify)?;
        total += u64::try_from(count).unwrap_or(0);
        look.at(BackupStage::Rows, 0, total)?;
    }
    let (mut contents, mut done) = (Vec::new(), 0);
    // What counts for AUTOINCREMENT is made by the engine, and filled when the others are.
    let (counters, tables): (Vec<_>, Vec<_>) = tables.into_iter().partition(|(name, _)| name == "sqlite_sequence");
    for (name, sql) in &tables {
        run(sql).map_err(|error| of_table(name, error))?;
        contents.push(fill(source, target, name, &mut |rows| look.at(BackupStage::Rows, done + rows, total))?);
        done += contents.last().map_or(0, |table| table.rows);
    }
    if !counters.is_empty() && has_table(target, "sqlite_sequence")? {
        run("DELETE FROM sqlite_sequence")?;
        contents.push(fill(source, target, "sqlite_sequence", &mut |_| Ok(()))?);
    }
    for (name, sql) in texts(source, INDEXES)? {
        run(&sql).map_err(|error| error.context(format_args!("index {name}")))?;
        look.at(BackupStage::Rows, done, total)?;
    }
    without_pages(source, target).map_err(classify)?;
    run(&format!("PRAGMA user_version = {user}; PRAGMA application_id = {id}; COMMIT"))?;
    Ok(contents)
}

/// What the tables of `names` hold here.
pub(super) fn contents(
    connection: &Connection,
    expected: &[Contents],
    look: &mut Watcher<'_>,
) -> Result<Vec<Contents>> {
    let mut found = Vec::new();
    for Contents { table, .. } in expected {
        let way = RowsWay::of(connection, table)?;
        let rows = &mut |_: &[ValueRef<'_>]| Ok(());
        found.push(read(connection, table, &way, rows, &mut |_| look.at(BackupStage::Check, 0, 0))?);
    }
    Ok(found)
}

fn fill(
    source: &Connection,
    target: &Connection,
    table: &str,
    look: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Contents> {
    let way = RowsWay::of(source, table)?;
    let mut insert = target.prepare(&way.insert).map_err(classify)?;
    let mut write = |values: &[ValueRef<'_>]| insert.execute(params_from_iter(values.iter().map(Lent))).map(drop);
    read(source, table, &way, &mut write, look).map_err(|error| of_table(table, error))
}

/// Reads a table from its beginning to its end.
fn read(
    connection: &Connection,
    table: &str,
    way: &RowsWay,
    take: &mut dyn FnMut(&[ValueRef<'_>]) -> rusqlite::Result<()>,
    look: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Contents> {
    let mut select = connection.prepare(&way.select).map_err(classify)?;
    let columns = select.column_count();
    let (mut rows, mut found) = (0, select.raw_query());
    let mut hasher = FixedState::default().build_hasher();
    while let Some(row) = found.next().map_err(classify)? {
        let values: Vec<ValueRef<'_>> =
            (0..columns).map(|column| row.get_ref(column)).collect::<rusqlite::Result<_>>().map_err(classify)?;
        for value in &values {
            add(&mut hasher, *value);
        }
        take(&values).map_err(classify)?;
        rows += 1;
        if rows % AT_A_TIME == 0 {
            look(rows)?;
        }
    }
    look(rows)?;
    Ok(Contents { table: table.to_owned(), rows, hash: hasher.finish() })
}

fn add(hasher: &mut impl std::hash::Hasher, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => hasher.write_u8(0),
        ValueRef::Integer(number) => {
            hasher.write_u8(1);
            hasher.write_i64(number);
        }
        ValueRef::Real(number) => {
            hasher.write_u8(2);
            hasher.write_u64(number.to_bits());
        }
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            hasher.write_u8(if matches!(value, ValueRef::Text(_)) { 3 } else { 4 });
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        }
    }
}

/// A value of one connection, bound on another.
struct Lent<'v>(&'v ValueRef<'v>);

impl ToSql for Lent<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(*self.0))
    }
}

impl RowsWay {
    fn of(connection: &Connection, table: &str) -> Result<Self> {
        Self::find(connection, table).map_err(classify)
    }

    fn find(connection: &Connection, table: &str) -> rusqlite::Result<Self> {
        let mut all = connection.prepare_cached("SELECT name, hidden FROM pragma_table_xinfo(?1) ORDER BY cid")?;
        let all: Vec<(String, i64)> =
            all.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        let mut keyed = connection
            .prepare_cached("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE")?;
        let without_rowid: bool = keyed.query_row([table], |row| row.get(0))?;
        // A column of the user's own may have any of the names.
        let is_free = |name: &&str| !all.iter().any(|(column, _)| column.eq_ignore_ascii_case(name));
        let rowid = ["rowid", "_rowid_", "oid"].into_iter().find(is_free).filter(|_| !without_rowid);
        // Generated columns are generated again.
        let stored = all.iter().filter(|(_, hidden)| *hidden == 0).map(|(name, _)| quoted(name));
        let columns: Vec<String> = rowid.map(str::to_owned).into_iter().chain(stored).collect();
        let (names, places) = (columns.join(", "), vec!["?"; columns.len()].join(", "));
        let table = quoted(table);
        // In the order of the table, of which an index may have another.
        Ok(Self {
            select: format!("SELECT {names} FROM main.{table} NOT INDEXED"),
            insert: format!("INSERT INTO main.{table} ({names}) VALUES ({places})"),
        })
    }
}

fn texts(connection: &Connection, sql: &str) -> Result<Vec<(String, String)>> {
    let read = || {
        let mut statement = connection.prepare(sql)?;
        statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()
    };
    read().map_err(classify)
}

fn has_table(connection: &Connection, name: &str) -> Result<bool> {
    let mut statement = connection.prepare("SELECT 1 FROM sqlite_schema WHERE name = ?1").map_err(classify)?;
    statement.exists([name]).map_err(classify)
}

fn without_pages(source: &Connection, target: &Connection) -> rusqlite::Result<()> {
    let mut found = source.prepare(WITHOUT_PAGES)?;
    let mut rows = found.query(())?;
    let mut write =
        target.prepare("INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES (?1, ?2, ?3, 0, ?4)")?;
    while let Some(row) = rows.next()? {
        let texts = [0, 1, 2, 3].map(|column| row.get_ref(column));
        let [kind, name, table, sql] = texts;
        write.execute([Lent(&kind?), Lent(&name?), Lent(&table?), Lent(&sql?)])?;
    }
    Ok(())
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn of_table(name: &str, error: Error) -> Error {
    let needs_program = error.kind() == ErrorKind::Query && error.to_string().contains("no such function");
    let error = error.context(format_args!("table {name}"));
    if needs_program {
        error.hint("functions of the program's own are not known to a copy between encrypted and plain")
    } else {
        error
    }
}
