//! How long an opening has waited for a lock.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};

/// Runs from the first look at the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    since: Instant,
    limit: Duration,
}

impl Patience {
    pub(super) fn begin(limit: Duration) -> Self {
        Self { since: Instant::now(), limit }
    }

    /// A lock that was waited for as long as the settings say is not worth another attempt, which would only wait as long
    /// again. SQLite refuses some locks without waiting, such as that for the change to another journal mode; and with a
    /// limit of zero, the pauses between the attempts are all the waiting there is.
    pub(super) fn settle(self, error: Error) -> Error {
        let is_over = !self.limit.is_zero() && self.since.elapsed() >= self.limit;
        if error.kind() == ErrorKind::Busy && is_over { error.permanent() } else { error }
    }
}
