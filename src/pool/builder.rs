//! Putting a pool together.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::handle::Pool;
use super::inner::PoolInner;
use super::settings::PoolSettings;
use crate::connector::Connector;
use crate::error::Result;
use crate::health::HealthCheck;
use crate::observer::Observer;
use crate::retry::RetryPolicy;

/// Settings of a [`Pool`], each with a default; see [`Pool::builder`].
///
/// Values outside their bounds are moved to the bound, with a warning in the log; nothing here fails or panics.
#[must_use = "a builder does nothing until `build`"]
pub struct PoolBuilder<C: Connector> {
    connector: C,
    settings: PoolSettings<C>,
}

impl<C: Connector> Pool<C> {
    /// Begins to put a pool together.
    pub fn builder(connector: C) -> PoolBuilder<C> {
        PoolBuilder { connector, settings: PoolSettings::default() }
    }
}

impl<C: Connector> PoolBuilder<C> {
    pub(crate) fn connector(&self) -> &C {
        &self.connector
    }

    /// The connector alone, for what is done without this pool.
    pub fn into_connector(self) -> C {
        self.connector
    }

    pub(crate) fn map_connector(self, change: impl FnOnce(C) -> C) -> Self {
        Self { connector: change(self.connector), ..self }
    }

    /// The pool's name in errors and logs; the engine's name by default.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// How many connections [`Pool::warm`] opens, and how many are kept when some break: 0 to 10 and at most
    /// `max_size`; 1 by default.
    pub fn min_size(mut self, min_size: u32) -> Self {
        self.settings.min_size = min_size;
        self
    }

    /// How many connections there may be at most: 1 to 100; 10 by default.
    pub fn max_size(mut self, max_size: u32) -> Self {
        self.settings.max_size = max_size;
        self
    }

    /// How long [`Pool::get`] may take in all, waiting and all attempts to connect included: 1 to 300 s; 30 s by default.
    pub fn acquire_timeout(mut self, limit: Duration) -> Self {
        self.settings.acquire_timeout = limit;
        self
    }

    /// How long one attempt to connect may take, the hook included: 10 ms to 300 s. An attempt that takes longer is a
    /// transient failure. By default only the acquire timeout bounds it.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.connect_timeout = Some(limit);
        self
    }

    /// Closes connections that were not used for this long, down to `min_size`; `None`, the default, keeps them.
    pub fn idle_timeout(mut self, limit: Option<Duration>) -> Self {
        self.settings.idle_timeout = limit;
        self
    }

    /// Closes connections of this age when they come back or lie idle; `None`, the default, keeps them.
    pub fn max_lifetime(mut self, limit: Option<Duration>) -> Self {
        self.settings.max_lifetime = limit;
        self
    }

    /// Warns in the log, once for each, about connections that are held for longer than this: where they were asked for,
    /// their label, and since when. `None`, the default, watches nothing.
    pub fn max_loan_age(mut self, limit: Option<Duration>) -> Self {
        self.settings.max_loan_age = limit;
        self
    }

    /// Decides which failed connects are tried again; [`FixedDelay`](crate::pool::FixedDelay) by default.
    pub fn retry(mut self, policy: impl RetryPolicy + 'static) -> Self {
        self.settings.retry = Box::new(policy);
        self
    }

    /// Decides whether an idle connection may be lent; `SkipIfRecent<Ping>` by default.
    pub fn health(mut self, check: impl HealthCheck<C::Connection> + 'static) -> Self {
        self.settings.health = Box::new(check);
        self
    }

    /// Runs `hook` on every new connection before anyone uses it. If it fails, panics or hangs, the connect has failed.
    ///
    /// ```
    /// use strongroom::engine::Resource;
    /// use strongroom::{Connector, Pool};
    ///
    /// fn greeted<C: Connector>(connector: C) -> Pool<C> {
    ///     Pool::builder(connector).on_connect(|connection| Box::pin(async move { connection.ping().await })).build()
    /// }
    /// ```
    pub fn on_connect<F>(mut self, hook: F) -> Self
    where
        F: for<'a> Fn(&'a mut C::Connection) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>,
        F: Send + Sync + 'static,
    {
        self.settings.on_connect = Some(Box::new(hook));
        self
    }

    /// Tells `observer` of connections that are opened, lent, returned and closed, beside those that were added before.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.settings.observers.push(Box::new(observer));
        self
    }

    /// Keeps one connection apart for [`Access::Write`](crate::engine::Access::Write), behind a queue of its own, and
    /// opens the others with [`Access::Read`](crate::engine::Access::Read). For engines with a single writer.
    ///
    /// With a `max_size` of 1, or an engine without concurrent readers, the writer is the only connection, and readers
    /// queue for it too.
    pub fn writer_lane(mut self, apart: bool) -> Self {
        self.settings.writer_lane = apart;
        self
    }

    /// Makes the pool. Opens nothing and needs no runtime; connections are opened when they are asked for.
    pub fn build(self) -> Pool<C> {
        let pool = PoolInner::new(self.connector, self.settings.clamped());
        if let Some(listener) = pool.observers.listener() {
            pool.connector.observed(listener);
        }
        Pool::from_inner(pool)
    }
}

impl<C: Connector> fmt::Debug for PoolBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("name", &self.settings.name)
            .field("min_size", &self.settings.min_size)
            .field("max_size", &self.settings.max_size)
            .field("acquire_timeout", &self.settings.acquire_timeout)
            .field("idle_timeout", &self.settings.idle_timeout)
            .field("max_lifetime", &self.settings.max_lifetime)
            .field("max_loan_age", &self.settings.max_loan_age)
            .finish_non_exhaustive()
    }
}
