//! Defaults and bounds of settings: values outside are moved to the bound, with a warning.

use std::fmt::Debug;
use std::time::Duration;

/// Where the key is, if nothing else is said: the variable, and the value in a SOPS file.
pub(super) const KEY_ENV: &str = "STRONGROOM_DB_KEY";
pub(super) const SOPS_KEY: &str = "db_key";

/// Zero opens nothing until it is needed. Moreover never above `pool.max_size`.
pub(crate) const POOL_MIN_SIZE: Bounds<u32> = Bounds { name: "pool.min_size", default: 1, min: 0, max: 10 };

/// Above a hundred, threads and file descriptors cost more than waiting does.
pub(crate) const POOL_MAX_SIZE: Bounds<u32> = Bounds { name: "pool.max_size", default: 10, min: 1, max: 100 };

/// The default is longer than a cold start of most servers.
pub(crate) const POOL_ACQUIRE_TIMEOUT: Bounds<Duration> = Bounds {
    name: "pool.acquire_timeout",
    default: Duration::from_secs(30),
    min: Duration::from_secs(1),
    max: Duration::from_secs(300),
};

/// Above ten, a failing disk or server is only made busier.
pub(crate) const RETRY_ATTEMPTS: Bounds<u32> = Bounds { name: "retry.max_attempts", default: 3, min: 1, max: 10 };

/// Shorter than a tenth of a second, the cause has no time to pass.
pub(crate) const RETRY_DELAY: Bounds<Duration> = Bounds {
    name: "retry.delay",
    default: Duration::from_millis(500),
    min: Duration::from_millis(100),
    max: Duration::from_secs(60),
};

/// A setting's default and its hard bounds.
pub(crate) struct Bounds<T> {
    pub(crate) name: &'static str,
    pub(crate) default: T,
    pub(crate) min: T,
    pub(crate) max: T,
}

impl<T: Ord + Copy + Debug> Bounds<T> {
    /// Moves `value` into the bounds and says so in the log.
    pub(crate) fn clamp(&self, value: T) -> T {
        let clamped = value.clamp(self.min, self.max);
        if clamped != value {
            tracing::warn!(
                setting = self.name,
                given = ?value,
                used = ?clamped,
                "setting outside its bounds {:?} to {:?}",
                self.min,
                self.max,
            );
        }
        clamped
    }
}
