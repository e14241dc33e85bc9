//! A secret remembered for a while.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::MutexGuard;

use super::kept::Cache;
use crate::error::Result;
use crate::key::{KeyCandidate, KeySource};
use crate::secret::Secret;

/// Remembers the secret of another source for a time, so that a slow source is asked rarely.
///
/// Calls that come while the source is being asked wait for that one answer. If it fails, or the call that asked is
/// dropped, the next one that waits asks by itself, and nothing is remembered; failures are never remembered.
///
/// The secret is dropped when its time is over, by a timer in the Tokio runtime that asked for it, and with that runtime
/// or the last clone of the source. Clones share it. Outside of a runtime with timers nothing is remembered.
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
    cache: Cache,
    /// What it offers, which may be more than it answers.
    offered: Cache<(), Vec<KeyCandidate>>,
}

impl CachedKeySource {
    /// Remembers what `inner` answers for `lifetime`.
    pub fn new(inner: impl KeySource + 'static, lifetime: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                inner: Box::new(inner),
                lifetime,
                cache: Cache::default(),
                offered: Cache::default(),
            }),
        }
    }
}

impl Shared {
    /// Forgets what is kept, and keeps nothing until the turn is over: the source is about to change it.
    async fn anew(&self) -> MutexGuard<'_, ()> {
        let turn = self.cache.turn().await;
        self.cache.forget();
        self.offered.forget();
        turn
    }
}

#[async_trait]
impl KeySource for CachedKeySource {
    async fn resolve(&self) -> Result<Secret> {
        let Shared { inner, lifetime, cache, .. } = &*self.shared;
        if let Some(secret) = cache.get(&()) {
            return Ok(secret);
        }
        let _turn = cache.turn().await;
        if let Some(secret) = cache.get(&()) {
            return Ok(secret);
        }
        let secret = inner.resolve().await?;
        cache.put((), secret.clone(), *lifetime);
        Ok(secret)
    }

    fn describe(&self) -> String {
        format!("{}, remembered for {:?}", self.shared.inner.describe(), self.shared.lifetime)
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        let Shared { inner, lifetime, cache, offered } = &*self.shared;
        if let Some(found) = offered.get(&()) {
            return Ok(found);
        }
        let _turn = cache.turn().await;
        if let Some(found) = offered.get(&()) {
            return Ok(found);
        }
        let found = inner.candidates().await?;
        offered.put((), found.clone(), *lifetime);
        if let [only] = found.as_slice() {
            cache.put((), only.secret.clone(), *lifetime);
        }
        Ok(found)
    }

    async fn create(&self) -> Result<Option<Secret>> {
        let _turn = self.shared.anew().await;
        self.shared.inner.create().await
    }

    async fn replace(&self) -> Result<Secret> {
        let _turn = self.shared.anew().await;
        self.shared.inner.replace().await
    }

    async fn settle(&self, secret: &Secret) -> Result<()> {
        let _turn = self.shared.anew().await;
        self.shared.inner.settle(secret).await
    }

    fn forget(&self) {
        self.shared.cache.forget();
        self.shared.offered.forget();
        self.shared.inner.forget();
    }

    fn is_fixed(&self) -> bool {
        self.shared.inner.is_fixed()
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
        !source.shared.cache.is_empty()
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
