//! Why there is no connection to be had: who has them, since when, and what they do with them.

use std::fmt;
use std::fmt::Write as _;
use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

use super::loans::Holder;
use crate::error::{Error, ErrorKind, Phase, Reason};

/// How many holders a message names; the oldest are the interesting ones.
const NAMED: usize = 8;

/// A lane without a free connection, as it was at one moment.
pub(in crate::pool) struct Exhaustion {
    /// The oldest first.
    pub(in crate::pool) holders: Vec<Holder>,
    pub(in crate::pool) size: u32,
    pub(in crate::pool) waiting: u32,
    /// Where the suspension was asked for that keeps calls waiting.
    pub(in crate::pool) suspended_by: Option<&'static Location<'static>>,
}

impl Exhaustion {
    /// The error of a call that waited for `limit`.
    pub(in crate::pool) fn timed_out(&self, pool: &str, limit: Duration) -> Error {
        let message = format!("no connection of the pool \"{pool}\" became free within {limit:?}: {self}");
        let hint = if self.holders.iter().any(Holder::is_this_task) {
            "this very task holds one already: give it back first, or pass it on instead of asking for another"
        } else {
            "hold connections for a shorter time, or raise pool_max or pool_timeout (max_size or acquire_timeout of a Pool::builder)"
        };
        exhausted(message, Reason::AllInUse).hint(hint)
    }

    /// The error of a call that would have waited for itself.
    pub(in crate::pool) fn deadlock(&self, pool: &str) -> Error {
        let message = format!("waiting for a connection of the pool \"{pool}\" could never end: {self}");
        exhausted(message, Reason::WouldDeadlock)
            .hint("every holder waits for this pool itself: use the connection at hand instead of asking for another")
    }
}

fn exhausted(message: String, reason: Reason) -> Error {
    Error::new(ErrorKind::PoolExhausted, message).because(reason).during(Phase::Acquire)
}

impl Holder {
    fn is_this_task(&self) -> bool {
        self.task.is_some() && self.task == tokio::task::try_id()
    }
}

impl fmt::Display for Exhaustion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (held, size) = (self.holders.len(), self.size);
        write!(f, "{held} of {size} in use, {} waiting", self.waiting)?;
        for (index, holder) in self.holders.iter().take(NAMED).enumerate() {
            f.write_str(if index == 0 { ", held by " } else { " and by " })?;
            write!(f, "{holder}")?;
        }
        if held > NAMED {
            write!(f, " and by {} more", held - NAMED)?;
        }
        self.suspended_by.map_or(Ok(()), |place| write!(f, ", and suspended by {place} for now"))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.location)?;
        if let Some(label) = &self.label {
            write!(f, " \"{label}\"")?;
        }
        let age = Instant::now().saturating_duration_since(self.since);
        write!(f, " (for {age:.1?}")?;
        if self.in_transaction {
            f.write_str(", in a transaction")?;
        }
        if self.is_this_task() {
            f.write_str(", by this very task")?;
        }
        f.write_char(')')
    }
}
