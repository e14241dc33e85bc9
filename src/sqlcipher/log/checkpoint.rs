//! Keeping the write-ahead log short, in the background.
//!
//! SQLite copies a long log into the file inside the commit that made it long, and that caller waits for the disk. Here a
//! connection of its own does it: first everything there is, which keeps nobody from reading or writing; then, with the
//! lock of the writer, the little that was added meanwhile, so that the next write can start the log over. Without the
//! second step a log under constant writing would never start over.
//!
//! When a checkpoint fails, what it and those before it wrote into the file may be lost, whatever a later sync says. The
//! log still has all of it, and is copied anew from its beginning before it may start over (`copy_anew`).

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, ffi};
use tokio::sync::Notify;

use crate::connector::{EngineEvent, EngineListener};
use crate::crypto::exit_gate;
use crate::errand;
use crate::error::{Error, Result};
use crate::sqlcipher::errors;
use crate::sqlcipher::ffi::wal_index::WalIndex;
use crate::sqlcipher::log::doubts::Doubts;
use crate::sqlcipher::log::syncs::Syncs;
use crate::sqlcipher::opening::opened::Opened;

/// So many frames (pages) in the log are worth copying; SQLite's own figure.
pub(crate) const WORTH_COPYING: u32 = 1000;

/// The first step is repeated, so often at most, as long as more than so many frames are added meanwhile: the writer waits for the
/// second.
const PASSES: u32 = 3;
const LITTLE: u32 = 150;

/// How long the second step waits for a moment between two writes.
const PATIENCE: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_micros(100);

/// What is known of one database's log.
///
/// `busy` is let go before those who wait are woken, and they look at it after they have asked to be woken: the lock inside
/// of [`Notify`] orders the two. The numbers (`Relaxed`) decide only when to begin, and each call brings its own.
#[derive(Debug)]
pub(crate) struct Log {
    busy: AtomicBool,
    /// Wakes when it is no longer busy.
    done: Notify,
    /// With so many frames it is looked after again: more, if the last attempt left some.
    threshold: AtomicU32,
    /// The file may lack what was copied into it.
    doubts: Doubts,
    /// Its index is in the memory of one connection, which copies it by itself. Set before that connection is lent, and the
    /// lending hands the settings on with it; so nothing rests on the order here, which is the strongest one.
    private: AtomicBool,
    failures: AtomicU64,
    /// How many frames the file did not have when something was last written or copied.
    frames: AtomicU32,
    syncs: Arc<Syncs>,
    /// Who is told of what becomes of it.
    listener: OnceLock<EngineListener>,
}

/// What those who observe are to be told, under no lock.
#[must_use]
#[derive(Debug)]
pub(crate) struct EngineNews {
    events: Vec<EngineEvent>,
    listener: EngineListener,
}

impl EngineNews {
    #[cold]
    pub(crate) fn tell(self) {
        self.events.iter().for_each(|event| self.listener.tell(event));
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            busy: AtomicBool::new(false),
            done: Notify::new(),
            threshold: AtomicU32::new(WORTH_COPYING),
            doubts: Doubts::default(),
            private: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            frames: AtomicU32::new(0),
            syncs: Arc::default(),
            listener: OnceLock::new(),
        }
    }
}

impl Log {
    /// How many checkpoints have failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// How many frames the file did not have when something was last written or copied; 0 where SQLite copies at commits.
    pub(crate) fn frames(&self) -> u32 {
        self.frames.load(Relaxed)
    }

    /// Whether we work on it, and may have the lock of the writer for as long as two syncs take.
    pub(crate) fn is_being_copied(&self) -> bool {
        self.busy.load(SeqCst)
    }

    /// Somebody is told from now on, also of snapshots that are kept of it.
    pub(crate) fn observed(&self, listener: EngineListener) {
        self.listener.set(listener).ok();
    }

    pub(crate) fn listener(&self) -> Option<&EngineListener> {
        self.listener.get()
    }

    #[cold]
    pub(crate) fn news(&self, events: Vec<EngineEvent>) -> Option<EngineNews> {
        self.listener().map(|listener| EngineNews { events, listener: listener.clone() })
    }

    /// The syncs of commits that share them.
    pub(crate) fn syncs(&self) -> &Arc<Syncs> {
        &self.syncs
    }

    /// The database has one connection, which keeps the index to itself.
    pub(crate) fn make_private(&self) {
        self.private.store(true, SeqCst);
    }

    pub(crate) fn is_private(&self) -> bool {
        self.private.load(SeqCst)
    }

    /// The index of the log, where others see it too. To look for one that is private would make another.
    pub(crate) fn index(&self, connection: &Connection) -> Option<WalIndex> {
        if self.is_private() { None } else { WalIndex::of(connection) }
    }

    /// Copies what no reader keeps from being copied, and more in other modes; says how many frames of the log are not in
    /// the file. What is to be told of it is added to `news`.
    pub(crate) fn checkpoint(
        &self,
        connection: &Connection,
        mode: &str,
        news: &mut Vec<EngineEvent>,
    ) -> rusqlite::Result<u32> {
        if self.listener().is_none() {
            return self.copy(connection, mode);
        }
        let pending = || self.index(connection).map(|index| index.pending(&index.mark()));
        let (before, began) = (pending(), Instant::now());
        let copied = self.copy(connection, mode);
        let (took, left) = (began.elapsed(), copied.as_ref().map_or_else(|_| pending().unwrap_or(0), |left| *left));
        let error = copied.as_ref().err().map(classified);
        news.push(EngineEvent::LogCopied {
            frames: before.map(|before| before.saturating_sub(left)),
            left,
            took,
            error,
        });
        copied
    }

    fn copy(&self, connection: &Connection, mode: &str) -> rusqlite::Result<u32> {
        if !self.is_trusted(connection) {
            let why = if self.syncs.have_failed() {
                "a sync of the log failed, and it has to be written anew before it is copied"
            } else {
                "another process copies the log, which has to be copied anew after a failure"
            };
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), Some(why.into())));
        }
        let copied = synced(connection, || {
            connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), (), |row| {
                let (busy, frames, copied): (bool, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                // While another process copies, SQLite says neither how long the log is nor how much of it is copied.
                let left = if busy && frames < 0 { None } else { Some(u32::try_from(frames - copied).unwrap_or(0)) };
                Ok(left)
            })
        });
        let unknown = || self.index(connection).map_or(1, |index| index.pending(&index.mark()));
        let copied = copied.map(|left| left.unwrap_or_else(unknown));
        if let Ok(left) = copied {
            self.frames.store(left, Relaxed);
            if left == 0 {
                self.threshold.store(WORTH_COPYING, Relaxed);
            }
        }
        if let Err(error) = &copied
            && !matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OperationInterrupted)
            )
        {
            self.failures.fetch_add(1, Relaxed);
            if error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_FSYNC)
                && syncs_no_commits(connection)
            {
                self.syncs.note_failure(error);
            }
            self.distrust(connection);
            tracing::error!(
                database = connection.path(), %error,
                "a checkpoint failed; the log is kept and copied anew; look in the system's log for the disk"
            );
        }
        copied
    }

    /// After an error of the disk: nothing that was copied into the file so far is relied on.
    pub(crate) fn distrust(&self, connection: &Connection) {
        // In memory there is no log. A private index counts as copied only what was synced, as nobody else copies.
        let Some(index) = self.index(connection) else { return };
        let (doubt, _first) = self.doubts.raise();
        if index.copy_anew(connection) {
            self.doubts.settle(doubt);
        }
    }

    /// The same after an error of a connection that has no index of the log any more: the next to copy begins anew.
    pub(crate) fn distrust_unseen(&self) {
        self.doubts.raise();
    }

    /// Whether a checkpoint copies all that may be missing in the file. If another one is under way, waits a moment for
    /// its end.
    pub(crate) fn is_trusted(&self, connection: &Connection) -> bool {
        if self.syncs.have_failed() {
            return false;
        }
        let Some(doubt) = self.doubts.last() else { return true };
        let Some(index) = self.index(connection) else { return false };
        let until = Instant::now() + PATIENCE;
        loop {
            if index.copy_anew(connection) {
                self.doubts.settle(doubt);
                return true;
            }
            if Instant::now() >= until || exit_gate::is_closed() {
                return false;
            }
            thread::sleep(PAUSE);
        }
    }
}

/// The same error for those who observe.
fn classified(error: &rusqlite::Error) -> Error {
    let (code, message) = match error {
        rusqlite::Error::SqliteFailure(code, message) => (*code, message.clone()),
        _ => (ffi::Error::new(ffi::SQLITE_ERROR), None),
    };
    errors::classify(rusqlite::Error::SqliteFailure(code, message))
}

/// Copies on a connection that syncs meanwhile, whatever its user has told it. The log starts over when all of it was
/// copied; without a sync a power failure would then take what others were told is done.
fn synced<T>(connection: &Connection, copy: impl FnOnce() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let level: i64 = connection.query_row("PRAGMA synchronous", (), |row| row.get(0))?;
    if level > 0 {
        return copy();
    }
    sync_again(connection)?;
    let copied = copy();
    connection.execute_batch("PRAGMA synchronous = OFF").ok();
    copied
}

/// Whether the log is synced by checkpoints only, so that one that failed may have lost commits.
fn syncs_no_commits(connection: &Connection) -> bool {
    connection.query_row("PRAGMA synchronous", (), |row| row.get::<_, i64>(0)).is_ok_and(|level| level < 2)
}

/// For a session whose user may have switched syncs off.
pub(crate) fn sync_again(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA synchronous = EXTRA")
}

impl Opened {
    /// Called after a write with the number of frames that the file does not have yet.
    pub(crate) fn look_after_log(self: &Arc<Self>, frames: u32) {
        let log = self.log();
        let before = log.frames.swap(frames, Relaxed);
        // None: an altered session does not tell.
        if frames > 0 && frames < before {
            // It has started over, or somebody has copied it: what was in the way is gone.
            log.threshold.store(WORTH_COPYING, Relaxed);
        }
        let due = frames >= log.threshold.load(Relaxed) && !log.busy.load(SeqCst);
        if !due || log.busy.swap(true, SeqCst) {
            return;
        }
        let turn = CopyTurn(Arc::clone(self));
        // Nobody waits for it.
        drop(errand::send(move || {
            let mut news = Vec::new();
            let left = turn.0.shorten_log(&mut news).unwrap_or_else(|error| {
                tracing::debug!(%error, "the log was not copied into the file; it grows until the next attempt");
                frames
            });
            let threshold = if left == 0 { WORTH_COPYING } else { left.saturating_add(WORTH_COPYING) };
            turn.0.log().threshold.store(threshold, Relaxed);
            if let Some(news) = turn.0.log().news(news) {
                news.tell();
            }
        }));
    }

    /// Waits until nobody works on the log.
    pub(crate) async fn log_is_left_alone(&self) {
        let log = self.log();
        loop {
            let mut done = std::pin::pin!(log.done.notified());
            done.as_mut().enable();
            if !log.busy.load(SeqCst) {
                return log.syncs.are_done().await;
            }
            done.await;
        }
    }

    /// Copies the log into the file, and says how many frames are left. Blocks.
    fn shorten_log(&self, news: &mut Vec<EngineEvent>) -> Result<u32> {
        let _pass = exit_gate::enter();
        self.refuse_child()?;
        let (connection, mut writer) = (self.open_for_checkpoints()?, self.open_for_checkpoints()?);
        // What it says of frames left does not count those that were added while it worked.
        let mut left = self.log().checkpoint(&connection, "PASSIVE", news).map_err(errors::classify)?;
        for _ in 1..PASSES {
            if self.log().index(&connection).is_none_or(|index| index.pending(&index.mark()) <= LITTLE) {
                break;
            }
            left = self.log().checkpoint(&connection, "PASSIVE", news).map_err(errors::classify)?;
        }
        // SQLite's own pauses grow, and the moments between two groups of writes are short.
        let until = Instant::now() + PATIENCE;
        let again = move |_| {
            thread::sleep(PAUSE);
            Instant::now() < until && !exit_gate::is_closed()
        };
        let locked = writer.busy_handler(Some(again)).and_then(|()| writer.execute_batch("BEGIN IMMEDIATE"));
        match locked {
            // A checkpoint in mode FULL would take this lock too, but keep it while it waits for readers.
            Ok(()) => self.log().checkpoint(&connection, "PASSIVE", news).map_err(errors::classify),
            Err(_busy) => Ok(left.max(1)),
        }
    }
}

/// Whoever works on the log; ends also by a panic.
struct CopyTurn(Arc<Opened>);

impl Drop for CopyTurn {
    fn drop(&mut self) {
        let log = self.0.log();
        log.busy.store(false, SeqCst);
        log.done.notify_waiters();
    }
}
