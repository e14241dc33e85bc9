//! The engines of this crate in a pool of the crate [bb8](::bb8), for programs that have one already.
//!
//! A wing: it stands on the contracts, and the pool of this crate does not know it. What that does and bb8 does not:
//! a fair queue, a lane for the writer, connections that are reset and closed properly, holders with names, a retry
//! policy.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use tokio::time::Instant;

use crate::connector::{Access, Connector, Resource, ResourceState};
use crate::error::{Error, Result};
use crate::health::{HealthCheck, Ping, SkipIfRecent};

/// Manages the connections of any [`Connector`] in a [`bb8::Pool`](::bb8::Pool) (0.9).
///
/// Keys work as everywhere: the connector resolves its key source when the first connection is opened. bb8 tells nobody
/// why a connection could not be opened; with `min_idle(1)` and `retry_connection(false)` at least its `build` does, so that
/// a wrong key is found out there and not by a timeout. A connection that comes back in the middle of something (a transaction, a call that was dropped) is not lent
/// again: bb8 replaces it.
///
/// For SQLite, let one pool of `max_size(1)` write, and have another one read ([`access`](Self::access)).
///
/// ```
/// use strongroom::engine::{Bb8Manager, Connection, Statement};
/// use strongroom::{PassphraseKeySource, SqlCipherConnector};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let connector = SqlCipherConnector::new(":memory:").key(PassphraseKeySource::new("correct horse"));
/// let pool = bb8::Pool::builder().max_size(1).min_idle(1).retry_connection(false).build(Bb8Manager::new(connector)).await?;
/// let mut connection = pool.get().await?;
/// connection.run_script("CREATE TABLE t (n)".into()).await?;
/// let rows = connection.run(Statement::new("SELECT count(*) FROM t", ())?).await?;
/// assert_eq!(rows.len(), 1);
/// # Ok(()) }
/// ```
pub struct Bb8Manager<C: Connector> {
    connector: C,
    access: Access,
    health: Box<dyn HealthCheck<C::Connection>>,
}

impl<C: Connector> Bb8Manager<C> {
    /// Opens connections that may write, and pings those that were idle for half a second before bb8 lends them.
    pub fn new(connector: C) -> Self {
        Self { connector, access: Access::Write, health: Box::new(SkipIfRecent::<Ping>::default()) }
    }

    /// Opens connections for this; [`Access::Write`] by default.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Decides whether an idle connection may be lent; asked if bb8's `test_on_check_out` is on, as by default.
    pub fn health(mut self, check: impl HealthCheck<C::Connection> + 'static) -> Self {
        self.health = Box::new(check);
        self
    }
}

impl<C: Connector> fmt::Debug for Bb8Manager<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bb8Manager").field("access", &self.access).finish_non_exhaustive()
    }
}

/// A connection that bb8 keeps; it dereferences to the engine's own.
#[derive(Debug)]
pub struct Bb8Connection<R: Resource> {
    resource: R,
    /// When it was opened, or came back.
    since: Instant,
}

impl<R: Resource> Bb8Connection<R> {
    /// The connection without bb8, for instance to [close](Resource::close) it properly.
    pub fn into_inner(self) -> R {
        self.resource
    }
}

impl<R: Resource> Deref for Bb8Connection<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.resource
    }
}

impl<R: Resource> DerefMut for Bb8Connection<R> {
    fn deref_mut(&mut self) -> &mut R {
        &mut self.resource
    }
}

impl<C: Connector> ::bb8::ManageConnection for Bb8Manager<C> {
    type Connection = Bb8Connection<C::Connection>;
    type Error = Error;

    async fn connect(&self) -> Result<Self::Connection> {
        let mut resource = self.connector.connect(self.access).await?;
        resource.baseline();
        Ok(Bb8Connection { resource, since: Instant::now() })
    }

    async fn is_valid(&self, connection: &mut Self::Connection) -> Result<()> {
        let idle: Duration = connection.since.elapsed();
        self.health.check(&mut connection.resource, idle).await
    }

    /// Asked when a connection comes back.
    fn has_broken(&self, connection: &mut Self::Connection) -> bool {
        connection.since = Instant::now();
        connection.resource.state() != ResourceState::Idle
    }
}
