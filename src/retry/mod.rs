//! The contract of a retry policy, and the policies that come with the crate.
//!
//! Floor 1. A policy decides and never sleeps; whoever asked it waits. So a policy is a pure function that can be
//! tested without a clock.

mod backoff;

use std::time::Duration;

pub use backoff::{ExponentialBackoff, FixedDelay};

use crate::error::Error;

/// Decides whether, and after which pause, something that failed is tried again.
///
/// **For implementors.** [`next_delay`](RetryPolicy::next_delay) is called after each failed attempt, from any task.
/// Ask [`Error::is_transient`]: repeating a wrong key only locks accounts and fills logs.
///
/// ```
/// use std::time::Duration;
/// use strongroom::pool::Attempt;
/// use strongroom::RetryPolicy;
///
/// struct Twice;
///
/// impl RetryPolicy for Twice {
///     fn next_delay(&self, attempt: Attempt<'_>) -> Option<Duration> {
///         (attempt.error.is_transient() && attempt.number < 2).then_some(Duration::from_millis(50))
///     }
/// }
/// ```
pub trait RetryPolicy: Send + Sync {
    /// The pause before the next attempt, or `None` to give up.
    fn next_delay(&self, attempt: Attempt<'_>) -> Option<Duration>;
}

/// One failed attempt.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// Its number; the first is 1.
    pub number: u32,
    /// Time since the first attempt began.
    pub elapsed: Duration,
    /// What it failed with.
    pub error: &'a Error,
}

impl<'a> Attempt<'a> {
    /// Describes a failed attempt.
    pub fn new(number: u32, elapsed: Duration, error: &'a Error) -> Self {
        Self { number, elapsed, error }
    }
}

/// Never tries again.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRetry;

impl RetryPolicy for NoRetry {
    fn next_delay(&self, _: Attempt<'_>) -> Option<Duration> {
        None
    }
}

impl<P: RetryPolicy + ?Sized> RetryPolicy for Box<P> {
    fn next_delay(&self, attempt: Attempt<'_>) -> Option<Duration> {
        (**self).next_delay(attempt)
    }
}

impl<P: RetryPolicy + ?Sized> RetryPolicy for std::sync::Arc<P> {
    fn next_delay(&self, attempt: Attempt<'_>) -> Option<Duration> {
        (**self).next_delay(attempt)
    }
}
