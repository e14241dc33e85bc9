//! What a pool was told: its limits and its policies, as plain data.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::config::{limit::Bounds, limit::POOL_ACQUIRE_TIMEOUT, limit::POOL_MAX_SIZE, limit::POOL_MIN_SIZE};
use crate::connector::Connector;
use crate::error::Result;
use crate::health::{HealthCheck, Ping, SkipIfRecent};
use crate::observer::Observer;
use crate::retry::{FixedDelay, RetryPolicy};

/// Bounds of `connect_timeout`, where it is set.
pub(super) const CONNECT_TIMEOUT: Bounds<Duration> = Bounds {
    name: "pool.connect_timeout",
    default: Duration::from_secs(300),
    min: Duration::from_millis(10),
    max: Duration::from_secs(300),
};

/// Bounds of `idle_timeout`, `max_lifetime` and `max_loan_age`, where they are set: zero would close what was just
/// opened.
pub(super) const AGE: Bounds<Duration> = Bounds {
    name: "pool.idle_timeout, pool.max_lifetime or pool.max_loan_age",
    default: Duration::MAX,
    min: Duration::from_millis(10),
    max: Duration::MAX,
};

/// Runs on every new connection.
pub(super) type Hook<K> =
    Box<dyn for<'a> Fn(&'a mut K) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>> + Send + Sync>;

pub(super) struct PoolSettings<C: Connector> {
    /// The engine's by default.
    pub(super) name: Option<Cow<'static, str>>,
    pub(super) min_size: u32,
    pub(super) max_size: u32,
    pub(super) acquire_timeout: Duration,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_lifetime: Option<Duration>,
    pub(super) max_loan_age: Option<Duration>,
    pub(super) writer_lane: bool,
    pub(super) retry: Box<dyn RetryPolicy>,
    pub(super) health: Box<dyn HealthCheck<C::Connection>>,
    pub(super) on_connect: Option<Hook<C::Connection>>,
    pub(super) observers: Vec<Box<dyn Observer>>,
}

impl<C: Connector> Default for PoolSettings<C> {
    fn default() -> Self {
        Self {
            name: None,
            min_size: POOL_MIN_SIZE.default,
            max_size: POOL_MAX_SIZE.default,
            acquire_timeout: POOL_ACQUIRE_TIMEOUT.default,
            connect_timeout: None,
            // Off: reopening an embedded database costs more than keeping it, and a reaper there only makes bursts.
            idle_timeout: None,
            max_lifetime: None,
            max_loan_age: None,
            writer_lane: false,
            retry: Box::new(FixedDelay::default()),
            health: Box::new(SkipIfRecent::<Ping>::default()),
            on_connect: None,
            observers: Vec::new(),
        }
    }
}

impl<C: Connector> PoolSettings<C> {
    /// Moves everything into its bounds, with a warning for each thing moved.
    pub(super) fn clamped(self) -> Self {
        let max_size = POOL_MAX_SIZE.clamp(self.max_size);
        Self {
            max_size,
            min_size: Bounds { max: POOL_MIN_SIZE.max.min(max_size), ..POOL_MIN_SIZE }.clamp(self.min_size),
            acquire_timeout: POOL_ACQUIRE_TIMEOUT.clamp(self.acquire_timeout),
            connect_timeout: self.connect_timeout.map(|limit| CONNECT_TIMEOUT.clamp(limit)),
            idle_timeout: self.idle_timeout.map(|age| AGE.clamp(age)),
            max_lifetime: self.max_lifetime.map(|age| AGE.clamp(age)),
            max_loan_age: self.max_loan_age.map(|age| AGE.clamp(age)),
            ..self
        }
    }
}
