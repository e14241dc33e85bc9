//! A secret remembered for a while.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::error::Result;
use crate::key::KeySource;
use crate::lock::{Guard, Lock, foreign};
use crate::secret::Secret;

/// Remembers the secret of another source for a time, so that a slow source is asked rarely.
///
/// Calls that come while the source is being asked wait for that one answer. If it fails, or the call that asked is
/// dropped, the next one that waits asks by itself, and nothing is remembered; failures are never remembered.
///
/// The secret is dropped when its time is over, by a timer in the Tokio runtime that asked for it, and with that runtime
/// or the last clone of the source. Clones share it.
///
/// ```
/// use std::time::Duration;
/// use strongroom::{CachedKeySource, CommandKeySource};
///
/// let source = CachedKeySource::new(CommandKeySource::new("pass").args(["show", "db"]), Duration::from_secs(300));
/// # let _ = source;
/// ```
#[derive(Clone)]
pub struct CachedKeySource {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Box<dyn KeySource>,
    lifetime: Duration,
    /// Held while the source is asked.
    flight: tokio::sync::Mutex<()>,
    kept: Lock<Option<Kept>>,
}

struct Kept {
    secret: Secret,
    since: Instant,
    timer: AbortHandle,
}

impl Drop for Kept {
    fn drop(&mut self) {
        foreign();
        self.timer.abort();
    }
}

impl CachedKeySource {
    /// Remembers what `inner` answers for `lifetime`.
    pub fn new(inner: impl KeySource + 'static, lifetime: Duration) -> Self {
        let shared =
            Shared { inner: Box::new(inner), lifetime, flight: tokio::sync::Mutex::default(), kept: Lock::default() };
        Self { shared: Arc::new(shared) }
    }

    fn kept(&self) -> Option<Secret> {
        let kept = self.shared.lock();
        // The timer may come late; nobody gets a secret whose time is over.
        kept.as_ref().filter(|kept| kept.since.elapsed() < self.shared.lifetime).map(|kept| kept.secret.clone())
    }

    fn keep(&self, secret: Secret) {
        let lifetime = self.shared.lifetime;
        let since = Instant::now();
        let expiry = Expiry { shared: Arc::downgrade(&self.shared), since };
        let timer = tokio::spawn(async move {
            tokio::time::sleep(lifetime).await;
            drop(expiry);
        });
        let fresh = Kept { secret, since, timer: timer.abort_handle() };
        let old = self.shared.lock().replace(fresh);
        // Its timer is stopped after the lock.
        drop(old);
    }
}

impl Shared {
    fn lock(&self) -> Guard<'_, Option<Kept>> {
        self.kept.lock()
    }
}

/// Forgets the secret when dropped, unless that is a newer one: when its time is over, or with the runtime.
struct Expiry {
    shared: Weak<Shared>,
    since: Instant,
}

impl Drop for Expiry {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let old = shared.lock().take_if(|kept| kept.since <= self.since);
            // After the lock, because it stops a timer.
            drop(old);
        }
    }
}

#[async_trait]
impl KeySource for CachedKeySource {
    async fn resolve(&self) -> Result<Secret> {
        if let Some(secret) = self.kept() {
            return Ok(secret);
        }
        // CANCEL: a dropped or panicking flight gives the lock to the next one that waits.
        let _flight = self.shared.flight.lock().await;
        if let Some(secret) = self.kept() {
            return Ok(secret);
        }
        let secret = self.shared.inner.resolve().await?;
        self.keep(secret.clone());
        Ok(secret)
    }

    fn describe(&self) -> String {
        format!("{}, remembered for {:?}", self.shared.inner.describe(), self.shared.lifetime)
    }
}

impl fmt::Debug for CachedKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CachedKeySource").field(&self.describe()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::PassphraseKeySource;

    fn holds(source: &CachedKeySource) -> bool {
        source.shared.lock().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_secret_is_let_go_when_its_time_is_over_though_nobody_asks() {
        let source = CachedKeySource::new(PassphraseKeySource::new("key"), Duration::from_secs(60));
        source.resolve().await.unwrap();
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert!(holds(&source));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!holds(&source));
    }

    #[tokio::test(start_paused = true)]
    async fn the_timer_does_not_keep_a_dropped_source_alive() {
        let source = CachedKeySource::new(PassphraseKeySource::new("key"), Duration::from_secs(60));
        source.resolve().await.unwrap();
        let shared = Arc::downgrade(&source.shared);
        drop(source);
        assert!(shared.upgrade().is_none());
    }
}
