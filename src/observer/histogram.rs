//! Distributions of times.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Each power of two is cut into so many ranges, as a power of two.
const CUTS: u32 = 3;
const PARTS: u64 = 1 << CUTS;

/// Longer times than 2 to this power, in nanoseconds (73 minutes), are all in the last range.
const LONGEST: u32 = 42;

/// How many ranges there are.
const RANGES: usize = ((LONGEST - CUTS + 1) as usize) << CUTS;

/// A distribution of times: how many there were in each of 320 ranges, from a nanosecond to 73 minutes, each at most an eighth
/// wide. So a [quantile](Histogram::quantile) is at most 12.5 % too large, and never too small. Two can be
/// [merged](Histogram::merge), of two databases or two processes, and nothing is lost by that.
///
/// ```
/// use std::time::Duration;
/// use strongroom::database::Histogram;
///
/// let mut times = Histogram::default();
/// for milliseconds in 1..=100 {
///     times.record(Duration::from_millis(milliseconds));
/// }
/// let half = times.quantile(0.5).unwrap();
/// assert!(half >= Duration::from_millis(50) && half <= Duration::from_micros(56_250));
/// assert_eq!((times.count(), times.max()), (100, Duration::from_millis(100)));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Empty until something is recorded.
    ranges: Vec<u64>,
    count: u64,
    sum: Duration,
    max: Duration,
}

impl Histogram {
    /// Adds a time.
    pub fn record(&mut self, time: Duration) {
        self.ranges.resize(RANGES, 0);
        self.ranges[range_of(nanos(time))] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(time);
        self.max = self.max.max(time);
    }

    /// Adds all times of another one.
    pub fn merge(&mut self, other: &Self) {
        if other.count > 0 {
            self.ranges.resize(RANGES, 0);
            self.ranges.iter_mut().zip(&other.ranges).for_each(|(ours, theirs)| *ours += theirs);
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// How many times there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest; exact.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The mean; exact. `None` if there are none.
    pub fn mean(&self) -> Option<Duration> {
        let mean = self.sum.as_nanos().checked_div(u128::from(self.count))?;
        Some(Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX)))
    }

    /// The time that so many of them do not exceed, from 0 to 1: the upper end of the range in which it lies. `None` if there
    /// are none.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 1 and the count, where a rounding does no harm"
    )]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        self.ranges().find_map(|(end, count)| {
            seen += count;
            (seen >= wanted).then_some(end)
        })
    }

    /// The ranges that are not empty, in order: the longest time of each, and how many there are in it.
    pub fn ranges(&self) -> impl Iterator<Item = (Duration, u64)> {
        let ranges = self.ranges.iter().enumerate().filter(|(_, count)| **count > 0);
        ranges.map(|(range, count)| (end_of(range).min(self.max), *count))
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count)
            .field("mean", &self.mean())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

/// The same while it is recorded, by any number of threads. Each number counts by itself, so `Relaxed` does.
#[derive(Debug)]
pub(super) struct SharedHistogram {
    ranges: Box<[AtomicU64]>,
    sum: AtomicU64,
    max: AtomicU64,
}

impl Default for SharedHistogram {
    fn default() -> Self {
        let ranges = (0..RANGES).map(|_| AtomicU64::new(0)).collect();
        Self { ranges, sum: AtomicU64::new(0), max: AtomicU64::new(0) }
    }
}

impl SharedHistogram {
    pub(super) fn record(&self, time: Duration) {
        let nanos = nanos(time);
        self.ranges[range_of(nanos)].fetch_add(1, Relaxed);
        self.sum.fetch_add(nanos, Relaxed);
        self.max.fetch_max(nanos, Relaxed);
    }

    /// What was recorded so far. While others record, the sum may be a few times ahead of the count.
    pub(super) fn snapshot(&self) -> Histogram {
        let ranges: Vec<_> = self.ranges.iter().map(|count| count.load(Relaxed)).collect();
        let count = ranges.iter().sum();
        let time = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Relaxed));
        let ranges = if count == 0 { Vec::new() } else { ranges };
        Histogram { ranges, count, sum: time(&self.sum), max: time(&self.max) }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Below eight nanoseconds each has a range of its own; then the three digits behind the highest one say which it is.
fn range_of(nanos: u64) -> usize {
    if nanos < PARTS {
        return usize::try_from(nanos).unwrap_or(0);
    }
    let shift = nanos.ilog2() - CUTS;
    let part = usize::try_from((nanos >> shift) & (PARTS - 1)).unwrap_or(0);
    ((((shift + 1) as usize) << CUTS) | part).min(RANGES - 1)
}

/// The longest time of a range.
fn end_of(range: usize) -> Duration {
    if range == RANGES - 1 {
        return Duration::MAX;
    }
    let next = range as u64 + 1;
    let (block, part) = (next >> CUTS, next & (PARTS - 1));
    // The first one of the next range, less one.
    let first = if block == 0 { part } else { (PARTS | part) << (block - 1) };
    Duration::from_nanos(first - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_a_range_that_is_an_eighth_wide_at_most() {
        let mut times: Vec<u64> = (0..5000).collect();
        times.extend((3..42).flat_map(|power| {
            let one = 1_u64 << power;
            [one - 1, one, one + 1, one + one / 3, one + one / 8 - 1, one + one / 8]
        }));
        for nanos in times {
            let range = range_of(nanos);
            let end = u64::try_from(end_of(range).as_nanos()).unwrap_or(u64::MAX);
            assert!(nanos <= end, "{nanos} > {end}");
            assert!(range == 0 || end_of(range - 1) < Duration::from_nanos(nanos), "{nanos} is in range {range}");
            assert!(range == RANGES - 1 || end - nanos <= nanos / 8, "{nanos} is told as {end}");
        }
        assert_eq!(range_of(u64::MAX), RANGES - 1);
    }

    #[test]
    fn what_threads_record_is_what_is_recorded_alone() {
        let (shared, mut alone) = (SharedHistogram::default(), Histogram::default());
        let mut halves = [Histogram::default(), Histogram::default()];
        for nanos in (0..100_000).step_by(37) {
            let time = Duration::from_nanos(nanos * nanos);
            shared.record(time);
            alone.record(time);
            halves[usize::from(nanos % 2 == 0)].record(time);
        }
        let [mut merged, other] = halves;
        merged.merge(&other);
        assert_eq!(shared.snapshot(), alone);
        assert_eq!(merged, alone);
        assert_eq!(SharedHistogram::default().snapshot(), Histogram::default());
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
