//! Who may stop a copy, and who is told how far it is.

use std::time::{Duration, Instant};

use crate::connector::{BackupProgress, BackupStage};
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::sqlcipher::running::control::Control;

/// Whether to go on, asked between two steps; and who is told how far it is.
pub(super) struct Watcher<'a> {
    control: &'a Control,
    progress: &'a mut (dyn FnMut(BackupProgress) + Send),
    /// Since when the log cannot start over, and for how long it may.
    pub(super) held: Option<(Instant, Duration)>,
}

impl<'a> Watcher<'a> {
    /// Of a copy that holds up no log.
    pub(super) fn new(control: &'a Control, progress: &'a mut (dyn FnMut(BackupProgress) + Send)) -> Self {
        Self { control, progress, held: None }
    }

    pub(super) fn at(&mut self, stage: BackupStage, done: u64, total: u64) -> Result<()> {
        self.pause()?;
        // The rows of a copy are looked at without being counted.
        if total > 0 {
            (self.progress)(BackupProgress::new(stage, done, total));
        }
        Ok(())
    }

    pub(super) fn pause(&self) -> Result<()> {
        if self.control.should_stop() {
            return Err(Error::new(ErrorKind::Cancelled, "the copy was stopped before its end"));
        }
        match self.held {
            Some((since, limit)) if since.elapsed() > limit => {
                let message = format!("the copy would keep the log from starting over for longer than {limit:?}");
                Err(Error::new(ErrorKind::Timeout, message)
                    .because(Reason::RolledBack)
                    .hint("raise hold_log_at_most(), or copy when less is written"))
            }
            _ => Ok(()),
        }
    }
}
