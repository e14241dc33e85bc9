//! Secrets, kept for a while: what the sources that remember share.
//!
//! The secret is wiped when its time is over, whether anybody asks for it or not, by a timer in the Tokio runtime that
//! put it there; and with that runtime, or the last owner of the cache.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::clock;
use crate::lock::{Lock, foreign};
use crate::secret::Secret;

/// Thirty years, for lifetimes that no clock holds.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Room for one secret, or several, that belong to `M`: a stamp of the file that they came from, or nothing.
pub(super) struct Cache<M = (), S = Secret> {
    kept: Arc<Lock<Option<Kept<M, S>>>>,
    /// Held while the source is asked, so that many who ask at once ask it once.
    turn: Mutex<()>,
}

struct Kept<M, S> {
    mark: M,
    secret: S,
    until: Instant,
    timer: Option<AbortHandle>,
}

impl<M, S> Drop for Kept<M, S> {
    fn drop(&mut self) {
        foreign();
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

impl<M, S> Default for Cache<M, S> {
    fn default() -> Self {
        Self { kept: Arc::default(), turn: Mutex::default() }
    }
}

impl<M: PartialEq + Send + 'static, S: Clone + Send + 'static> Cache<M, S> {
    /// Waits for the caller's turn to ask.
    ///
    /// CANCEL: a dropped or panicking call gives the turn to the next one that waits.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The secret, if its time is not over and it belongs to `mark`.
    pub(super) fn get(&self, mark: &M) -> Option<S> {
        let kept = self.kept.lock();
        // The timer may come late; nobody gets a secret whose time is over.
        let kept = kept.as_ref().filter(|kept| kept.mark == *mark && Instant::now() < kept.until)?;
        Some(kept.secret.clone())
    }

    /// Keeps `secret` for `lifetime`; not at all where there is no Tokio runtime with timers, as nothing would wipe it in time.
    pub(super) fn put(&self, mark: M, secret: S, lifetime: Duration) {
        if clock::check().is_err() {
            return self.forget();
        }
        let now = Instant::now();
        let until = now.checked_add(lifetime).unwrap_or(now + FOR_EVER);
        let old = self.kept.lock().replace(Kept { mark, secret, until, timer: None });
        // After the lock, because it stops a timer.
        drop(old);
        // After the secret is there, so that a timer whose runtime ends at once finds it.
        let expiry = Expiry { kept: Arc::downgrade(&self.kept), until };
        foreign();
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(expiry.until).await;
            drop(expiry);
        });
        if let Some(kept) = self.kept.lock().as_mut().filter(|kept| kept.until == until) {
            kept.timer = Some(timer.abort_handle());
        }
    }

    /// Keeps nothing any more.
    pub(super) fn forget(&self) {
        let old = self.kept.lock().take();
        // After the lock, because it stops a timer.
        drop(old);
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.kept.lock().is_none()
    }
}

/// Forgets the secret when dropped, unless that is a newer one: when its time is over, or with the runtime.
struct Expiry<M, S> {
    kept: Weak<Lock<Option<Kept<M, S>>>>,
    until: Instant,
}

impl<M, S> Drop for Expiry<M, S> {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.upgrade() {
            let old = kept.lock().take_if(|kept| kept.until <= self.until);
            // After the lock, because it stops a timer.
            drop(old);
        }
    }
}

impl<M, S> fmt::Debug for Cache<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache")
    }
}
