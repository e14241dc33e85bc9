//! SQLite's own mark of change: the header of the shared index of the write-ahead log.
//!
//! Its first 48 bytes change with every commit of every process; SQLite makes the same comparison when a read begins.
//! Source: "WAL-mode File Format", section 2.2 ("The WAL-Index Header"), and `walIndexTryHdr` in `wal.c`.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rusqlite::{Connection, ffi};

use super::file;

const WORDS: usize = 12;

/// The one version of the index that this code knows; another one is not used.
const VERSION: u32 = 3_007_000;

/// The size of one region of the index, as SQLite itself asks for it.
const REGION: i32 = 32 * 1024;

/// A copy of the header at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Mark([u32; WORDS]);

impl Mark {
    /// A count that grows by one with every commit, of every process, and starts over when the index is made anew.
    pub(in super::super) fn commits(&self) -> u32 {
        self.0[2]
    }

    /// How many frames of the log count.
    pub(in super::super) fn frames(&self) -> u32 {
        self.0[4]
    }

    /// What each of these frames bears; the next round of the log has another.
    pub(in super::super) fn salt(&self) -> [u8; 8] {
        let mut salt = [0; 8];
        salt[..4].copy_from_slice(&self.0[8].to_ne_bytes());
        salt[4..].copy_from_slice(&self.0[9].to_ne_bytes());
        salt
    }

    /// Whether its sum is right, which its writer adds last.
    fn is_whole(&self) -> bool {
        let sums = self.0[..WORDS - 2].chunks_exact(2).fold((0_u32, 0_u32), |(one, two), pair| {
            let one = one.wrapping_add(pair[0]).wrapping_add(two);
            (one, two.wrapping_add(pair[1]).wrapping_add(one))
        });
        sums == (self.0[WORDS - 2], self.0[WORDS - 1])
    }
}

/// The mapped header. Dropped before its connection, which owns the mapping.
///
/// The order of its words in memory, on processors that reorder reads and writes (ARM):
/// - SQLite writes the second copy of the header, a full barrier, and then this one, with plain stores. Each commit changes the
///   count of commits, which is one word. So a copy of the header equals an older one only if that word was read before
///   the commit wrote it, whatever the other words were; and one word is never read older than what the reader has been
///   told of: a commit that happened before the look is seen, by whichever way the news came (a lock, a channel, a pipe).
/// - The barrier behind the loads (`Acquire`) keeps what is read afterwards, by SQLite too, from being read earlier. So the mark that
///   is taken before a transaction begins is never newer than what the transaction sees.
/// - The count of copied frames is one word, too. It is written under the lock of the checkpointer (an `fcntl` or a mutex,
///   which orders it for the next one), and SQLite reads it without one as we do: an older value has a reader look into
///   the log, or a writer copy the log once more.
#[derive(Debug)]
pub(in super::super) struct WalIndex {
    header: *const AtomicU32,
    /// Mapped for writing too.
    writable: bool,
}

// SAFETY: the mapping is shared memory that any thread of the process may read; it is read by atomic loads only.
unsafe impl Send for WalIndex {}

/// Maps the first region of the index, and says with which code SQLite answered. `None`: there are no indexes.
fn map(connection: &Connection) -> Option<(i32, *mut c_void)> {
    let file = file::of(connection).ok()?;
    let mut region: *mut c_void = ptr::null_mut();
    // SAFETY: SQLite owns the file object while the connection lives. `xShmMap` exists from version 2 of the methods
    // on. A connection that has read in WAL mode has the index open already, so the call makes no file; with `bExtend` 0
    // it adds no region to it. The connection is used by this thread only at this moment, as SQLite demands without its
    // own mutex.
    let code = unsafe {
        let methods = file.as_ref()?.pMethods.as_ref().filter(|methods| methods.iVersion >= 2)?;
        methods.xShmMap?(file, 0, REGION, 0, &raw mut region)
    };
    Some((code, region))
}

/// Whether somebody who may write works with the index of a connection that has read in WAL mode, and opened the index
/// only for reading.
pub(in super::super) fn is_shared(connection: &Connection) -> bool {
    // An index that was left behind answers SQLITE_READONLY_CANTINIT.
    map(connection).is_some_and(|(code, _)| matches!(code, ffi::SQLITE_OK | ffi::SQLITE_READONLY))
}

/// Whether the index was opened only for reading.
pub(in super::super) fn only_reads(connection: &Connection) -> bool {
    map(connection).is_some_and(|(code, _)| code & 0xFF == ffi::SQLITE_READONLY)
}

impl WalIndex {
    /// Finds the index of a connection that has read its database in WAL mode. `None` where there is none, or where it
    /// is of another version.
    pub(in super::super) fn of(connection: &Connection) -> Option<Self> {
        let (code, region) = map(connection)?;
        let writable = code == ffi::SQLITE_OK;
        let index = Self { header: region.cast::<AtomicU32>().cast_const(), writable };
        let is_mapped = (writable || code == ffi::SQLITE_READONLY) && !region.is_null();
        (is_mapped && index.mark().0[0] == VERSION).then_some(index)
    }

    /// Copies the header. A copy taken while somebody writes it differs from every complete one, or equals the one
    /// before a commit that nobody has been told of yet.
    pub(in super::super) fn mark(&self) -> Mark {
        self.copy(0)
    }

    /// The same if nobody writes the header at this moment: its two copies are equal and whole, as SQLite wants them.
    /// Source: `walIndexTryHdr` in `wal.c`.
    pub(in super::super) fn whole_mark(&self) -> Option<Mark> {
        let mark = self.copy(0);
        (mark == self.copy(1) && mark.is_whole()).then_some(mark)
    }

    /// One of the two copies of the header.
    fn copy(&self, number: usize) -> Mark {
        let mut words = [0; WORDS];
        for (at, word) in words.iter_mut().enumerate() {
            // SAFETY: the region is 32 KiB, aligned to a page, and stays mapped as long as the connection is open in
            // WAL mode, which outlives `self`.
            *word = unsafe { &*self.header.add(number * WORDS + at) }.load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        Mark(words)
    }

    /// How many of the log's frames are in the database file already: `nBackfill`, behind the two copies of the header.
    fn backfilled(&self) -> u32 {
        // SAFETY: as in `mark`; the word lies within the first region.
        unsafe { &*self.header.add(2 * WORDS) }.load(Ordering::Relaxed)
    }

    /// Has everything in the log copied anew by the next checkpoint, of any process. False while another checkpoint is
    /// under way.
    ///
    /// A checkpoint that cannot copy all of the log does not sync the file, but the next one goes on where it ended and
    /// syncs once for both. If that sync fails, the system may have dropped what both had written, and a later sync
    /// that succeeds says nothing about it. Source: `walCheckpoint` in `wal.c`; LWN on `fsync` in PostgreSQL, 2018.
    pub(in super::super) fn copy_anew(&self, connection: &Connection) -> bool {
        /// The lock of the checkpointer, which guards `nBackfill`.
        const CHECKPOINT: i32 = 1;
        let Some(file) = file::of(connection).ok().filter(|_| self.writable) else { return false };
        // SAFETY: SQLite owns the file object while the connection lives; `xShmLock` exists from version 2 of the
        // methods on, which `of` has seen. A connection holds this lock only inside of a checkpoint, and none runs on
        // this one now.
        let lock = |flags| unsafe {
            let methods = file.as_ref().and_then(|file| file.pMethods.as_ref());
            let lock = methods.filter(|methods| methods.iVersion >= 2).and_then(|methods| methods.xShmLock);
            lock.is_some_and(|lock| lock(file, CHECKPOINT, 1, flags | ffi::SQLITE_SHM_EXCLUSIVE) == ffi::SQLITE_OK)
        };
        if !lock(ffi::SQLITE_SHM_LOCK) {
            return false;
        }
        // Readers that begin now look into the log for everything. Those who began before read the file as they did.
        // SAFETY: as in `mark`; the word lies within the first region.
        unsafe { &*self.header.add(2 * WORDS) }.store(0, Ordering::SeqCst);
        lock(ffi::SQLITE_SHM_UNLOCK);
        true
    }

    /// How many frames of the log a reader that begins now would depend on. With all of them in the database file it
    /// reads that, and is in nobody's way when the log starts over.
    pub(in super::super) fn pending(&self, mark: &Mark) -> u32 {
        let frames = mark.frames();
        if self.backfilled() == frames { 0 } else { frames }
    }
}
