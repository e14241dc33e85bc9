//! What can be tuned, and what each choice costs.

use std::time::Duration;

use super::short_cuts::is_on;

/// SQLite counts the milliseconds of a wait in 32 bits.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

/// Settings of the SQLite engine. The defaults suit an encrypted file on a disk.
///
/// ```
/// use strongroom::sqlcipher::{Synchronous, Tuning};
///
/// let tuning = Tuning::default().synchronous(Synchronous::Normal).cache_kib(32 * 1024);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches, each set by its own name")]
pub struct Tuning {
    pub(super) synchronous: Synchronous,
    pub(super) cache_kib: u32,
    pub(super) statement_cache: usize,
    pub(super) busy_timeout: Duration,
    pub(super) journal_size_limit: u64,
    pub(super) inline_reads: bool,
    pub(super) inline_writes: bool,
    pub(super) commit_in_place: bool,
    pub(super) kept_snapshots: bool,
    pub(super) group_commit: bool,
    pub(super) checkpoints: Checkpoints,
    pub(super) memory_security: bool,
}

/// Who copies the write-ahead log into the file.
///
/// Source: "Write-Ahead Logging", section 2.1 ("Checkpointing"), in SQLite's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Checkpoints {
    /// A thread in the background, when 1000 pages are in the log, on a connection of its own. No caller waits for it,
    /// but for a moment between two writes in which the log's end is copied. The default.
    #[default]
    Background,
    /// The call whose commit makes the log 1000 pages long, after that commit; its caller waits.
    AtCommit,
    /// Nobody here, not even when the database is closed: for programs such as Litestream that copy the log elsewhere
    /// and must see all of it. If that program does not run, the log grows without end.
    External,
}

/// When a commit is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Synchronous {
    /// At the commit: what was acknowledged survives a power failure, on Apple's systems by `F_FULLFSYNC`. The default.
    #[default]
    Full,
    /// Like [`Full`](Self::Full) for whoever commits, and faster where many tasks do. Each call is answered when its commit is
    /// on disk. The next transaction does not wait for that, and one sync of the log serves all commits since the last one.
    /// For some milliseconds a read, of any process, can see a commit that a power failure would undo; its caller has not
    /// been answered yet. Under `Full` nobody sees that. Without a log whose index is shared (`exclusive()`), this is `Full`.
    ///
    /// When such a sync fails, all who wait for it are told that their outcome is unknown, and nothing more is written
    /// before the log has been written anew and synced. Another process that writes at this moment does not know. A
    /// transaction that its holder ends by hand, through the native connection, is as durable as under
    /// [`Normal`](Self::Normal).
    FullShared,
    /// At the next checkpoint: what was acknowledged survives a crash of the process but, of the last moments, not a
    /// power failure. The file stays consistent. Several times faster for single small writes.
    Normal,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            synchronous: Synchronous::Full,
            // Decrypting a page costs about 9 us; SQLite's default of 2 MiB makes an encrypted file pay it often.
            cache_kib: 16 * 1024,
            statement_cache: 128,
            busy_timeout: Duration::from_secs(5),
            journal_size_limit: 16 << 20,
            inline_reads: is_on("inline_reads"),
            inline_writes: is_on("inline_writes"),
            commit_in_place: false,
            kept_snapshots: is_on("kept_snapshots"),
            group_commit: is_on("group_commit"),
            checkpoints: if is_on("background_checkpoints") { Checkpoints::Background } else { Checkpoints::AtCommit },
            memory_security: false,
        }
    }
}

impl Tuning {
    /// When a commit is on disk.
    pub fn synchronous(self, synchronous: Synchronous) -> Self {
        Self { synchronous, ..self }
    }

    /// The page cache of each connection, in KiB; 16 MiB by default, at least 64 KiB.
    pub fn cache_kib(self, cache_kib: u32) -> Self {
        Self { cache_kib: cache_kib.clamp(64, i32::MAX.cast_unsigned()), ..self }
    }

    /// How many prepared statements each connection keeps; 128 by default.
    pub fn statement_cache(self, statements: usize) -> Self {
        Self { statement_cache: statements, ..self }
    }

    /// How long a statement waits for another *process* that holds the file; 5 s by default. Callers inside this
    /// process wait in the pool's queues instead. Opening a connection waits so long, too, and a lock that was waited for
    /// is not tried again, whatever the [`RetryPolicy`](crate::RetryPolicy) says of errors that may pass. 24 days at most.
    pub fn busy_timeout(self, busy_timeout: Duration) -> Self {
        Self { busy_timeout: busy_timeout.min(LONGEST), ..self }
    }

    /// Runs short reads on the calling task, without a thread in between; on by default. A read that takes longer than
    /// was learned of it, twenty microseconds to begin with, is stopped and runs again on a thread. Statements that take
    /// more than about a hundred run there from then on.
    pub fn inline_reads(self, on: bool) -> Self {
        Self { inline_reads: on, ..self }
    }

    /// Runs short writes on the calling task when the writer is free and a commit does not wait for the disk
    /// ([`Synchronous::Normal`]), and those that share such a commit on the task of one of them; on by default.
    ///
    /// These parts of a transaction run there in any case: its beginning, savepoints, and writes of one row that is found
    /// by its key, without triggers. Plain inserts of `execute_many` run there for a tenth of a millisecond at a time. A
    /// commit runs there if it does not wait for the disk and has little to write.
    pub fn inline_writes(self, on: bool) -> Self {
        Self { inline_writes: on, ..self }
    }

    /// Runs short writes on the calling task also where their commit waits for the disk ([`Synchronous::Full`]); off by
    /// default. The runtime gives that thread's other tasks to another thread meanwhile
    /// ([`block_in_place`](tokio::task::block_in_place)). A lone caller is answered sooner by two wake-ups of a thread,
    /// some 20 to 60 microseconds. Writes that share a commit and wait for the disk go to a thread in any case.
    ///
    /// In exchange, whatever else the same task does waits for the disk too: the other branches of a `select!` or `join!`,
    /// and a timeout around the call.
    ///
    /// It has an effect only with [`inline_writes`](Self::inline_writes), with [`Synchronous::Full`] (not `FullShared`), with
    /// a write-ahead log whose index is shared (not with `exclusive()`), and on a runtime with several threads. A `LocalSet`
    /// refuses it by a panic. The panic is caught, but the panic hook sees it; from then on that connection commits on a
    /// thread as ever.
    ///
    /// ```
    /// use strongroom::sqlcipher::Tuning;
    ///
    /// let tuning = Tuning::default().commit_in_place(true);
    /// ```
    pub fn commit_in_place(self, on: bool) -> Self {
        Self { commit_in_place: on, ..self }
    }

    /// Keeps the read transaction of a short read open for the next one, as long as nobody has committed anything in
    /// any process and for a few milliseconds at most; on by default. Every read still sees everything committed
    /// before it began. Needs [`inline_reads`](Self::inline_reads).
    pub fn kept_snapshots(self, on: bool) -> Self {
        Self { kept_snapshots: on, ..self }
    }

    /// Commits single statements that wait for the writer together, in one transaction; on by default. Each keeps its
    /// own result, and a failing one does not disturb the others.
    pub fn group_commit(self, on: bool) -> Self {
        Self { group_commit: on, ..self }
    }

    /// Wipes what SQLCipher frees, and tries to keep its memory out of swap (`PRAGMA cipher_memory_security`); off by
    /// default. After `close` no row stays in memory that the engine had; rows that were handed out are the caller's.
    /// Costs time for each page and statement. The switch is one for the whole process: once a database has turned it
    /// on, it stays on for all. Without SQLCipher it does nothing.
    pub fn memory_security(self, on: bool) -> Self {
        Self { memory_security: on, ..self }
    }

    /// Who copies the write-ahead log into the file: a thread in the background, by default.
    pub fn checkpoints(self, checkpoints: Checkpoints) -> Self {
        Self { checkpoints, ..self }
    }

    /// Turns all short cuts off: every call runs on a thread, in a transaction of its own, and a commit that makes the
    /// log long copies it.
    pub fn plain(self) -> Self {
        let slow = self.inline_reads(false).inline_writes(false).kept_snapshots(false).group_commit(false);
        slow.commit_in_place(false).checkpoints(Checkpoints::AtCommit)
    }

    /// The size in bytes that the write-ahead log is cut back to after a checkpoint; 16 MiB by default.
    pub fn journal_size_limit(self, bytes: u64) -> Self {
        Self { journal_size_limit: bytes.min(i64::MAX.cast_unsigned()), ..self }
    }
}

impl Synchronous {
    /// What tells a connection so. On Apple's systems `fsync` leaves what was written in the memory of the drive; the full
    /// one empties that too. Elsewhere SQLite knows no other, and nothing changes. Source: `full_fsync` in `os_unix.c`.
    ///
    /// `EXTRA` is `FULL` where there is a write-ahead log. Where there is none, it also syncs the directory after the journal
    /// was deleted, which is the commit: a journal that comes back after a power failure would undo it. Source:
    /// <https://sqlite.org/pragma.html#pragma_synchronous>.
    pub(super) fn pragmas(self) -> &'static str {
        match self {
            Self::Full | Self::FullShared => {
                "PRAGMA synchronous = EXTRA; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;"
            }
            Self::Normal => "PRAGMA synchronous = NORMAL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;",
        }
    }
}
