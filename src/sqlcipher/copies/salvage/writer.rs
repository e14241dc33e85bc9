//! Rows on their way from a page of the old file into the new one.

use rusqlite::Connection;

use super::lost_and_found::{LostAndFound, Place};
use super::map::PageMap;
use super::original::Original;
use super::page::Page;
use super::record;
use super::report::SalvagedTable;
use super::table::{Placed, Table};
use super::tree::Gap;
use crate::connector::BackupStage;
use crate::error::Result;
use crate::sqlcipher::copies::watcher::Watcher;
use crate::sqlcipher::errors::classify;

/// How many rows are copied between two looks at whether to stop.
const AT_A_TIME: u64 = 256;

/// A table that the schema names.
#[derive(Debug)]
pub(super) struct TableTree {
    pub(super) root: u32,
    /// `None` if it could not be made.
    pub(super) table: Option<Table>,
    pub(super) gaps: Vec<Gap>,
    pub(super) report: SalvagedTable,
}

pub(super) struct Writer<'w, 'l> {
    pub(super) target: &'w Connection,
    pub(super) look: &'w mut Watcher<'l>,
    pub(super) lost: LostAndFound,
    /// Rows of which a part is lost.
    pub(super) broken: u64,
    pub(super) done: u64,
    pub(super) total: u64,
}

impl Writer<'_, '_> {
    /// Copies the rows of a page into its table, or into that for rows without one.
    pub(super) fn page(
        &mut self,
        original: &Original,
        map: &mut PageMap,
        page: &Page,
        root: Option<u32>,
        mut tree: Option<&mut TableTree>,
    ) -> Result<()> {
        let has_rowids = page.kind.is_of_rowids();
        for cell in page.cells() {
            let Some(payload) = &cell.payload else { continue };
            if let Some(tree) = &mut tree {
                tree.report.found += 1;
            }
            self.step()?;
            let bytes = match original.record(payload, &mut |number| {
                map.visit(number);
            }) {
                Ok(bytes) => Some(bytes),
                Err(number) => {
                    map.lose(number);
                    None
                }
            };
            let values = bytes.as_deref().and_then(|bytes| record::values(bytes, original.encoding()));
            let Some(values) = values else {
                self.broken += 1;
                if let Some(tree) = &mut tree {
                    tree.report.broken += 1;
                }
                continue;
            };
            let table = tree.as_mut().and_then(|tree| Some((tree.table.as_mut()?, &mut tree.report)));
            if let Some((table, report)) = table
                && table.has_rowids == has_rowids
                && table.place(self.target, cell.rowid, &values).map_err(classify)? == Placed::Copied
            {
                report.copied += 1;
                continue;
            }
            let place = Place { root, page: page.number, rowid: has_rowids.then_some(cell.rowid) };
            if !self.lost.take(self.target, place, &values)? {
                self.broken += 1;
            }
        }
        Ok(())
    }

    pub(super) fn step(&mut self) -> Result<()> {
        self.done += 1;
        if self.done.is_multiple_of(AT_A_TIME) {
            self.total = self.total.max(self.done);
            self.look.at(BackupStage::Rows, self.done, self.total)?;
        }
        Ok(())
    }
}
