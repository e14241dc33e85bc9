//! How far a change of key is.
//!
//! SQLCipher says nothing until it is done. What it writes goes to the log (or, in a rollback mode, what was there goes to the
//! journal), page by page, so the length of that tells.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::connector::{BackupProgress, BackupStage, TellProgress};
use crate::lock::foreign;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Tells how far it is. A change of key cannot be called off in the middle, so who panics is told nothing more.
pub(super) struct RekeyTeller(Option<TellProgress>);

impl RekeyTeller {
    pub(super) fn new(tell: Option<TellProgress>) -> Self {
        Self(tell)
    }

    pub(super) fn at(&mut self, stage: BackupStage, done: u64, total: u64) {
        let Some(tell) = &mut self.0 else { return };
        foreign();
        if catch_unwind(AssertUnwindSafe(|| tell(BackupProgress::new(stage, done, total)))).is_err() {
            tracing::warn!("who was told how far the change of key is panicked; it goes on without being told");
            self.0 = None;
        }
    }

    /// Runs `work`, which writes so many pages of so many bytes, and tells how many.
    pub(super) fn during<T>(&mut self, logs: &[PathBuf], pages: u64, page_size: u64, work: impl FnOnce() -> T) -> T {
        if self.0.is_none() {
            return work();
        }
        let written =
            || logs.iter().filter_map(|log| log.metadata().ok()).map(|log| log.len() / page_size).sum::<u64>();
        self.at(BackupStage::Pages, 0, pages);
        let teller = &mut *self;
        let done = thread::scope(|scope| {
            let (working, looks) = channel::<()>();
            let watch = move || {
                let mut last = 0;
                while looks.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    // The log has heads beside its pages.
                    let now = written().min(pages);
                    if now > last {
                        teller.at(BackupStage::Pages, now, pages);
                        last = now;
                    }
                }
            };
            foreign();
            let started = thread::Builder::new().name("strongroom-progress".into()).spawn_scoped(scope, watch);
            if let Err(error) = started {
                tracing::warn!(%error, "no thread to tell how far the change of key is");
            }
            let done = work();
            drop(working);
            done
        });
        self.at(BackupStage::Pages, pages, pages);
        done
    }
}
