//! Turns of a writer that is never idle, where another process writes to the same file.
//!
//! SQLite has no queue between processes: a writer that finds the file locked looks again after a pause, and by then
//! a process with its next write at hand has taken the lock again. So a busy writer leaves the lock alone from time to
//! time; but only while another process does commit, and gets less than its part.

use std::time::{Duration, Instant};

/// How long writes follow each other, and how long the other process is given then.
pub(crate) const TURN: Duration = Duration::from_millis(10);

/// A pause between two writes that gives others their chance by itself.
const IDLE: Duration = Duration::from_millis(2);

/// So many short writes run between two looks at the clock.
const BETWEEN_LOOKS: u8 = 16;

/// With one change by others between so many writes, nobody is kept out.
const FAIR: u32 = 4;

/// After so many turns without a commit of another process, the next ones are not given away. A process that waits for
/// the lock looks every 100 ms at worst, and meets one of these.
const GIVEN: u8 = 8;

/// The turns of one writer.
#[derive(Debug)]
pub(crate) struct Turns {
    began: Instant,
    /// When it was busy last.
    last: Instant,
    /// What SQLite counted of other connections' commits at the end of the last turn, or at the open.
    seen: Option<u32>,
    calls: u8,
    /// Writes in this turn.
    writes: u32,
    /// So many turns are still given away.
    given: u8,
}

impl Turns {
    /// `seen`: what SQLite counts of others' commits now. With it a process that writes before this one does is known.
    pub(crate) fn new(seen: Option<u32>) -> Self {
        let now = Instant::now();
        Self { began: now, last: now, seen, calls: 0, writes: 0, given: 0 }
    }

    /// Whether a turn ends before the next write. `version` is SQLite's count of commits by other connections.
    pub(crate) fn is_over(&mut self, version: impl FnOnce() -> Option<u32>) -> bool {
        self.calls += 1;
        self.writes = self.writes.saturating_add(1);
        if self.calls < BETWEEN_LOOKS {
            return false;
        }
        self.calls = 0;
        let now = Instant::now();
        if now.duration_since(self.last) > IDLE {
            (self.began, self.writes) = (now, 0);
        }
        self.last = now;
        if now.duration_since(self.began) < TURN {
            return false;
        }
        let (version, writes) = (version(), std::mem::take(&mut self.writes));
        self.began = now;
        let changes = match (std::mem::replace(&mut self.seen, version), version) {
            (Some(before), Some(now)) => now.wrapping_sub(before),
            _ => 0,
        };
        self.given = if changes > 0 { GIVEN } else { self.given.saturating_sub(1) };
        self.given > 0 && changes.saturating_mul(FAIR) < writes
    }

    /// A write has taken a thread: it was long, and the next one looks at the clock.
    pub(crate) fn worked(&mut self) {
        self.last = Instant::now();
        self.calls = BETWEEN_LOOKS - 1;
    }
}
