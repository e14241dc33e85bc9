//! Keeping the write-ahead log short, in the background.
//!
//! SQLite copies a long log into the file inside the commit that made it long, and that caller waits for the disk. Here a
//! connection of its own does it: first everything there is, which keeps nobody from reading or writing; then, with the
//! lock of the writer, the little that was added meanwhile, so that the next write can start the log over. Without the
//! second step a log under constant writing would never start over.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::Notify;

use super::errand;
use super::errors;
use super::ffi::exit_gate;
use super::opening::Opened;
use crate::Result;

/// So many frames (pages) in the log are worth copying; SQLite's own figure.
pub(super) const WORTH_COPYING: u32 = 1000;

/// How long the second step waits for a moment between two writes.
const PATIENCE: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_micros(100);

/// What is known of one database's log.
#[derive(Debug)]
pub(super) struct Log {
    busy: AtomicBool,
    /// Wakes when it is no longer busy.
    done: Notify,
    /// With so many frames it is looked after again: more, if the last attempt left some.
    threshold: AtomicU32,
}

impl Default for Log {
    fn default() -> Self {
        Self { busy: AtomicBool::new(false), done: Notify::new(), threshold: AtomicU32::new(WORTH_COPYING) }
    }
}

impl Opened {
    /// Called after a write with the number of frames that the file does not have yet.
    pub(super) fn look_after_log(self: &Arc<Self>, frames: u32) {
        let log = self.log();
        let due = frames >= log.threshold.load(Relaxed) && !log.busy.load(SeqCst);
        if !due || log.busy.swap(true, SeqCst) {
            return;
        }
        let turn = Turn(Arc::clone(self));
        // Nobody waits for it.
        drop(errand::send(move || {
            let left = turn.0.shorten_log().unwrap_or_else(|error| {
                tracing::debug!(%error, "the log was not copied into the file; it grows until the next attempt");
                frames
            });
            let threshold = if left == 0 { WORTH_COPYING } else { left.saturating_add(WORTH_COPYING) };
            turn.0.log().threshold.store(threshold, Relaxed);
        }));
    }

    /// Waits until nobody works on the log.
    pub(super) async fn log_is_left_alone(&self) {
        let log = self.log();
        loop {
            let mut done = std::pin::pin!(log.done.notified());
            done.as_mut().enable();
            if !log.busy.load(SeqCst) {
                return;
            }
            done.await;
        }
    }

    /// Copies the log into the file, and says how many frames are left. Blocks.
    fn shorten_log(&self) -> Result<u32> {
        let _pass = exit_gate::enter();
        self.refuse_child()?;
        let connection = self.open_for_checkpoints()?;
        // What it says of frames left does not count those that were added while it worked.
        let left = checkpoint(&connection).map_err(errors::classify)?;
        let mut writer = self.open_for_checkpoints()?;
        // SQLite's own pauses grow, and the moments between two groups of writes are short.
        let until = Instant::now() + PATIENCE;
        let again = move |_| {
            thread::sleep(PAUSE);
            Instant::now() < until && !exit_gate::is_closed()
        };
        let locked = writer.busy_handler(Some(again)).and_then(|()| writer.execute_batch("BEGIN IMMEDIATE"));
        match locked {
            // A checkpoint in mode FULL would take this lock too, but keep it while it waits for readers.
            Ok(()) => checkpoint(&connection).map_err(errors::classify),
            Err(_busy) => Ok(left.max(1)),
        }
    }
}

/// Whoever works on the log; ends also by a panic.
struct Turn(Arc<Opened>);

impl Drop for Turn {
    fn drop(&mut self) {
        let log = self.0.log();
        log.busy.store(false, SeqCst);
        log.done.notify_waiters();
    }
}

/// Copies what no reader keeps from being copied; says how many frames of the log are not in the file.
fn checkpoint(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |row| {
        let (frames, copied): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(u32::try_from(frames - copied).unwrap_or(0))
    })
}
