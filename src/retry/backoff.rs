//! Policies that try transient errors again.

use std::time::Duration;

use super::{Attempt, RetryPolicy};
use crate::config::{limit::RETRY_ATTEMPTS, limit::RETRY_DELAY};

/// The same pause between attempts; the default policy.
///
/// ```
/// use std::time::Duration;
/// use strongroom::pool::{Attempt, FixedDelay};
/// use strongroom::{Error, ErrorKind, RetryPolicy};
///
/// let policy = FixedDelay::default();
/// let busy = Error::new(ErrorKind::Busy, "locked").transient();
/// assert_eq!(policy.next_delay(Attempt::new(1, Duration::ZERO, &busy)), Some(Duration::from_millis(500)));
/// assert_eq!(policy.next_delay(Attempt::new(3, Duration::ZERO, &busy)), None);
/// let wrong_key = Error::new(ErrorKind::Encryption, "wrong key");
/// assert_eq!(policy.next_delay(Attempt::new(1, Duration::ZERO, &wrong_key)), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedDelay {
    attempts: u32,
    delay: Duration,
}

impl FixedDelay {
    /// `attempts` in all, the first included (1 to 10), with `delay` between them (0.1 to 60 s). Values outside are
    /// moved to the bound, with a warning in the log.
    pub fn new(attempts: u32, delay: Duration) -> Self {
        Self { attempts: RETRY_ATTEMPTS.clamp(attempts), delay: RETRY_DELAY.clamp(delay) }
    }

    /// The same with other attempts.
    pub fn attempts(self, attempts: u32) -> Self {
        Self::new(attempts, self.delay)
    }

    /// The same with another delay.
    pub fn delay(self, delay: Duration) -> Self {
        Self::new(self.attempts, delay)
    }
}

/// Three attempts, half a second apart.
impl Default for FixedDelay {
    fn default() -> Self {
        Self { attempts: RETRY_ATTEMPTS.default, delay: RETRY_DELAY.default }
    }
}

impl RetryPolicy for FixedDelay {
    fn next_delay(&self, attempt: Attempt<'_>) -> Option<Duration> {
        (attempt.error.is_transient() && attempt.number < self.attempts).then_some(self.delay)
    }
}

/// Pauses that double, each drawn at random between zero and its bound ("full jitter"), until a deadline.
///
/// The jitter keeps many clients that failed together from coming back together; the deadline bounds time rather than
/// attempts, which is what a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExponentialBackoff {
    first: Duration,
    longest: Duration,
    deadline: Duration,
}

impl ExponentialBackoff {
    /// Pauses of up to `first`, then twice that and so on up to `longest`, while the next attempt would still begin
    /// within `deadline` of the first.
    pub fn new(first: Duration, longest: Duration, deadline: Duration) -> Self {
        Self { first, longest, deadline }
    }

    fn bound(&self, number: u32) -> Duration {
        let doublings = number.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

/// Up to 50 ms at first, up to 5 s at most, for 30 s in all.
impl Default for ExponentialBackoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(5), Duration::from_secs(30))
    }
}

impl RetryPolicy for ExponentialBackoff {
    fn next_delay(&self, attempt: Attempt<'_>) -> Option<Duration> {
        if !attempt.error.is_transient() {
            return None;
        }
        let delay = self.bound(attempt.number).mul_f64(fastrand::f64());
        (attempt.elapsed.saturating_add(delay) < self.deadline).then_some(delay)
    }
}
