//! How long an opening has waited for a lock.

use std::thread;
use std::time::{Duration, Instant};

use rusqlite::ErrorCode;

use super::reading::Failure;
use super::way::Way;
use crate::error::{Error, ErrorKind};

/// Between two attempts to have the whole file, at most. Random, so that two who want it do not meet again and again.
const PAUSE: Duration = Duration::from_millis(16);

/// Runs from the first look at the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    since: Instant,
    limit: Duration,
}

impl Patience {
    pub(crate) fn begin(limit: Duration) -> Self {
        Self { since: Instant::now(), limit }
    }

    /// A lock that was waited for as long as the settings say is not worth another attempt, which would only wait as long
    /// again. SQLite refuses some locks without waiting, such as that for the change to another journal mode; and with a
    /// limit of zero, the pauses between the attempts are all the waiting there is.
    pub(super) fn settle(self, error: Error) -> Error {
        let is_over = !self.limit.is_zero() && self.since.elapsed() >= self.limit;
        if error.kind() == ErrorKind::Busy && is_over { error.permanent() } else { error }
    }

    /// Opens until it is no more the whole file that is refused. Blocks.
    pub(crate) fn in_turn<T>(self, way: Way, mut open: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        loop {
            match open() {
                // The connection is closed before the pause, and with it goes the lock that is in the others' way.
                Err(Failure::Engine(found)) if self.may_wait(way, &found.1) => drop(found),
                done => return done,
            }
            Self::pause();
        }
    }

    /// Whether the whole file was refused, and may be had yet.
    pub(super) fn may_wait(self, way: Way, error: &rusqlite::Error) -> bool {
        let is_taken = error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
        way == Way::Exclusive && is_taken && self.since.elapsed() < self.limit
    }

    /// Passes before the next attempt. Blocks.
    pub(super) fn pause() {
        let mut random = [0];
        // Without randomness it is the longest.
        getrandom::fill(&mut random).ok();
        thread::sleep(PAUSE / (1 + u32::from(random[0] % 16)));
    }
}
