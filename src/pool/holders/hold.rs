//! Knowing that a connection is not given back before a future ends.
//!
//! Being in the same task proves nothing: two branches of a `join!` may each hold a connection and neither waits for
//! the other. A transaction closure does prove it, because its connection comes back only after the closure has ended.
//! Who waits *inside* such a closure is what the pool needs to know to tell a deadlock from a queue.

use std::future::Future;
use std::sync::Arc;

tokio::task_local! {
    static HELD: Arc<Held>;
}

/// Names one loan; see [`Pooled::token`](crate::pool::Pooled::token).
#[derive(Clone, Copy, Debug)]
pub struct HoldToken {
    pub(in crate::pool) pool: u64,
    pub(in crate::pool) key: usize,
    pub(in crate::pool) serial: u64,
}

/// A loan that outlives the code that runs now, and the one around it.
pub(in crate::pool) struct Held {
    pub(in crate::pool) token: HoldToken,
    outer: Option<Arc<Self>>,
}

impl HoldToken {
    /// Runs `future`, promising that the connection is not given back before it ends.
    ///
    /// If the future asks the same pool for another connection, and every connection is held by a call that waits in
    /// this way, it gets [`PoolExhausted`](crate::ErrorKind::PoolExhausted) with reason
    /// [`WouldDeadlock`](crate::Reason::WouldDeadlock) at once instead of after the acquire timeout. A wait that the
    /// future itself would give up (by `select!` or a shorter timeout) is refused as well.
    ///
    /// # Cancel safety
    /// As the future itself.
    pub async fn hold<F: Future>(self, future: F) -> F::Output {
        HELD.scope(Arc::new(Held { token: self, outer: current() }), future).await
    }
}

/// The innermost loan that outlives the code that runs now.
pub(in crate::pool) fn current() -> Option<Arc<Held>> {
    HELD.try_with(Arc::clone).ok()
}

/// The loans of one pool that outlive the code that runs now, from the inside out.
pub(in crate::pool) fn of_pool(innermost: Option<&Arc<Held>>, pool: u64) -> impl Iterator<Item = HoldToken> {
    std::iter::successors(innermost, |held| held.outer.as_ref())
        .map(|held| held.token)
        .filter(move |token| token.pool == pool)
}
