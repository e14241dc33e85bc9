//! Syncs of the log that several commits share, and what is done after one that failed, be it SQLite's own.
//!
//! Commits come in while a sync is under way, and the next one covers them all. The log has a descriptor of its own here:
//! a sync concerns the file, whichever descriptor wrote to it, and the system tells each descriptor of a failure once. Closing it costs
//! no lock, as SQLite locks the other two files only.
//!
//! A sync that failed may have lost what was written, and a later one that succeeds says nothing about that. Frames behind
//! a lost one would be lost too at the next recovery, however well they are synced. So after a failure nothing is
//! acknowledged, copied or written, until all of the log has been written once more and synced ([`write_anew`]). SQLite would
//! write over what it could not sync, but a connection that is opened first finds it in the log, and goes on behind it.
//! Source: LWN on `fsync` in PostgreSQL, 2018; `walIndexRecover` in `wal.c`.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{Notify, oneshot};

use crate::connector::PendingCommit;
use crate::errand;
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::lock::{Lock, foreign};
use crate::sqlcipher::errors::classify;
use crate::sqlcipher::log::doubts::Doubts;

/// The log of one writer, opened a second time.
pub(crate) type LogFile = Arc<File>;

/// What is written anew at a time.
const PIECE: usize = 1 << 20;

/// The commits of one database that wait for a sync.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    waiting: Lock<Waiting>,
    /// What was written last may be missing on the disk.
    doubts: Doubts,
    /// Wakes when no thread syncs any more.
    done: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    commits: Vec<(LogFile, oneshot::Sender<Result<()>>)>,
    /// A thread syncs, and comes back for what has been added.
    syncing: bool,
}

/// Opens the log for its syncs. The writer has it open, so it stays where it is.
pub(crate) fn open(log: &Path) -> io::Result<LogFile> {
    OpenOptions::new().read(true).write(true).open(log).map(Arc::new)
}

impl Syncs {
    /// Whether a sync has failed since the log was last written anew.
    pub(crate) fn have_failed(&self) -> bool {
        self.doubts.last().is_some()
    }

    /// Waits until no thread is at the log.
    pub(crate) async fn are_done(&self) {
        loop {
            let mut done = std::pin::pin!(self.done.notified());
            done.as_mut().enable();
            if !self.waiting.lock().syncing {
                return;
            }
            done.await;
        }
    }

    /// A sync for a commit that is in the log. It happens whether or not somebody waits for it.
    pub(crate) fn owe(self: &Arc<Self>, log: &LogFile) -> PendingCommit {
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        waiting.commits.push((Arc::clone(log), sender));
        let begins = !mem::replace(&mut waiting.syncing, true);
        drop(waiting);
        if begins {
            let turn = SyncTurn { syncs: Arc::clone(self), ended: false };
            // Each commit has its own answer.
            drop(errand::send(move || turn.work()));
        }
        PendingCommit::new(async { answer.await.map_err(|_| Error::panicked("sync of the log"))? })
    }

    /// Syncs on this thread.
    pub(crate) fn sync_now(&self, log: &File) -> Result<()> {
        let synced = if self.have_failed() { Err(unsynced()) } else { log.sync_data() };
        synced.map_err(|error| {
            self.note_failure(&error);
            unknown(&error)
        })
    }

    /// A sync failed, here or in SQLite.
    pub(crate) fn note_failure(&self, error: &dyn fmt::Display) {
        if self.doubts.raise().1 {
            tracing::error!(%error, "a sync of the log failed; nothing is written before it was written anew");
        }
    }

    /// There is no log any more that could be written anew.
    pub(crate) fn forget_failure(&self) {
        if let Some(doubt) = self.doubts.last() {
            self.doubts.settle(doubt);
        }
    }

    /// After a failure: writes the log once more, from what the system still has of it in memory, and syncs. `connection`
    /// is a writer, whose lock keeps others from adding to the log meanwhile.
    pub(crate) fn write_anew(&self, connection: &Connection, log: &File) -> Result<()> {
        let Some(doubt) = self.doubts.last() else { return Ok(()) };
        let refused = |error: Error| error.context("the log could not be written anew after a sync that failed");
        connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| refused(classify(error)))?;
        let written = rewrite(log).and_then(|()| log.sync_data());
        if written.is_ok() {
            self.doubts.settle(doubt);
        }
        let ended = connection.execute_batch("ROLLBACK").map_err(classify);
        written.map_err(|error| {
            let error = Error::new(ErrorKind::Storage, "the disk failed").because(Reason::Io).caused_by(error);
            refused(error.hint("look in the system's log for the disk").transient())
        })?;
        ended
    }
}

/// The turn of syncing; ends also by a panic.
struct SyncTurn {
    syncs: Arc<Syncs>,
    ended: bool,
}

impl SyncTurn {
    fn work(mut self) {
        loop {
            let mut waiting = self.syncs.waiting.lock();
            let commits = mem::take(&mut waiting.commits);
            waiting.syncing = !commits.is_empty();
            drop(waiting);
            if commits.is_empty() {
                self.ended = true;
                return self.syncs.done.notify_waiters();
            }
            let mut outcome: Option<(LogFile, Result<()>)> = None;
            foreign();
            for (log, sender) in commits {
                // A writer that was opened anew may have another log.
                let synced = match &outcome {
                    Some((same, synced)) if Arc::ptr_eq(same, &log) => synced.clone(),
                    _ => self.syncs.sync_now(&log),
                };
                drop(sender.send(synced.clone()));
                outcome = Some((log, synced));
            }
        }
    }
}

impl Drop for SyncTurn {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut waiting = self.syncs.waiting.lock();
        let lost = mem::take(&mut waiting.commits);
        waiting.syncing = false;
        drop(waiting);
        // Their callers are told that it panicked.
        drop(lost);
        self.syncs.done.notify_waiters();
    }
}

fn rewrite(log: &File) -> io::Result<()> {
    let (mut log, mut piece, mut at) = (log, vec![0; PIECE], 0);
    loop {
        log.seek(SeekFrom::Start(at))?;
        let read = log.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        log.seek(SeekFrom::Start(at))?;
        log.write_all(&piece[..read])?;
        at += read as u64;
    }
}

fn unsynced() -> io::Error {
    io::Error::other("an earlier sync of the log failed")
}

fn unknown(error: &io::Error) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        "the sync of the log failed; the commit may or may not outlive a power failure",
    )
    .because(Reason::Io)
    .hint("look in the database before trying again")
    .during(Phase::Commit)
    .caused_by(io::Error::new(error.kind(), error.to_string()))
}
