//! The contract of a health check, and the checks that come with the crate.
//!
//! Floor 1.

use std::time::Duration;

use async_trait::async_trait;

use crate::connector::Resource;
use crate::error::Result;

/// Decides whether an idle connection may be lent again.
///
/// **For implementors.** Called by the pool before it lends a connection that has been idle, never on a fresh one.
/// `idle` is the time since it came back. An error makes the pool discard the connection and take another; the caller
/// waits for the verdict, so be quick. The pool bounds the time, and the future may be dropped. A connection that is not
/// idle afterwards, as with a transaction that the check has left open, is discarded too.
///
/// ```
/// use std::time::Duration;
/// use strongroom::engine::Resource;
/// use strongroom::{HealthCheck, Result};
///
/// /// Looks only at connections that were idle for an hour.
/// struct Hourly;
///
/// #[strongroom::pool::async_trait]
/// impl<R: Resource> HealthCheck<R> for Hourly {
///     async fn check(&self, resource: &mut R, idle: Duration) -> Result<()> {
///         if idle < Duration::from_secs(3600) { Ok(()) } else { resource.ping().await }
///     }
/// }
/// ```
#[async_trait]
pub trait HealthCheck<R: Resource>: Send + Sync {
    /// Checks `resource`.
    ///
    /// # Errors
    /// Any error means that the connection is not to be used again.
    async fn check(&self, resource: &mut R, idle: Duration) -> Result<()>;

    /// Whether [`check`](HealthCheck::check) would do anything for a connection that was idle for so long; always, by
    /// default. Asked before every loan, where a future that does nothing costs as much as the rest of the loan.
    fn is_due(&self, idle: Duration) -> bool {
        let _ = idle;
        true
    }
}

/// Trusts every connection. Right for engines whose connections cannot die unnoticed.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysHealthy;

#[async_trait]
impl<R: Resource> HealthCheck<R> for AlwaysHealthy {
    async fn check(&self, _: &mut R, _: Duration) -> Result<()> {
        Ok(())
    }

    fn is_due(&self, _: Duration) -> bool {
        false
    }
}

/// Asks the connection itself: [`Resource::ping`], which is `SELECT 1` for SQL engines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ping;

#[async_trait]
impl<R: Resource> HealthCheck<R> for Ping {
    async fn check(&self, resource: &mut R, _: Duration) -> Result<()> {
        resource.ping().await
    }
}

/// Skips the inner check for connections that were in use a moment ago; the default is `SkipIfRecent<Ping>`.
#[derive(Clone, Copy, Debug)]
pub struct SkipIfRecent<H> {
    inner: H,
    window: Duration,
}

impl<H> SkipIfRecent<H> {
    /// Half a second, as HikariCP has it: long enough that a busy pool never pays for a check, short enough that a
    /// broken connection is not lent for long.
    pub const WINDOW: Duration = Duration::from_millis(500);

    /// Runs `inner` only for connections that were idle for `window` or longer.
    pub fn new(inner: H, window: Duration) -> Self {
        Self { inner, window }
    }
}

impl<H: Default> Default for SkipIfRecent<H> {
    fn default() -> Self {
        Self::new(H::default(), Self::WINDOW)
    }
}

#[async_trait]
impl<R: Resource, H: HealthCheck<R>> HealthCheck<R> for SkipIfRecent<H> {
    async fn check(&self, resource: &mut R, idle: Duration) -> Result<()> {
        if idle < self.window { Ok(()) } else { self.inner.check(resource, idle).await }
    }

    fn is_due(&self, idle: Duration) -> bool {
        idle >= self.window && self.inner.is_due(idle)
    }
}

#[async_trait]
impl<R: Resource, H: HealthCheck<R> + ?Sized> HealthCheck<R> for Box<H> {
    async fn check(&self, resource: &mut R, idle: Duration) -> Result<()> {
        (**self).check(resource, idle).await
    }

    fn is_due(&self, idle: Duration) -> bool {
        (**self).is_due(idle)
    }
}

#[async_trait]
impl<R: Resource, H: HealthCheck<R> + ?Sized> HealthCheck<R> for std::sync::Arc<H> {
    async fn check(&self, resource: &mut R, idle: Duration) -> Result<()> {
        (**self).check(resource, idle).await
    }

    fn is_due(&self, idle: Duration) -> bool {
        (**self).is_due(idle)
    }
}
