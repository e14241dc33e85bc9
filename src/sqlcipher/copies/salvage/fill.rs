//! The new file, filled with what is found: first along the trees, then from pages that nothing leads to any more.

use rusqlite::Connection;

use super::lost_and_found::LostAndFound;
use super::make;
use super::map::{Owner, PageMap};
use super::original::Original;
use super::page::{Page, PageKind};
use super::report::{SalvageReport, SalvagedTable};
use super::schema::{self, COUNTERS, Schema};
use super::table::Table;
use super::tree::{Gap, walk};
use super::writer::{TableTree, Writer};
use crate::connector::BackupStage;
use crate::error::Result;
use crate::sqlcipher::copies::watcher::Watcher;

/// Copies everything that can be read into the empty `target`.
pub(super) fn fill(
    original: &Original,
    mut map: PageMap,
    target: &Connection,
    look: &mut Watcher<'_>,
) -> Result<SalvageReport> {
    let schema = schema::read(original, &mut map)?;
    let mut report = SalvageReport { schema_is_whole: schema.is_whole, ..SalvageReport::default() };
    make::begin(original, target)?;
    let mut trees = tables(&schema, target, &mut report)?;
    let total = map.cells;
    let mut writer = Writer { target, look, lost: LostAndFound::default(), broken: 0, done: 0, total };
    for tree in &mut trees {
        if tree.report.name == COUNTERS {
            make::empty(target, tree)?;
        }
        let root = tree.root;
        let gaps = walk(original, &mut map, root, true, &mut |map, page| {
            writer.page(original, map, page, Some(root), Some(tree))
        })?;
        tree.report.gaps = gaps.len() as u64;
        tree.gaps = gaps;
    }
    let indexes = indexes(original, &mut map, &schema)?;
    let orphans = Orphans { original, schema: &schema, indexes: &indexes };
    for number in map.orphans() {
        orphans.take(number, &mut map, &mut trees, &mut writer)?;
    }
    writer.look.at(BackupStage::Rows, writer.total.max(1), writer.total.max(1))?;
    report.broken_rows = writer.broken;
    (report.lost_and_found, report.lost_and_found_rows) = (writer.lost.name.take(), writer.lost.rows);
    make::rest(original, target, &schema, &trees, &mut report, look)?;
    report.tables = trees.into_iter().map(|tree| tree.report).collect();
    report.lost_pages = map.lost.into_iter().collect();
    (report.missing_pages, report.log_pages) = (original.missing, original.logged);
    Ok(report)
}

/// Makes the tables, that of the counters last: rows of the others change it.
fn tables(schema: &Schema, target: &Connection, report: &mut SalvageReport) -> Result<Vec<TableTree>> {
    let mut trees = Vec::new();
    let objects = schema.objects.iter().filter(|object| object.kind == "table" && object.root > 0);
    let (counters, others): (Vec<_>, Vec<_>) = objects.partition(|object| object.name == COUNTERS);
    for object in others.into_iter().chain(counters) {
        let made = object.name == COUNTERS && make::exists(target, COUNTERS)? || make::object(target, object, report)?;
        let table = if made { Some(Table::of(target, &object.name)?) } else { None };
        let report = SalvagedTable { name: object.name.clone(), ..SalvagedTable::default() };
        trees.push(TableTree { root: object.root, table, gaps: Vec::new(), report });
    }
    Ok(trees)
}

/// An index: its pages are no rows.
struct Index {
    root: u32,
    has_gaps: bool,
}

fn indexes(original: &Original, map: &mut PageMap, schema: &Schema) -> Result<Vec<Index>> {
    let objects = schema.objects.iter().filter(|object| object.kind == "index" && object.root > 0);
    objects
        .map(|object| {
            let gaps = walk(original, map, object.root, false, &mut |_, _| Ok(()))?;
            Ok(Index { root: object.root, has_gaps: !gaps.is_empty() })
        })
        .collect()
}

/// Pages of trees that nothing leads to: the page above them is lost.
struct Orphans<'o> {
    original: &'o Original,
    schema: &'o Schema,
    indexes: &'o [Index],
}

/// Where the rows of such a page go.
enum Home {
    /// Into a table, by its position.
    Table(usize),
    /// Into the table for rows without one; with the root, if it is known.
    Unknown(Option<u32>),
    /// They are no rows.
    Nowhere,
}

impl Orphans<'_> {
    fn take(&self, number: u32, map: &mut PageMap, trees: &mut [TableTree], writer: &mut Writer<'_, '_>) -> Result<()> {
        writer.look.pause()?;
        // One that was met meanwhile holds a part of another row.
        let Some(page) = self.original.btree(number).filter(|_| !map.is_used(number)) else { return Ok(()) };
        if page.kind == PageKind::TableInner {
            return Ok(());
        }
        let home = match map.owner(self.original, number) {
            Owner::Nobody => Home::Nowhere,
            Owner::Root(root) => self.of_root(root, trees),
            Owner::Unknown => self.guess(&page, map, trees),
        };
        if page.is_damaged {
            map.lose(number);
        }
        match home {
            Home::Nowhere => Ok(()),
            Home::Unknown(root) => writer.page(self.original, map, &page, root, None),
            Home::Table(at) => {
                let root = trees[at].root;
                writer.page(self.original, map, &page, Some(root), Some(&mut trees[at]))
            }
        }
    }

    fn of_root(&self, root: u32, trees: &[TableTree]) -> Home {
        match trees.iter().position(|tree| tree.root == root) {
            Some(at) => Home::Table(at),
            // Entries of the schema are read elsewhere, and an index is built anew.
            None if root == 1 || self.indexes.iter().any(|index| index.root == root) => Home::Nowhere,
            None => Home::Unknown(Some(root)),
        }
    }

    /// Without pointers: the one table that misses such rows, if there is only one.
    fn guess(&self, page: &Page, map: &PageMap, trees: &[TableTree]) -> Home {
        let rowids = page.kind.is_of_rowids();
        let fields: Vec<usize> = page.cells().filter_map(|cell| super::record::fields(cell.payload?.local)).collect();
        let misses = |tree: &TableTree| {
            let takes = |table: &Table| table.has_rowids == rowids && fields.iter().all(|count| table.may_have(*count));
            tree.table.as_ref().is_none_or(takes) && tree.gaps.iter().any(|gap: &Gap| !rowids || gap.holds(page))
        };
        let found: Vec<usize> = (0..trees.len()).filter(|at| misses(&trees[*at])).collect();
        if !rowids && found.is_empty() && self.schema.is_whole {
            return Home::Nowhere;
        }
        let may_be_index = !rowids && self.indexes.iter().any(|index| index.has_gaps);
        match found[..] {
            [only] if self.schema.is_whole && map.knows_free && !may_be_index => Home::Table(only),
            _ => Home::Unknown(None),
        }
    }
}
