//! How a pool is suspended.

use std::time::Duration;

use tokio::time::Instant;

/// How a pool is suspended: for how long it waits for those who work, and who ends it.
///
/// ```
/// use std::time::Duration;
/// use strongroom::pool::SuspendOptions;
///
/// let options = SuspendOptions::new().limit(Duration::from_secs(2)).stop_late().until_resumed();
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct SuspendOptions {
    pub(super) limit: Duration,
    pub(super) stop_late: bool,
    pub(super) until_resumed: bool,
}

impl Default for SuspendOptions {
    fn default() -> Self {
        Self { limit: Self::LIMIT, stop_late: false, until_resumed: false }
    }
}

impl SuspendOptions {
    /// How long calls under way may take by default: as long as phones give a program that goes to the background.
    pub const LIMIT: Duration = Duration::from_secs(5);

    /// Waits for calls under way for [`LIMIT`](Self::LIMIT), and lets the next call open again.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long calls under way, open transactions, streams and borrowed connections may take to end. Then nothing is
    /// suspended. Copying the log and closing come after that and are not bounded by it.
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Stops what still runs at the limit, and what is begun on the same loans after that: those calls get
    /// [`Cancelled`](crate::ErrorKind::Cancelled), and the statement that was stopped has changed nothing. What a call had committed before that
    /// stays: statements of a script that ran outside of a transaction, and what a closure of `interact` committed.
    /// Who holds a connection without a call that could be stopped, as a transaction does between two statements, still
    /// keeps everything from being suspended.
    pub fn stop_late(self) -> Self {
        Self { stop_late: true, ..self }
    }

    /// Has calls wait until somebody resumes, instead of opening again for the first that comes. Their time to wait for a
    /// connection begins then; [`with_timeout`](crate::AsyncDatabase::with_timeout) bounds them nevertheless.
    pub fn until_resumed(self) -> Self {
        Self { until_resumed: true, ..self }
    }

    /// The same, for a caller whose own limit may be shorter.
    pub(crate) fn at_most(self, limit: Duration) -> Self {
        Self { limit: self.limit.min(limit), ..self }
    }

    /// When the limit has passed.
    pub(super) fn end(self) -> Option<Instant> {
        Instant::now().checked_add(self.limit)
    }
}
