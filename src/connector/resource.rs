//! What a pool needs of the things it holds.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// Something a pool can hold.
///
/// **For implementors.** The pool lends a resource to one borrower at a time. When it comes back, the pool looks at
/// [`state`](Resource::state): `Idle` can be lent again at once, `Broken` is closed, anything else is
/// [`reset`](Resource::reset) first, and closed if it is not `Idle` then. Any future of a resource may be dropped half-way;
/// the state must then be honest, so set it to [`Unknown`](ResourceState::Unknown) before an await and correct it after.
pub trait Resource: Send + Sized + 'static {
    /// The state as this side knows it; no I/O.
    fn state(&self) -> ResourceState;

    /// A handle that can stop the running call while that call borrows the resource.
    fn canceller(&self) -> Canceller;

    /// Asks whether the other side still works.
    ///
    /// # Errors
    /// When it does not; the resource is then thrown away.
    fn ping(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Brings the resource back to [`Idle`](ResourceState::Idle): ends what a dropped future left behind, rolls back.
    ///
    /// # Errors
    /// When that is not possible; the resource is then thrown away. This is what the provided body does unless the
    /// state is `Idle` already.
    fn reset(&mut self) -> impl Future<Output = Result<()>> + Send {
        let state = self.state();
        async move {
            match state {
                ResourceState::Idle => Ok(()),
                other => Err(Error::new(ErrorKind::Connection, format!("a connection came back {other:?}"))),
            }
        }
    }

    /// Called once, when the pool has opened the resource and its `on_connect` hook has run: whatever the session is
    /// now is how it shall be, and only what comes later has altered it.
    fn baseline(&mut self) {}

    /// Says goodbye properly; awaited by the pool.
    ///
    /// # Errors
    /// When the goodbye failed; the resource is gone all the same.
    fn close(self) -> impl Future<Output = Result<()>> + Send;
}

/// What a [`Resource`] is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResourceState {
    /// Nothing: it can be lent.
    Idle,
    /// A transaction that can go on.
    InTransaction,
    /// A transaction that can only be rolled back.
    Failed,
    /// A call was dropped half-way; what it left behind is not known.
    Unknown,
    /// It works, but its session is not as it was opened: not to be lent to somebody else.
    Altered,
    /// It will not work again.
    Broken,
}

/// Stops what runs on a connection, from anywhere.
#[derive(Clone)]
pub struct Canceller(Option<Arc<dyn Cancel>>);

impl<T: Cancel + ?Sized> Cancel for Arc<T> {
    fn cancel(&self) {
        (**self).cancel();
    }
}

/// The engine's side of a [`Canceller`].
pub trait Cancel: Send + Sync {
    /// Asks the call that runs now to stop, and no later one. Must not block; nothing runs: no effect.
    fn cancel(&self);
}

impl Canceller {
    /// Wraps the engine's way of stopping a call.
    pub fn new(cancel: impl Cancel + 'static) -> Self {
        Self(Some(Arc::new(cancel)))
    }

    /// For engines that cannot stop anything.
    pub fn none() -> Self {
        Self(None)
    }

    /// Asks the call that runs now to stop. That it was asked does not prove that it had no effect.
    pub fn cancel(&self) {
        if let Some(cancel) = &self.0 {
            cancel.cancel();
        }
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Canceller" } else { "Canceller(none)" })
    }
}
