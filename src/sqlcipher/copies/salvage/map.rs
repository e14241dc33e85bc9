//! What each page of the damaged file is used for, as far as it is known.

use std::collections::BTreeSet;

use super::original::Original;
use super::page::{PageKind, word};
use crate::connector::BackupStage;
use crate::error::Result;
use crate::sqlcipher::copies::watcher::Watcher;

/// SQLite takes its locks in this byte, and leaves its page empty.
const LOCK_BYTE: u64 = 0x4000_0000;

/// No tree is deeper.
const DEEPEST: usize = 64;

/// How many pages are read between two looks at whether to stop.
const AT_A_TIME: u32 = 64;

pub(super) struct PageMap {
    /// What each page would be in a tree, by its first byte.
    kinds: Vec<Option<PageKind>>,
    /// Pages that were reached.
    used: Vec<bool>,
    /// Pages that cannot be read, or are not what they should be.
    pub(super) lost: BTreeSet<u32>,
    /// How many pages a seal, or their structure, shows to be whole.
    pub(super) sound: u64,
    /// About how many rows there are.
    pub(super) cells: u64,
    /// Whether all pages are known that hold nothing any more.
    pub(super) knows_free: bool,
    has_pointers: bool,
}

/// The tree that a page belongs to, as pointers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Root(u32),
    /// It holds nothing any more, or is no part of a tree.
    Nobody,
    Unknown,
}

impl PageMap {
    /// Looks at every page once.
    pub(super) fn of(original: &Original, look: &mut Watcher<'_>) -> Result<Self> {
        let pages = original.pages as usize;
        let mut map = Self {
            kinds: Vec::with_capacity(pages),
            used: vec![false; pages],
            lost: BTreeSet::new(),
            sound: 0,
            cells: 0,
            knows_free: false,
            has_pointers: false,
        };
        for number in 1..=original.pages {
            if number % AT_A_TIME == 1 {
                look.at(BackupStage::Pages, u64::from(number - 1), u64::from(original.pages))?;
            }
            map.add(original, number);
        }
        look.at(BackupStage::Pages, u64::from(original.pages), u64::from(original.pages))?;
        map.has_pointers = original.head.map_or_else(|| looks_pointed(original), |head| head.auto_vacuum);
        if map.has_pointers {
            for number in (2..=original.pages).filter(|number| map_page(original, *number) == *number) {
                map.visit(number);
            }
        }
        map.knows_free = map.mark_free(original);
        Ok(map)
    }

    fn add(&mut self, original: &Original, number: u32) {
        let Some(bytes) = original.page(number) else {
            self.kinds.push(None);
            self.lost.insert(number);
            return;
        };
        let kind = bytes.get(if number == 1 { 100 } else { 0 }).and_then(|byte| PageKind::of(*byte));
        self.kinds.push(kind);
        let page = kind.and_then(|_| original.parsed(number, bytes));
        self.sound += u64::from(original.is_sealed() || page.is_some());
        if let Some(page) = page.filter(|page| page.kind == PageKind::TableLeaf) {
            self.cells += page.len() as u64;
        }
    }

    pub(super) fn kind(&self, number: u32) -> Option<PageKind> {
        *self.kinds.get(number.checked_sub(1)? as usize)?
    }

    /// Marks a page as used; false if it was already, or cannot be.
    pub(super) fn visit(&mut self, number: u32) -> bool {
        let used = number.checked_sub(1).and_then(|at| self.used.get_mut(at as usize));
        used.is_some_and(|used| !std::mem::replace(used, true))
    }

    pub(super) fn is_used(&self, number: u32) -> bool {
        number.checked_sub(1).and_then(|at| self.used.get(at as usize)).copied().unwrap_or(true)
    }

    /// A page that should have been something else.
    pub(super) fn lose(&mut self, number: u32) {
        if number > 0 && number as usize <= self.kinds.len() {
            self.lost.insert(number);
        }
    }

    /// Pages of trees that nothing has led to.
    pub(super) fn orphans(&self) -> Vec<u32> {
        (1..)
            .zip(&self.kinds)
            .filter(|(number, kind)| kind.is_some() && !self.is_used(*number))
            .map(|(number, _)| number)
            .collect()
    }

    /// Follows the list of free pages; false if it breaks off.
    fn mark_free(&mut self, original: &Original) -> bool {
        let Some(head) = original.head else { return false };
        let mut next = head.free;
        while next != 0 {
            let Some(trunk) = original.page(next).filter(|_| self.visit(next)) else { return false };
            let count = word(&trunk, 4).unwrap_or(u32::MAX) as usize;
            if count > original.usable() / 4 - 2 {
                return false;
            }
            for leaf in 0..count {
                self.visit(word(&trunk, 8 + 4 * leaf).unwrap_or(0));
            }
            next = word(&trunk, 0).unwrap_or(0);
        }
        true
    }

    /// The root of the tree that a page belongs to.
    pub(super) fn owner(&self, original: &Original, number: u32) -> Owner {
        let mut number = number;
        for _ in 0..DEEPEST {
            match self.pointer(original, number) {
                Some((1, _)) => return Owner::Root(number),
                Some((5, 1)) => return Owner::Root(1),
                Some((5, parent)) => number = parent,
                Some(_) => return Owner::Nobody,
                None => return Owner::Unknown,
            }
        }
        Owner::Unknown
    }

    /// What the page of pointers says of a page: its kind, and its parent.
    fn pointer(&self, original: &Original, number: u32) -> Option<(u8, u32)> {
        if !self.has_pointers || number < 3 {
            return None;
        }
        let map = map_page(original, number);
        let at = 5 * number.checked_sub(map + 1)? as usize;
        let page = original.page(map)?;
        if !original.is_sealed() && !is_of_pointers(original, map, &page) {
            return None;
        }
        let (kind, parent) = (*page.get(at)?, word(&page, at + 1)?);
        (1..=5).contains(&kind).then_some((kind, parent))
    }
}

/// Whether the second page is one of pointers, where the first does not say it.
fn looks_pointed(original: &Original) -> bool {
    let Some(page) = original.page(2) else { return false };
    original.pages > 2 && is_of_pointers(original, 2, &page)
}

/// The page with the pointer of this one.
fn map_page(original: &Original, number: u32) -> u32 {
    let each = u32::try_from(original.usable() / 5).unwrap_or(0) + 1;
    let map = (number - 2) / each * each + 2;
    let is_lock = u64::from(map) == LOCK_BYTE / original.size() as u64 + 1;
    if is_lock { map + 1 } else { map }
}

/// Whether each entry of a page of pointers is one.
fn is_of_pointers(original: &Original, map: u32, page: &[u8]) -> bool {
    let count = original.pages.saturating_sub(map) as usize;
    page[..original.usable()].chunks_exact(5).take(count).all(|entry| match (entry[0], word(entry, 1)) {
        (1 | 2, Some(parent)) => parent == 0,
        (3..=5, Some(parent)) => parent > 0 && parent <= original.pages,
        _ => false,
    })
}
