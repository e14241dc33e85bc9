//! The damaged file: its pages, each as it counts, or lost. Nothing is written, and no lock taken.
//!
//! What stands in the log up to its last commit counts, as the engine reads it; a journal of a transaction that was cut off
//! brings back the pages of before. What a disk does not give is lost, as what fails its seal.

use std::collections::HashMap;
use std::path::Path;

use super::journal;
use super::page::{Page, Payload, word};
use super::raw::Raw;
use super::record::Encoding;
use crate::error::Result;
use crate::sqlcipher::cipher::{KeySpec, PageCipher};
use crate::sqlcipher::opening::log_pages;

/// The header of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) encoding: Encoding,
    pub(super) auto_vacuum: bool,
    pub(super) incremental: bool,
    pub(super) user_version: u32,
    pub(super) application_id: u32,
    pub(super) free: u32,
    /// Pages of the database, where that is known.
    pages: Option<u32>,
}

pub(super) struct Original {
    file: Raw,
    log: Option<Raw>,
    journal: Option<Raw>,
    newer: HashMap<u32, i64>,
    before: HashMap<u32, u64>,
    cipher: Option<PageCipher>,
    size: usize,
    usable: usize,
    /// How many pages can be asked for.
    pub(super) pages: u32,
    /// How many are missing at the end.
    pub(super) missing: u32,
    /// How many pages of the log count.
    pub(super) logged: u64,
    /// `None` if the first page is lost.
    pub(super) head: Option<Head>,
}

impl Original {
    pub(super) fn open(path: &Path, file: Raw, length: u64, key: Option<&KeySpec>, size: usize) -> Result<Self> {
        let cipher = key.map(PageCipher::new).transpose()?;
        let of_file = u32::try_from(length / size as u64).unwrap_or(u32::MAX);
        let usable = size - cipher.as_ref().map_or(0, PageCipher::reserved);
        let (newer, before) = (HashMap::new(), HashMap::new());
        let (log, journal) = (Raw::beside(path, "-wal")?, Raw::beside(path, "-journal")?);
        let mut original = Self {
            file,
            log: log.map(|(log, _)| log),
            journal: None,
            newer,
            before,
            cipher,
            size,
            usable,
            pages: of_file,
            missing: u32::from(!length.is_multiple_of(size as u64)),
            logged: 0,
            head: None,
        };
        if let Some(pages) = original.read_log() {
            (original.pages, original.missing) = (pages, 0);
        } else if let Some((file, length)) = journal {
            let found = journal::read(&file, length, size);
            if let Some(pages) = found.count {
                (original.journal, original.before, original.pages) = (Some(file), found.pages, pages.max(1));
                original.logged = original.before.len() as u64;
            }
        }
        // What is said to be there may not be.
        let reach = original.newer.keys().chain(original.before.keys()).copied().max().unwrap_or(0).max(of_file);
        original.missing += original.pages.saturating_sub(reach);
        original.pages = original.pages.min(reach);
        original.read_head();
        Ok(original)
    }

    /// How many pages the database has after the last commit in the log, if there is one.
    fn read_log(&mut self) -> Option<u32> {
        let log = self.log.as_ref()?;
        let mut start = [0; 12];
        let is_of_this_size = log.gives(0, &mut start)
            && matches!(word(&start, 0), Some(0x377f_0682 | 0x377f_0683))
            && word(&start, 8).is_some_and(|size| size as usize == self.size);
        if !is_of_this_size {
            return None;
        }
        let (newer, pages) = log_pages::committed_in(|at, bytes| log.read(at, bytes), self.size).ok()?;
        self.logged = newer.len() as u64;
        self.newer = newer;
        pages
    }

    fn read_head(&mut self) {
        let Some(first) = self.page(1).filter(|first| self.is_head(first)) else { return };
        let number = |at| word(&first, at).unwrap_or(0);
        if self.cipher.is_none() {
            self.usable = self.size - usize::from(first[20]).min(self.size / 2);
        }
        // An old program counts its changes, but not the pages.
        let pages = (number(24) == number(92) && number(28) != 0).then(|| number(28));
        let head = Head {
            encoding: Encoding::of(number(56)),
            auto_vacuum: number(52) != 0,
            incremental: number(64) != 0,
            user_version: number(60),
            application_id: number(68),
            free: number(32),
            pages,
        };
        if let Some(pages) = head.pages.filter(|_| self.newer.is_empty() && self.before.is_empty()) {
            self.missing = pages.saturating_sub(self.pages);
            self.pages = self.pages.min(pages);
        }
        self.head = Some(head);
    }

    /// Whether the constants of a header are there. Without a seal, nothing else tells whether to believe it.
    fn is_head(&self, first: &[u8]) -> bool {
        let modes = first[18..20].iter().all(|mode| matches!(mode, 1 | 2));
        let said = usize::from(first[16]) << 8 | usize::from(first[17]) << 16;
        let fits = modes && said == self.size && first[21..24] == [64, 32, 32] && first[56..59] == [0; 3];
        fits && first.starts_with(b"SQLite format 3\0") && first[59] <= 3
    }

    /// Whether each page tells that it is as it was written.
    pub(super) fn is_sealed(&self) -> bool {
        self.cipher.as_ref().is_some_and(PageCipher::seals)
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn usable(&self) -> usize {
        self.usable
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.head.map(|head| head.encoding).unwrap_or_default()
    }

    /// A page as it counts, decrypted; `None` if it is lost.
    pub(super) fn page(&self, number: u32) -> Option<Vec<u8>> {
        if number == 0 || number > self.pages {
            return None;
        }
        let mut bytes = vec![0; self.size];
        let begin = u64::from(number - 1) * self.size as u64;
        let is_read = match (self.newer.get(&number), self.before.get(&number)) {
            (Some(at), _) => self.log.as_ref().is_some_and(|log| log.read(*at, &mut bytes).unwrap_or(false)),
            (None, Some(at)) => self.journal.as_ref().is_some_and(|journal| journal.gives(*at, &mut bytes)),
            (None, None) => self.file.gives(begin, &mut bytes),
        };
        let opens = |bytes: &mut [u8]| self.cipher.as_ref().is_none_or(|cipher| cipher.open(number, bytes));
        (is_read && opens(&mut bytes)).then_some(bytes)
    }

    pub(super) fn btree(&self, number: u32) -> Option<Page> {
        self.parsed(number, self.page(number)?)
    }

    pub(super) fn parsed(&self, number: u32, bytes: Vec<u8>) -> Option<Page> {
        Page::parse(number, bytes, self.usable, self.is_sealed())
    }

    /// A whole record. `Err` names the page where it breaks off.
    pub(super) fn record(&self, payload: &Payload<'_>, visit: &mut dyn FnMut(u32)) -> Result<Vec<u8>, u32> {
        let mut bytes = payload.local.to_vec();
        let mut next = payload.overflow;
        if payload.length as u64 > u64::from(self.pages) * self.size as u64 {
            return Err(next);
        }
        while bytes.len() < payload.length {
            let page = self.page(next).ok_or(next)?;
            visit(next);
            let left = payload.length - bytes.len();
            bytes.extend_from_slice(&page[4..self.usable.min(4 + left)]);
            let following = word(&page, 0).unwrap_or(0);
            // The last one says so; another one in the middle is a page of something else.
            if !self.is_sealed() && (following == 0) != (bytes.len() == payload.length) {
                return Err(next);
            }
            next = following;
        }
        Ok(bytes)
    }
}
