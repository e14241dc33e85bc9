//! What the engine has done, counted where it gets in nobody's way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rusqlite::Connection;

use super::ffi::page_cache;
use crate::lock::Lock;

/// What the engine of one database has done since it was opened, over all its connections, and the state of its log.
///
/// Read by [`AsyncDatabase::engine_stats`](crate::AsyncDatabase::engine_stats). Numbers of calls that run at this moment
/// may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Runs of a statement that was prepared already.
    pub statement_hits: u64,
    /// Runs of a statement that had to be prepared first; see [`Tuning::statement_cache`](crate::sqlcipher::Tuning::statement_cache).
    pub statement_misses: u64,
    /// Statements, and slices of bulk inserts, that ran on the task of their caller or of the driver of the write lane.
    pub inline_runs: u64,
    /// Of those, reads that found their read transaction still open and current.
    pub snapshot_hits: u64,
    /// Pages that statements wanted and found in the cache of their connection. Asked after every sixteenth statement of a
    /// connection, so the last ones may be missing.
    pub page_cache_hits: u64,
    /// Pages that had to be read from the files, and deciphered; see [`Tuning::cache_kib`](crate::sqlcipher::Tuning::cache_kib).
    pub page_cache_misses: u64,
    /// Transactions in which several callers' statements were committed together.
    pub groups: u64,
    /// The statements in them.
    pub grouped_statements: u64,
    /// The size of the write-ahead log's file in bytes. It stays as large as it was once, up to
    /// [`Tuning::journal_size_limit`](crate::sqlcipher::Tuning::journal_size_limit), and is written over from its beginning.
    pub wal_bytes: u64,
    /// Checkpoints that failed, mostly by an error of the disk. Nothing is lost by that: the log is kept, and copied into
    /// the file anew. Each is also told to `tracing` as an error.
    pub failed_checkpoints: u64,
    /// For how long the oldest loan of a reader has lasted. While a reader is in a transaction, the log cannot start over
    /// and grows.
    pub oldest_reader: Option<Duration>,
}

/// Counts of one connection. Only the holder of the engine adds to them.
#[derive(Debug, Default)]
pub(super) struct Tally {
    hits: Count,
    misses: Count,
    pub(super) inline: Count,
    pub(super) kept: Count,
    pages_found: Count,
    pages_read: Count,
    pub(super) groups: Count,
    pub(super) grouped: Count,
}

/// Written under the engine's lock alone. Read without it: a single number, which may be a little old.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: usize) {
        // Nobody else writes, so this need not be one step, which would cost as much as the rest of a short read.
        self.0.store(self.get() + more as u64, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Tally {
    /// Counts a statement that runs, and every so often what those before it wanted of the page cache, which costs as much as
    /// a twentieth of a short read.
    pub(super) fn run(&self, connection: &Connection, is_prepared: bool) {
        if is_prepared { &self.hits } else { &self.misses }.add(1);
        if (self.hits.get() + self.misses.get()).is_multiple_of(16) {
            let [found, read] = page_cache::asked(connection);
            self.pages_found.add(found);
            self.pages_read.add(read);
        }
    }

    fn count_in(&self, stats: &mut EngineStats) {
        stats.statement_hits += self.hits.get();
        stats.statement_misses += self.misses.get();
        stats.inline_runs += self.inline.get();
        stats.snapshot_hits += self.kept.get();
        stats.page_cache_hits += self.pages_found.get();
        stats.page_cache_misses += self.pages_read.get();
        stats.groups += self.groups.get();
        stats.grouped_statements += self.grouped.get();
    }
}

/// The tallies of one database.
#[derive(Debug, Default)]
pub(super) struct Tallies(Lock<(EngineStats, Vec<Arc<Tally>>)>);

impl Tallies {
    /// One for a new connection.
    pub(super) fn open(&self) -> Arc<Tally> {
        let mut all = self.0.lock();
        let (gone, open) = &mut *all;
        open.retain(|tally| {
            let is_open = Arc::strong_count(tally) > 1;
            if !is_open {
                tally.count_in(gone);
            }
            is_open
        });
        let tally = Arc::new(Tally::default());
        open.push(Arc::clone(&tally));
        tally
    }

    pub(super) fn stats(&self) -> EngineStats {
        let all = self.0.lock();
        let mut stats = all.0;
        all.1.iter().for_each(|tally| tally.count_in(&mut stats));
        stats
    }
}
