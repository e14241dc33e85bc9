//! The way through a tree, around what is lost of it.

use super::map::PageMap;
use super::original::Original;
use super::page::{Page, PageKind};
use crate::error::Result;

/// No tree is deeper.
const DEEPEST: u32 = 64;

/// Rowids of which the pages were not found: above the first, up to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) above: Option<i64>,
    pub(super) up_to: Option<i64>,
}

impl Gap {
    pub(super) fn holds(&self, page: &Page) -> bool {
        page.cells().all(|cell| {
            self.above.is_none_or(|above| cell.rowid > above) && self.up_to.is_none_or(|up_to| cell.rowid <= up_to)
        })
    }
}

/// A page still to be seen.
struct TreeStep {
    number: u32,
    gap: Gap,
    depth: u32,
}

/// Hands over each page of the tree that can be read, in its order, and says what was not found. Without `reads`, leaves
/// are only marked.
pub(super) fn walk(
    original: &Original,
    map: &mut PageMap,
    root: u32,
    reads: bool,
    take: &mut dyn FnMut(&mut PageMap, &Page) -> Result<()>,
) -> Result<Vec<Gap>> {
    let everything = Gap { above: None, up_to: None };
    let (mut gaps, mut steps) = (Vec::new(), vec![TreeStep { number: root, gap: everything, depth: 0 }]);
    let mut of_rowids = None;
    while let Some(TreeStep { number, gap, depth }) = steps.pop() {
        let kind = map.kind(number).filter(|_| depth < DEEPEST && !map.is_used(number));
        let fits = |kind: &PageKind| of_rowids.is_none_or(|rowids| rowids == kind.is_of_rowids());
        let Some(kind) = kind.filter(fits) else {
            if !map.is_used(number) {
                map.lose(number);
            }
            gaps.push(gap);
            continue;
        };
        if !reads && kind.is_leaf() {
            map.visit(number);
            continue;
        }
        let page = original.btree(number).filter(|page| !page.kind.is_of_rowids() || gap.holds(page));
        let Some(page) = page else {
            map.lose(number);
            gaps.push(gap);
            continue;
        };
        of_rowids = Some(kind.is_of_rowids());
        map.visit(number);
        if page.is_damaged {
            map.lose(number);
            gaps.push(gap);
        }
        steps.extend(children(&page, gap, depth + 1).into_iter().rev());
        take(map, &page)?;
    }
    Ok(gaps)
}

fn children(page: &Page, gap: Gap, depth: u32) -> Vec<TreeStep> {
    if page.kind.is_leaf() {
        return Vec::new();
    }
    let (mut steps, mut above) = (Vec::new(), gap.above);
    for cell in page.cells() {
        let up_to = if page.kind.is_of_rowids() { Some(cell.rowid) } else { None };
        steps.push(TreeStep { number: cell.child, gap: Gap { above, up_to }, depth });
        above = up_to;
    }
    steps.push(TreeStep { number: page.right(), gap: Gap { above, up_to: gap.up_to }, depth });
    steps
}
