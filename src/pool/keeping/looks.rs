//! When somebody looks for idle connections that are too old.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::pool::holders::LATE;

/// Looks are this far apart, at most and at least, where no connection is known to come of age before.
const RATES: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(30)];

/// The looks of a pool whose connections age. Read by every loan, and so no lock.
///
/// Nothing else is read by what these say, so `Relaxed` does. One that is seen late has one reaper too many begin, of which
/// the older ends at its next look; or none, until a loan after the expected look begins one.
pub(in crate::pool) struct Looks {
    pub(super) idle_timeout: Option<Duration>,
    pub(super) rate: Duration,
    origin: Instant,
    /// Until when the next look is to be, in milliseconds since the origin; 0: nobody looks.
    expected: AtomicU64,
    /// Numbers the reapers; only the last one counts.
    generation: AtomicU64,
}

impl Looks {
    /// `None`, where connections do not age.
    pub(in crate::pool) fn every(idle_timeout: Option<Duration>, max_lifetime: Option<Duration>) -> Option<Self> {
        let shortest = idle_timeout.into_iter().chain(max_lifetime).min()?;
        Some(Self {
            idle_timeout,
            rate: (shortest / 2).clamp(RATES[0], RATES[1]),
            origin: Instant::now(),
            expected: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        })
    }

    /// The number of a reaper that is needed now, because there is none or its runtime stands still.
    pub(super) fn begin(&self, now: Instant) -> Option<u64> {
        let expected = self.expected.load(Relaxed);
        if self.since_origin(now) < expected {
            return None;
        }
        let next = self.since_origin(now + self.rate + LATE);
        self.expected.compare_exchange(expected, next, Relaxed, Relaxed).ok()?;
        Some(self.generation.fetch_add(1, Relaxed) + 1)
    }

    /// Notes when the reaper looks next. False: it has been replaced.
    pub(super) fn expect(&self, generation: u64, next: Instant) -> bool {
        let is_current = self.generation.load(Relaxed) == generation;
        if is_current {
            self.expected.store(self.since_origin(next + LATE), Relaxed);
        }
        is_current
    }

    /// This reaper looks no longer.
    pub(super) fn end(&self, generation: u64) {
        if self.generation.load(Relaxed) == generation {
            self.expected.store(0, Relaxed);
        }
    }

    fn since_origin(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }
}
