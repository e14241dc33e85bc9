//! A connection on loan.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;

use tokio::time::Instant;

use super::holders::{HoldToken, Holder};
use super::inner::{Lease, Opened};
use crate::connector::{Connector, Resource as _, ResourceState};

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
    /// The pool cannot look into a connection that is lent, so whoever begins or ends a transaction says so.
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
        self.opened().entry.give_back();
        self.lease.opened_mut().since = Instant::now();
    }

    /// Notes that it is used again, unless it is already.
    pub(crate) fn resume(&self, location: &'static Location<'static>) {
        self.opened().entry.resume(location);
    }

    /// Has the loan watched for its age, because it lasts as long as somebody likes; see
    /// [`max_loan_age`](super::PoolBuilder::max_loan_age).
    pub(crate) fn watch(&self) {
        let opened = self.opened();
        let pool = opened.permit.pool();
        if let Some(age) = pool.settings.max_loan_age
            && let Some(turn) = opened.entry.watch()
        {
            pool.look_after_loans(turn, age);
        }
    }

    fn describe(&self, change: impl FnOnce(&mut Holder)) {
        self.opened().entry.describe(change);
    }

    fn opened(&self) -> &Opened<C> {
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
