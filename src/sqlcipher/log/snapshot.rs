//! Read transactions that stay open between calls.
//!
//! Most of a short read is beginning and ending its transaction. A reader therefore keeps it open, and looks at SQLite's
//! own mark of change before each read: while nothing was committed, by this process or another, the old transaction
//! sees what a new one would.
//!
//! A kept transaction holds a lock that keeps the log from starting over. So it is kept only while the log is short, for
//! a few milliseconds at most, and given up before anything that must change the file as a whole.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};

use super::sweeper::{self, Swept};
use crate::crypto::exit_gate;
use crate::lock::Lock;
use crate::sqlcipher::running::job::Shared;

/// With this many frames in the log no transaction is kept: the log is copied at 1000, and can start over only when no reader is left in it.
pub(crate) const LONGEST_LOG: u32 = 900;

/// The readers of one database that may keep transactions.
///
/// A transaction is kept under the lock of its reader, and looked for under the same lock. Whoever raises `held_back` or lowers
/// `sweeping` does so before looking. So whoever keeps one either did so before that look, which then finds it, or takes the
/// lock after it, and sees the new value. That order comes from the lock, on every processor; a lock that is taken counts as
/// a transaction that is kept.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    /// While above 0, nothing is kept.
    held_back: AtomicUsize,
    readers: Lock<Vec<Weak<Shared>>>,
    sweeping: AtomicBool,
}

/// No transaction is kept while this lives.
#[derive(Debug)]
pub(crate) struct HeldBack<'a>(&'a Snapshots);

impl Snapshots {
    /// Looks after a reader from now on.
    pub(crate) fn register(&self, reader: &Arc<Shared>) {
        let mut readers = self.readers.lock();
        readers.retain(|known| known.strong_count() > 0 && known.as_ptr() != Arc::as_ptr(reader));
        readers.push(Arc::downgrade(reader));
    }

    /// Takes a reader out: nobody but its owner looks at it from now on.
    pub(crate) fn forget(&self, reader: &Arc<Shared>) {
        let mut readers = self.readers.lock();
        readers.retain(|known| known.as_ptr() != Arc::as_ptr(reader));
    }

    /// Whether a transaction may be kept now.
    pub(crate) fn allowed(&self) -> bool {
        self.held_back.load(SeqCst) == 0
    }

    /// Ends all kept transactions and keeps new ones from being kept.
    ///
    /// A reader whose engine is in use is left alone: a job has ended its kept transaction when it began, and what a
    /// short read may still keep, having asked a moment too early, the sweeper ends.
    pub(crate) fn revoke(&self) -> HeldBack<'_> {
        self.held_back.fetch_add(1, SeqCst);
        let held_back = HeldBack(self);
        for reader in self.readers() {
            let news = reader.try_lock().and_then(|mut engine| {
                engine.end_snapshot();
                engine.take_news()
            });
            if let Some(news) = news {
                news.tell();
            }
        }
        held_back
    }

    fn readers(&self) -> Vec<Arc<Shared>> {
        let readers = self.readers.lock();
        readers.iter().filter_map(Weak::upgrade).collect()
    }

    /// Sees to it that somebody ends what nobody uses. Called by whoever keeps a transaction.
    pub(crate) fn sweep(self: &Arc<Self>) {
        // Asked first, because a swap takes the cache line from the other cores with every read.
        if !self.sweeping.load(SeqCst) && !self.sweeping.swap(true, SeqCst) {
            let this: Weak<dyn Swept> = Arc::<Self>::downgrade(self);
            if !sweeper::send_for(&this) {
                // The next one that is kept asks again.
                self.sweeping.store(false, SeqCst);
            }
        }
    }

    /// Ends what was not used since the last time; says whether any is left.
    fn sweep_once(&self) -> bool {
        let mut left = false;
        for reader in self.readers() {
            let pass = exit_gate::enter();
            // A reader that is locked is in use.
            let (is_left, news) =
                reader.try_lock().map_or((true, None), |mut engine| (engine.sweep_snapshot(), engine.take_news()));
            drop((reader, pass));
            left |= is_left;
            if let Some(news) = news {
                news.tell();
            }
        }
        left
    }

    fn any_kept(&self) -> bool {
        self.readers().iter().any(|reader| reader.try_lock().is_none_or(|engine| engine.keeps_snapshot()))
    }
}

impl Swept for Snapshots {
    fn look(&self) -> bool {
        if self.sweep_once() {
            return true;
        }
        // Between the last look and this line somebody may have kept one and seen a sweeper at work.
        self.sweeping.store(false, SeqCst);
        self.any_kept() && !self.sweeping.swap(true, SeqCst)
    }
}

impl Drop for HeldBack<'_> {
    fn drop(&mut self) {
        self.0.held_back.fetch_sub(1, SeqCst);
    }
}
