//! The schema of the new file: made where it can be, and what cannot be is told.

use rusqlite::{Connection, ErrorCode, OptionalExtension as _};

use super::original::Original;
use super::report::{NotMade, SalvageReport};
use super::schema::{COUNTERS, Schema, SchemaEntry};
use super::writer::TableTree;
use crate::error::Result;
use crate::sqlcipher::copies::rows::quoted;
use crate::sqlcipher::copies::watcher::Watcher;
use crate::sqlcipher::errors::classify;

/// Settings of the file, and one transaction for everything.
pub(super) fn begin(original: &Original, target: &Connection) -> Result<()> {
    let mode = match original.head {
        Some(head) if head.auto_vacuum => 1 + u8::from(head.incremental),
        _ => 0,
    };
    let encoding = original.encoding().name();
    run(target, &format!("PRAGMA encoding = '{encoding}'; PRAGMA auto_vacuum = {mode}"))?;
    run(target, "PRAGMA foreign_keys = OFF; PRAGMA writable_schema = ON; BEGIN")
}

fn run(target: &Connection, sql: &str) -> Result<()> {
    target.execute_batch(sql).map_err(classify)
}

pub(super) fn exists(target: &Connection, name: &str) -> Result<bool> {
    let mut found = target.prepare("SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE").map_err(classify)?;
    found.exists([name]).map_err(classify)
}

/// Makes a part of the schema by its text; false, and told, if the engine refuses it.
pub(super) fn object(target: &Connection, object: &SchemaEntry, report: &mut SalvageReport) -> Result<bool> {
    let Some(sql) = &object.sql else { return Ok(false) };
    match target.execute(sql, ()) {
        Ok(_) if exists(target, &object.name)? => Ok(true),
        Ok(_) => {
            not_made(report, object, "its text makes something else");
            Ok(false)
        }
        Err(error) if says_nothing_of_the_file(&error) => {
            not_made(report, object, &error.to_string());
            Ok(false)
        }
        Err(error) => Err(classify(error)),
    }
}

/// The statement is at fault, not the disk.
fn says_nothing_of_the_file(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(code, ErrorCode::Unknown | ErrorCode::ConstraintViolation | ErrorCode::TooBig),
        None => true,
    }
}

fn not_made(report: &mut SalvageReport, object: &SchemaEntry, why: &str) {
    report.not_made.push(NotMade { name: object.name.clone(), why: why.to_owned() });
}

/// Takes out what the engine has counted, if what it had counted before was not lost.
pub(super) fn empty(target: &Connection, counters: &TableTree) -> Result<()> {
    if counters.table.is_some() { run(target, &format!("DELETE FROM {COUNTERS}")) } else { Ok(()) }
}

/// Indexes, views, triggers and virtual tables; then it is committed.
pub(super) fn rest(
    original: &Original,
    target: &Connection,
    schema: &Schema,
    trees: &[TableTree],
    report: &mut SalvageReport,
    look: &mut Watcher<'_>,
) -> Result<()> {
    for index in schema.objects.iter().filter(|object| object.kind == "index" && object.sql.is_some()) {
        look.pause()?;
        if object(target, index, report)? {
            report.indexes.push(index.name.clone());
        }
    }
    let tables = schema.objects.iter().filter(|object| object.kind == "table" && object.root == 0);
    let tables: Vec<&SchemaEntry> = tables.collect();
    for table in &tables {
        written(target, table)?;
    }
    for kind in ["view", "trigger"] {
        for one in schema.objects.iter().filter(|object| object.kind == kind) {
            object(target, one, report)?;
        }
    }
    if let Some(head) = original.head {
        let (user, id) = (head.user_version.cast_signed(), head.application_id.cast_signed());
        run(target, &format!("PRAGMA user_version = {user}; PRAGMA application_id = {id}"))?;
    }
    run(target, "COMMIT")?;
    for table in tables {
        look.pause()?;
        rebuild(target, table, trees, report)?;
    }
    Ok(())
}

/// A virtual table, as text: making it would make its own tables, which are there.
fn written(target: &Connection, table: &SchemaEntry) -> Result<()> {
    let text = "INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES ('table', ?1, ?2, 0, ?3)";
    if exists(target, &table.name)? {
        return Ok(());
    }
    target.execute(text, (&table.name, &table.table, &table.sql)).map_err(classify)?;
    // The engine reads it again, for triggers and views on it.
    run(target, "PRAGMA writable_schema = RESET; PRAGMA writable_schema = ON")
}

/// Whether `name` is one of the virtual table's own tables. Others may have such names too: the engine knows those of its
/// modules ("shadow tables"). One that could not be made is taken for its own.
fn is_part(target: &Connection, name: &str, table: &str) -> Result<bool> {
    let of = name.get(..table.len()).filter(|of| of.eq_ignore_ascii_case(table));
    if of.is_none() || !name[table.len()..].starts_with('_') {
        return Ok(false);
    }
    let kind = "SELECT type FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE";
    let kind = target.query_row(kind, [name], |row| row.get::<_, String>(0)).optional().map_err(classify)?;
    Ok(kind.is_none_or(|kind| kind == "shadow"))
}

/// Builds the index of a virtual table anew if its own tables have lost something. One that cannot do that is taken out, so
/// that these can be read.
fn rebuild(target: &Connection, table: &SchemaEntry, trees: &[TableTree], report: &mut SalvageReport) -> Result<()> {
    let lacks =
        |tree: &TableTree| tree.report.gaps > 0 || tree.report.copied != tree.report.found || tree.table.is_none();
    let mut lacks_a_part = false;
    for tree in trees.iter().filter(|tree| lacks(tree)) {
        lacks_a_part |= is_part(target, &tree.report.name, &table.name)?;
    }
    if !lacks_a_part {
        return Ok(());
    }
    let name = quoted(&table.name);
    match target.execute(&format!("INSERT INTO main.{name} ({name}) VALUES ('rebuild')"), ()) {
        Ok(_) => report.rebuilt.push(table.name.clone()),
        Err(error) if matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure)) => {
            return Err(classify(error));
        }
        Err(error) => {
            let taken_out = "DELETE FROM sqlite_schema WHERE name = ?1 AND rootpage = 0";
            target.execute(taken_out, [&table.name]).map_err(classify)?;
            let what = format!("it has lost a part, and could not be built anew: {error}");
            not_made(report, table, &what);
        }
    }
    Ok(())
}
