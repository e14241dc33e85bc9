//! Commits of other processes, noticed by SQLite's own mark of change.
//!
//! The index of the log counts commits, of every process. So whoever knows how many of them were its own, knows by a look at
//! mapped memory whether there were others. Source: `WalIndexHdr.iChange` in `wal.c`.

use crate::lock::Lock;
use crate::sqlcipher::running::engine::Engine;

/// The commits of one database's file that are accounted for.
#[derive(Debug, Default)]
pub(crate) struct Others(Lock<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The count that our own commits, and those of others that were told, explain.
    commits: Option<u32>,
    /// Work is done that may commit, so that the count may be ahead of what is known.
    working: bool,
    /// Others may have committed while nobody could count that.
    missed: bool,
}

impl Others {
    /// Starts to count.
    pub(super) fn begin(&self, engine: &Engine) {
        let now = commits(engine);
        let mut known = self.0.lock();
        if known.commits.is_none() {
            known.commits = now;
        }
    }

    /// Nobody of this process had the file open.
    pub(super) fn missed(&self) {
        let mut known = self.0.lock();
        known.missed = known.commits.is_some();
    }

    pub(crate) fn working(&self) {
        self.0.lock().working = true;
    }

    /// Nothing runs any more, and so many commits were our own.
    pub(super) fn rest(&self, own: u32) {
        let mut known = self.0.lock();
        known.working = false;
        known.commits = known.commits.map(|commits| commits.wrapping_add(own));
    }

    /// Nobody listens any more.
    pub(super) fn forget(&self) {
        let mut known = self.0.lock();
        (known.commits, known.missed) = (None, false);
    }

    /// Whether others have committed since the last look. A connection without the index asks SQLite, and the first time
    /// that it is asked, it may have missed something.
    pub(crate) fn look(&self, engine: &mut Engine) -> bool {
        let Some(now) = commits(engine) else {
            let version = engine.data_version();
            return std::mem::replace(&mut engine.seen_version, version) != version;
        };
        let mut known = self.0.lock();
        if known.working {
            return false;
        }
        let missed = std::mem::take(&mut known.missed);
        known.commits.replace(now).is_some_and(|before| before != now || missed)
    }
}

fn commits(engine: &Engine) -> Option<u32> {
    engine.session.index().map(|index| index.mark().commits())
}
