//! Key sources, health checks and retry policies.

use std::time::Duration;

use super::lab::{broken, holds, must};
use crate::connector::Resource;
use crate::error::{Error, ErrorKind};
use crate::health::HealthCheck;
use crate::key::KeySource;
use crate::retry::{Attempt, RetryPolicy};

/// Longer than a key source or a health check should take in a test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checks a key source against the rustdoc of [`KeySource`]. It may have a secret to give or not; run the suite for both.
///
/// # Panics
/// When a clause is broken.
pub async fn key_source(source: &impl KeySource) {
    let name = source.describe();
    holds("a key source has a name", !name.trim().is_empty(), "it is empty");

    let (first, second) = tokio::join!(bounded(source.resolve()), bounded(source.resolve()));
    let clause = "a key source answers several callers at once alike";
    holds(clause, first.is_ok() == second.is_ok(), "one got a secret, the other an error");
    // Dropping a call at its first await must not spoil the next one.
    drop(futures_util::future::poll_immediate(source.resolve()).await);
    let again = bounded(source.resolve()).await;
    holds("a key source answers after a dropped call as before", again.is_ok() == first.is_ok(), &name);

    for outcome in [first, second, again] {
        match outcome {
            Ok(secret) => {
                let shown = std::str::from_utf8(secret.expose()).unwrap_or_default();
                let leaks = !shown.is_empty() && name.contains(shown);
                holds("the name of a key source does not show the secret", !leaks, "it does");
            }
            Err(error) => {
                let kinds = [ErrorKind::Key, ErrorKind::Unsupported, ErrorKind::Config];
                let clause = "a key source fails as Key (or Unsupported, or Config)";
                holds(clause, kinds.contains(&error.kind()), format_args!("{:?}", error.kind()));
            }
        }
    }
    holds("the name of a key source stays the same", source.describe() == name, &name);
}

async fn bounded<T>(future: impl Future<Output = T>) -> T {
    let answer = tokio::time::timeout(PATIENCE, future).await;
    answer.unwrap_or_else(|_| broken("every call comes to an end", format_args!("it still ran after {PATIENCE:?}")))
}

/// Checks a health check against the rustdoc of [`HealthCheck`], with a healthy resource.
///
/// # Panics
/// When a clause is broken.
pub async fn health_check<R: Resource>(check: &impl HealthCheck<R>, resource: &mut R) {
    let before = resource.state();
    for idle in [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(3600), Duration::MAX] {
        let verdict = bounded(check.check(resource, idle)).await;
        must("a healthy resource passes, however long it was idle", verdict);
        holds("a health check leaves the state as it was", resource.state() == before, format_args!("{idle:?}"));
    }
    // A dropped check may leave a call behind; the resource must come back from that.
    drop(futures_util::future::poll_immediate(check.check(resource, Duration::MAX)).await);
    must("a resource can be reset after a dropped check", bounded(resource.reset()).await);
    must("a resource passes after a dropped check", bounded(check.check(resource, Duration::MAX)).await);
}

/// Checks a retry policy against the rustdoc of [`RetryPolicy`].
///
/// # Panics
/// When a clause is broken.
pub fn retry_policy(policy: &impl RetryPolicy) {
    let permanent = Error::new(ErrorKind::Encryption, "a wrong key");
    for number in [1, 2, 3, 10, u32::MAX] {
        let verdict = policy.next_delay(Attempt::new(number, Duration::ZERO, &permanent));
        holds("a permanent error is never tried again", verdict.is_none(), format_args!("attempt {number}"));
    }
    let transient = Error::new(ErrorKind::Busy, "locked").transient();
    let verdict = policy.next_delay(Attempt::new(u32::MAX, Duration::MAX, &transient));
    holds("trying again comes to an end", verdict.is_none(), "it went on after every number of attempts and any time");
    let (mut number, mut elapsed) = (1, Duration::ZERO);
    while let Some(delay) = policy.next_delay(Attempt::new(number, elapsed, &transient)) {
        number += 1;
        // An attempt takes time, too, so a policy that is bounded by time alone gets to its end.
        elapsed = elapsed.saturating_add(delay).saturating_add(Duration::from_millis(1));
        holds("trying again comes to an end", number < 1_000_000, "a million attempts were allowed");
    }
}
