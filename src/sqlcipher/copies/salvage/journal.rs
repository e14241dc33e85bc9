//! Pages as they were before a transaction that was cut off in a rollback mode.
//!
//! Source: "Database File Format", section 3.

use std::collections::HashMap;

use super::page::word;
use super::raw::Raw;

const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// What the journal says: where each page of it stands, and how many the database had.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) pages: HashMap<u32, u64>,
    pub(super) count: Option<u32>,
}

/// Reads as far as the sums are right.
pub(super) fn read(file: &Raw, length: u64, size: usize) -> Journal {
    let (mut found, mut at) = (Journal::default(), 0);
    let mut record = vec![0; 4 + size + 4];
    let step = record.len() as u64;
    loop {
        let mut start = [0; 28];
        if !file.gives(at, &mut start) || start[..8] != MAGIC {
            return found;
        }
        let [count, sum, pages, sector, page] = [8, 12, 16, 20, 24].map(|at| word(&start, at).unwrap_or(0));
        if sector < 28 || (page != 0 && page as usize != size) {
            return found;
        }
        let sector = u64::from(sector);
        found.count.get_or_insert(pages);
        at += sector;
        // Without a sync, the count stays at its beginning.
        let count = if count == u32::MAX { length.saturating_sub(at) / step } else { u64::from(count) };
        for _ in 0..count {
            if !file.gives(at, &mut record) || sum_of(&record[4..4 + size], sum) != word(&record, 4 + size).unwrap_or(0)
            {
                return found;
            }
            // The first of several is the oldest.
            found.pages.entry(word(&record, 0).unwrap_or(0)).or_insert(at + 4);
            at += step;
        }
        at = at.div_ceil(sector) * sector;
    }
}

fn sum_of(page: &[u8], begin: u32) -> u32 {
    let bytes = (1..).map(|step| page.len().checked_sub(step * 200)).map_while(|at| at.filter(|at| *at > 0));
    bytes.fold(begin, |sum, at| sum.wrapping_add(u32::from(page[at])))
}
