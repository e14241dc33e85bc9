//! Copying the pages of an encrypted file as they stand there, under their seals: the copy has the same key.
//!
//! SQLite's own way decrypts each page and encrypts it again. Here a read transaction is open, and the index of the log says
//! which state it sees. A page of that state is as the last frame of the log has it, or else as the file has it, and both
//! stay while the transaction is open:
//!
//! - The log does not start over, and whoever copies it into the file copies nothing behind the mark of a reader. So what is
//!   written into the file meanwhile are pages that the log has, and those are taken from there.
//! - If all of the log was in the file when the transaction began, it sees the file alone, and nobody copies anything into that.
//!   The log may start over, so it is not looked at.
//!
//! What is in the file later tells nothing: of a page that was written again since, whoever copies leaves out the frame that
//! counts here, and counts it as copied.
//!
//! Where a page is not there, or was never written, the engine is to say what it makes of that. Seals are looked at when the copy
//! is whole, on what was written; if one is wrong there, `first_broken` tells whether it is so in the original.
//!
//! Source: "WAL-mode File Format", sections 1, 2.3 and 4; `walTryBeginRead`, `walCheckpoint` and `walRestartLog` in `wal.c`.

use std::collections::HashMap;

use rusqlite::Connection;

use super::draft::Draft;
use super::watcher::Watcher;
use crate::connector::BackupStage;
use crate::error::Result;
use crate::sqlcipher::cipher::{KeySpec, PageCipher};
use crate::sqlcipher::errors::{self, classify};
use crate::sqlcipher::ffi::header;
use crate::sqlcipher::ffi::wal_index::Mark;
use crate::sqlcipher::os::is_full;

/// The log's header, and that of each frame.
const HEADER: i64 = 32;
const FRAME: usize = 24;

/// The most that is read at a time.
pub(super) const RUN: usize = 1 << 18;

/// Locks of the file lie here, and the page around them is never used.
pub(super) const LOCKS_AT: usize = 1 << 30;

/// How many frames are looked at between two looks at whether to stop.
const FRAMES_AT_A_TIME: u32 = 1024;

/// Is given pages, with the number of those before, and says which one is not as it should be.
type TakeRun<'t> = dyn FnMut(u32, &mut [u8]) -> Result<Option<u32>> + 't;

pub(super) struct SealedPages<'c> {
    connection: &'c Connection,
    cipher: PageCipher,
    size: usize,
    count: u32,
    /// Of the frames that count.
    salt: [u8; 8],
    /// Where in the log the last frame of a page begins.
    newer: HashMap<u32, i64>,
}

impl<'c> SealedPages<'c> {
    /// What `connection`, which has `key`, sees in its open transaction: the state that `mark` is of, for which a reader
    /// depended on `frames` of the log. `None`: the log is not what its index said.
    pub(super) fn seen(
        connection: &'c Connection,
        mark: &Mark,
        frames: u32,
        key: &KeySpec,
        look: &Watcher<'_>,
    ) -> Result<Option<Self>> {
        let (cipher, newer) = (PageCipher::new(key)?, HashMap::new());
        // The index of an empty log knows nothing of the file.
        let count: i64 = connection.query_row("PRAGMA page_count", (), |row| row.get(0)).map_err(classify)?;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let mut seen = Self { connection, cipher, size: key.page_size(), count, salt: mark.salt(), newer };
        let length = i64::try_from(FRAME + seen.size).unwrap_or(i64::MAX);
        for frame in 0..frames {
            if frame % FRAMES_AT_A_TIME == 0 {
                look.pause()?;
            }
            let at = HEADER + i64::from(frame) * length;
            let Some(number) = seen.page_of(at)? else { return Ok(None) };
            seen.newer.insert(number, at);
        }
        Ok(Some(seen))
    }

    /// Of which page this frame is. `None`: it does not count.
    fn page_of(&self, at: i64) -> Result<Option<u32>> {
        let mut head = [0; FRAME];
        let is_read = header::read_log_at(self.connection, at, &mut head).map_err(classify)?;
        let number = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        Ok((is_read && head[8..16] == self.salt).then_some(number))
    }

    /// Writes them into the empty draft. `Some`: a page is not as it should be, and what was written is nothing.
    pub(super) fn copy(&self, draft: &Draft, step: u32, look: &mut Watcher<'_>) -> Result<Option<u32>> {
        self.runs(step, &mut |before, run| {
            let at = u64::from(before) * self.size as u64;
            let full = |why| if is_full(&why) { errors::full(&why) } else { errors::failed(&why) };
            draft.write(at, run).map_err(full)?;
            let done = u64::from(before) + (run.len() / self.size) as u64;
            look.at(BackupStage::Pages, done, u64::from(self.count))?;
            Ok(None)
        })
    }

    /// The first page that fails its seal.
    pub(super) fn first_broken(&self, look: &Watcher<'_>) -> Result<Option<u32>> {
        self.runs(u32::MAX, &mut |before, run| {
            look.pause()?;
            let mut pages = (before + 1..).zip(run.chunks_exact_mut(self.size));
            let is_broken = |number, page| !self.is_of_locks(number) && !self.cipher.is_sealed(number, page);
            Ok(pages.find_map(|(number, page)| is_broken(number, page).then_some(number)))
        })
    }

    /// Reads all pages, at most `step` at a time, and gives them on with the number of those before, until one is found that is not as it
    /// should be.
    fn runs(&self, step: u32, take: &mut TakeRun<'_>) -> Result<Option<u32>> {
        let step = step.clamp(1, u32::try_from(RUN / self.size).unwrap_or(1));
        let (mut run, mut done) = (vec![0; step as usize * self.size], 0);
        while done < self.count {
            let count = step.min(self.count - done).min(self.before_locks(done));
            let run = &mut run[..count as usize * self.size];
            let found = match self.read(done + 1, run)? {
                None => take(done, run)?,
                found => found,
            };
            if found.is_some() {
                return Ok(found);
            }
            done += count;
        }
        Ok(None)
    }

    /// Reads pages from `first` on, and says which one is not there as it should be.
    fn read(&self, first: u32, run: &mut [u8]) -> Result<Option<u32>> {
        if self.is_of_locks(first) {
            run.fill(0);
            return Ok(None);
        }
        let at = i64::from(first - 1) * i64::try_from(self.size).unwrap_or(i64::MAX);
        // What the file does not have is zeros.
        header::read_at(self.connection, at, run).map_err(classify)?;
        for (number, page) in (first..).zip(run.chunks_exact_mut(self.size)) {
            if let Some(at) = self.newer.get(&number) {
                let bytes_at = at + i64::try_from(FRAME).unwrap_or(0);
                let is_read = header::read_log_at(self.connection, bytes_at, page).map_err(classify)?;
                // A frame is written from its head on, so what was read before is of the same round.
                if !is_read || self.page_of(*at)? != Some(number) {
                    return Ok(Some(number));
                }
            }
            if page.iter().all(|byte| *byte == 0) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// How many pages are read at once behind so many: Windows refuses to read what somebody has locked.
    fn before_locks(&self, done: u32) -> u32 {
        let locks = u32::try_from(LOCKS_AT / self.size).unwrap_or(u32::MAX);
        match locks.checked_sub(done) {
            Some(0) => 1,
            Some(pages) => pages,
            None => u32::MAX,
        }
    }

    fn is_of_locks(&self, number: u32) -> bool {
        number as usize - 1 == LOCKS_AT / self.size
    }
}
