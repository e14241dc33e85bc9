//! What users hold of a pool: the pool itself, and connections on loan from it.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::checkout::WaitingCall;
use super::close_report::CloseReport;
use super::holders::{HoldToken, Holder, PoolStats};
use super::inner::{Lease, OpenConnection, PoolInner};
use super::suspend_options::SuspendOptions;
use crate::connector::{Access, Connector, Resource as _, ResourceState};
use crate::error::Result;
use crate::observer::Observers;

/// Lends connections, at most so many at a time.
///
/// Cheap to clone; all clones are one pool. Made by [`Pool::builder`], used inside a tokio runtime with timers. When
/// the last clone and the last loan are gone, idle connections are closed in the background;
/// [`close`](Pool::close) waits for that.
///
/// ```
/// use std::time::Duration;
/// use strongroom::{Connector, Pool, Result};
///
/// async fn use_it<C: Connector>(connector: C) -> Result<()> {
///     let pool = Pool::builder(connector).min_size(0).max_size(4).acquire_timeout(Duration::from_secs(5)).build();
///     let connection = pool.get().await?;
///     connection.label("nightly report");
///     assert_eq!(pool.stats().active_connections, 1);
///     drop(connection);
///     assert_eq!(pool.stats().idle_connections, 1);
///     let report = pool.close(Duration::from_secs(1)).await;
///     assert_eq!((report.closed, report.abandoned), (1, 0));
///     Ok(())
/// }
/// ```
pub struct Pool<C: Connector> {
    handle: Arc<PoolHandle<C>>,
}

/// What the clones of a pool share. Connections keep the inner part alive, and idle ones are kept in it; so the last clone
/// that goes has them closed.
struct PoolHandle<C: Connector>(Arc<PoolInner<C>>);

impl<C: Connector> Drop for PoolHandle<C> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl<C: Connector> Pool<C> {
    pub(super) fn from_inner(inner: Arc<PoolInner<C>>) -> Self {
        Self { handle: Arc::new(PoolHandle(inner)) }
    }

    pub(super) fn inner(&self) -> &Arc<PoolInner<C>> {
        &self.handle.0
    }

    /// Borrows a connection for reading and writing; the same as `get_for(Access::Write)`.
    ///
    /// # Errors
    /// See [`get_for`](Pool::get_for).
    ///
    /// # Cancel safety
    /// As [`get_for`](Pool::get_for).
    #[track_caller]
    pub fn get(&self) -> impl Future<Output = Result<Pooled<C>>> + Send + '_ {
        self.get_for(Access::Write)
    }

    /// Borrows a connection for `access`: an idle one, or a new one while there are fewer than `max_size`, or the next
    /// that comes back. Callers are served in the order in which they came.
    ///
    /// The place of the call is remembered, for those who wait in vain.
    ///
    /// # Errors
    /// - [`PoolExhausted`](crate::ErrorKind::PoolExhausted): none came back within the acquire timeout
    ///   ([`AllInUse`](crate::Reason::AllInUse)), or none ever could ([`WouldDeadlock`](crate::Reason::WouldDeadlock));
    ///   the message names the holders.
    /// - [`Closed`](crate::ErrorKind::Closed): the pool was closed.
    /// - What the connector or the `on_connect` hook failed with, as soon as the retry policy gives up. If that may pass
    ///   ([`is_transient`](crate::Error::is_transient)) and the pool has other connections, as where the server allows
    ///   fewer than the pool, the call takes one that comes back instead, and waits for it until the acquire timeout.
    ///   [`Timeout`](crate::ErrorKind::Timeout) if they took too long.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing but the place in the queue.
    #[track_caller]
    pub fn get_for(&self, access: Access) -> impl Future<Output = Result<Pooled<C>>> + Send + '_ {
        let location = Location::caller();
        async move {
            let lent = self.get_at(access, location).await?;
            lent.watch();
            Ok(lent)
        }
    }

    /// The observers.
    pub(crate) fn observers(&self) -> &Observers {
        &self.inner().observers
    }

    /// Whether the pool still takes calls.
    pub(crate) fn refuse_if_closed(&self) -> Result<()> {
        if self.is_closed() { Err(self.inner().closed_error()) } else { Ok(()) }
    }

    /// Enters a call that waits for what the holder of a connection will bring it, until `end` at the latest.
    pub(crate) async fn wait(&self, access: Access, end: Option<Instant>) -> Result<WaitingCall<'_, C>> {
        let deadline = Instant::now() + self.inner().settings.acquire_timeout;
        let call = WaitingCall::begin(self.inner(), self.inner().lane_for(access).id, deadline, end).await?;
        // It may have been closed while the call sat out a suspension.
        self.refuse_if_closed().map(|()| call)
    }

    /// Runs `task` in the background; see [`PoolInner::background`].
    pub(crate) fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner().background(task);
    }

    /// Waits for `news` that background work will bring, as long as it takes.
    pub(crate) async fn attend<T>(&self, news: impl Future<Output = T>) -> T {
        match self.attend_until(news, None).await {
            Some(news) => news,
            None => unreachable!("nothing bounds it"),
        }
    }

    /// The same until then, if there is an end.
    pub(crate) async fn attend_until<T>(&self, news: impl Future<Output = T>, end: Option<Instant>) -> Option<T> {
        self.inner().chores.attend().wait(news, end).await.ok()
    }

    /// The holders of the connections for `access`, for a caller that has waited in vain for one; counts as a timeout.
    pub(crate) fn why_not(&self, access: Access) -> String {
        self.inner().registry.count_timeout();
        self.inner().exhaustion(self.inner().lane_for(access).id).to_string()
    }

    /// For how long the oldest loan that lasts now has lasted, of the connections for `access`; where all are alike, of
    /// any. A reader that is kept for long may keep an engine from tidying up.
    pub fn oldest_loan(&self, access: Access) -> Option<Duration> {
        self.inner().registry.oldest_loan(self.inner().lane_for(access).id)
    }

    /// How many callers have had to wait for a connection for `access` so far.
    pub(crate) fn arrivals(&self, access: Access) -> u64 {
        self.inner().lane_for(access).arrivals()
    }

    /// Opens connections until there are `min_size`: the writer first, then the others side by side.
    ///
    /// # Errors
    /// What the connector or the hook failed with. Connections opened before that are kept.
    ///
    /// # Cancel safety
    /// Connections that are being opened are given up, others are kept.
    pub async fn warm(&self) -> Result<()> {
        self.inner().warm().await
    }

    /// What the pool has done and is doing, at one moment.
    pub fn stats(&self) -> PoolStats {
        self.inner().registry.stats()
    }

    /// Lets go of everything: closes all connections, readers first and the writer last, and whatever the connector has
    /// open beside them. The pool stays as it is, and opens again for the next call, or when it is
    /// [resumed](Self::resume) if the options say so.
    ///
    /// Calls that come meanwhile wait. It waits for those that came before, and for borrowed connections, for as long as
    /// the options say. Calling it again does no harm. If somebody resumes before it is done, it is called off.
    ///
    /// ```
    /// use strongroom::pool::SuspendOptions;
    /// use strongroom::{Connector, Pool, Result};
    ///
    /// async fn in_the_background<C: Connector>(pool: &Pool<C>) -> Result<()> {
    ///     pool.suspend(SuspendOptions::new().until_resumed()).await?;
    ///     assert!(pool.is_suspended());
    ///     assert_eq!(pool.stats().total_connections, 0);
    ///     pool.resume();
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// Nothing is suspended then:
    /// - [`Timeout`](crate::ErrorKind::Timeout) with [`StillLent`](crate::Reason::StillLent): somebody kept a connection
    ///   for too long; the message says who. Without that reason: a connection did not close.
    /// - [`Cancelled`](crate::ErrorKind::Cancelled): it was called off.
    /// - [`Closed`](crate::ErrorKind::Closed): the pool was closed.
    /// - What the connector could not let go of.
    ///
    /// What went wrong while single connections closed, such as copying a log, stands in the report.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the pool awake; connections that were closed are opened again when they are needed.
    #[track_caller]
    pub fn suspend(&self, options: SuspendOptions) -> impl Future<Output = Result<CloseReport>> + Send + '_ {
        let location = Location::caller();
        self.suspend_at(options, location)
    }

    /// [`suspend`](Self::suspend) on behalf of a caller further up.
    pub(crate) async fn suspend_at(
        &self,
        options: SuspendOptions,
        location: &'static Location<'static>,
    ) -> Result<CloseReport> {
        self.inner().suspend(options, location).await
    }

    /// Ends a suspension, or calls one off that is under way. Calls that wait for that go on. Opens nothing by itself, and
    /// does nothing to a pool that is awake.
    pub fn resume(&self) {
        self.inner().resume();
    }

    /// Whether the pool has let go of everything since [`suspend`](Self::suspend), and nobody has opened a connection or
    /// resumed it since.
    pub fn is_suspended(&self) -> bool {
        self.inner().is_suspended()
    }

    /// Closes the pool for all its clones, in this order: calls that come or wait fail with
    /// [`Closed`](crate::ErrorKind::Closed); loans may end until `deadline` has passed; what still runs then is
    /// cancelled and gets a short grace; idle readers are closed, and the writer last.
    ///
    /// A connection that comes back later is closed then. Calling it again, or from several tasks, does no harm; each
    /// call returns when all is done, and reports what no other has reported.
    ///
    /// # Cancel safety
    /// The pool stays closed to callers. Call again to close what is left.
    pub async fn close(&self, deadline: Duration) -> CloseReport {
        self.inner().close(deadline).await
    }

    /// Whether [`close`](Pool::close) was called.
    pub fn is_closed(&self) -> bool {
        self.inner().is_closed()
    }

    /// What opens the connections.
    pub fn connector(&self) -> &C {
        &self.inner().connector
    }
}

impl<C: Connector> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle) }
    }
}

impl<C: Connector> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.inner().name)
            .field("max_size", &self.inner().settings.max_size)
            .field("closed", &self.is_closed())
            .field("stats", &self.stats())
            .finish()
    }
}

/// A connection on loan from a [`Pool`](super::Pool); dropping it gives it back.
///
/// A connection that comes back [`Idle`](ResourceState::Idle) can be lent again at once. Any other is
/// [`reset`](crate::engine::Resource::reset) in the background first, or closed if it is broken or cannot be reset; until then
/// it counts as lent. It may be dropped anywhere, outside of a runtime too.
pub struct Pooled<C: Connector> {
    lease: Lease<C>,
}

impl<C: Connector> Pooled<C> {
    pub(super) fn new(lease: Lease<C>) -> Self {
        Self { lease }
    }

    /// Says what the connection is used for; shown to those who wait for it in vain. Not for secrets.
    pub fn label(&self, label: impl Into<Arc<str>>) {
        let label = label.into();
        self.describe(|holder| holder.label = Some(label));
    }

    /// Tells the pool whether the connection is inside a transaction now; shown to those who wait for it in vain.
    ///
    /// The pool cannot look into a connection that is lent, so the code that begins or ends a transaction says so.
    pub fn note_state(&self) {
        let inside = matches!(self.state(), ResourceState::InTransaction | ResourceState::Failed);
        self.describe(|holder| holder.in_transaction = inside);
    }

    /// Names this loan, for code that runs while it lasts; see [`HoldToken::hold`].
    ///
    /// ```
    /// # use strongroom::{Connector, ErrorKind, Pool, Reason, Result};
    /// /// Asks for a second connection while the only one is in use until it has the second.
    /// async fn nested<C: Connector>(pool_of_one: &Pool<C>) -> Result<()> {
    ///     let connection = pool_of_one.get().await?;
    ///     let error = connection.token().hold(pool_of_one.get()).await.unwrap_err();
    ///     assert_eq!((error.kind(), error.reason()), (ErrorKind::PoolExhausted, Reason::WouldDeadlock));
    ///     Ok(())
    /// }
    /// ```
    pub fn token(&self) -> HoldToken {
        self.opened().entry.token()
    }

    /// The connection is kept, but used for nobody until [`resume`](Self::resume), and not counted as lent.
    pub(crate) fn rest(&mut self) {
        self.lease.opened_mut().came_back();
    }

    /// Notes that it is used again, unless it is already.
    pub(crate) fn resume(&self, location: &'static Location<'static>) {
        self.opened().resume(location);
    }

    pub(crate) fn observers(&self) -> &Observers {
        &self.opened().permit.pool().observers
    }

    /// Has the loan watched for its age, because it lasts as long as somebody likes; see
    /// [`max_loan_age`](super::PoolBuilder::max_loan_age).
    pub(crate) fn watch(&self) {
        let opened = self.opened();
        let pool = opened.permit.pool();
        if let Some(age) = pool.settings.max_loan_age
            && let Some(generation) = opened.entry.watch()
        {
            pool.look_after_loans(generation, age);
        }
    }

    fn describe(&self, change: impl FnOnce(&mut Holder)) {
        self.opened().entry.describe(change);
    }

    fn opened(&self) -> &OpenConnection<C> {
        self.lease.opened()
    }
}

impl<C: Connector> Deref for Pooled<C> {
    type Target = C::Connection;

    fn deref(&self) -> &C::Connection {
        &self.opened().resource
    }
}

impl<C: Connector> DerefMut for Pooled<C> {
    fn deref_mut(&mut self) -> &mut C::Connection {
        &mut self.lease.opened_mut().resource
    }
}

impl<C: Connector> fmt::Debug for Pooled<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").finish_non_exhaustive()
    }
}
