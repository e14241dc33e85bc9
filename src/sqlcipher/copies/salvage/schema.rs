//! The schema of the damaged file, as far as it can be read.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};

use super::map::{Owner, PageMap};
use super::original::Original;
use super::page::{Page, PageKind};
use super::record;
use super::tree::walk;
use crate::error::Result;

/// What counts for `AUTOINCREMENT`: made by the engine.
pub(super) const COUNTERS: &str = "sqlite_sequence";

/// An entry of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SchemaEntry {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) table: String,
    pub(super) root: u32,
    pub(super) sql: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Schema {
    pub(super) objects: Vec<SchemaEntry>,
    /// Whether nothing of it is missing.
    pub(super) is_whole: bool,
}

/// Reads the tree of the first page, and then pages that nothing leads to and that hold nothing but such entries.
pub(super) fn read(original: &Original, map: &mut PageMap) -> Result<Schema> {
    let mut schema = Schema::default();
    let mut broken = false;
    let gaps = walk(original, map, 1, true, &mut |map, page| {
        let objects = objects(original, map, page);
        broken |= objects.len() < if page.kind.is_leaf() { page.len() } else { 0 };
        schema.objects.extend(objects);
        Ok(())
    })?;
    schema.is_whole = gaps.is_empty() && !broken;
    if gaps.is_empty() {
        return Ok(schema);
    }
    let leaves: Vec<u32> =
        map.orphans().into_iter().filter(|number| map.kind(*number) == Some(PageKind::TableLeaf)).collect();
    for number in leaves {
        let belongs = match map.owner(original, number) {
            Owner::Root(root) => root == 1,
            Owner::Nobody => false,
            Owner::Unknown => map.knows_free || original.head.is_none(),
        };
        let page =
            original.btree(number).filter(|page| belongs && page.len() > 0 && gaps.iter().any(|gap| gap.holds(page)));
        let Some(page) = page else { continue };
        let found = objects(original, map, &page);
        if found.len() == page.len() {
            map.visit(number);
            schema.objects.extend(found);
        }
    }
    Ok(schema)
}

fn objects(original: &Original, map: &mut PageMap, page: &Page) -> Vec<SchemaEntry> {
    if page.kind != PageKind::TableLeaf {
        return Vec::new();
    }
    let mut found = Vec::new();
    for cell in page.cells() {
        let Some(payload) = cell.payload else { continue };
        match original.record(&payload, &mut |number| {
            map.visit(number);
        }) {
            Ok(bytes) => found.extend(record::values(&bytes, original.encoding()).and_then(|values| object(&values))),
            Err(number) => map.lose(number),
        }
    }
    found
}

fn object(values: &[ToSqlOutput<'_>]) -> Option<SchemaEntry> {
    let [kind, name, table, root, sql] = values else { return None };
    let root = match value(root) {
        ValueRef::Integer(root) => u32::try_from(root).ok()?,
        ValueRef::Null => 0,
        _ => return None,
    };
    let sql = match value(sql) {
        ValueRef::Null => None,
        _ => Some(text(sql)?),
    };
    let object = SchemaEntry { kind: text(kind)?, name: text(name)?, table: text(table)?, root, sql };
    let begins = |what: &str| {
        object.sql.as_ref().is_none_or(|sql| sql.get(..what.len()).is_some_and(|sql| sql.eq_ignore_ascii_case(what)))
    };
    let is_one = matches!(object.kind.as_str(), "table" | "index" | "view" | "trigger") && begins("CREATE ");
    is_one.then_some(object)
}

fn text(output: &ToSqlOutput<'_>) -> Option<String> {
    value(output).as_str().ok().map(str::to_owned)
}

pub(super) fn value<'v>(output: &'v ToSqlOutput<'v>) -> ValueRef<'v> {
    match output {
        ToSqlOutput::Borrowed(value) => *value,
        ToSqlOutput::Owned(value) => ValueRef::from(value as &Value),
        _ => ValueRef::Null,
    }
}
