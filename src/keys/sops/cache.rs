//! One resolved secret, kept for a while.
//!
//! What is kept is bound to the identity and the times of the file, so a changed file is read anew. It is wiped when
//! its time is over, whether anybody asks for it or not, and when the source is dropped.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::lock::{Guard, Lock, foreign};
use crate::secret::Secret;

use super::file::Stamp;

/// Room for one secret.
#[derive(Default)]
pub(super) struct Cache {
    slot: Lock<Option<Kept>>,
    /// Held while the file is read, so that many who ask at once read it once.
    pub(super) turn: tokio::sync::Mutex<()>,
}

struct Kept {
    stamp: Stamp,
    secret: Secret,
    until: Instant,
    /// Empties the room when the time is over.
    timer: JoinHandle<()>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        foreign();
        self.timer.abort();
    }
}

impl Cache {
    /// The secret, if it is still good and the file is still the same.
    pub(super) fn get(&self, stamp: &Stamp) -> Option<Secret> {
        let slot = self.slot();
        let kept = slot.as_ref().filter(|kept| kept.stamp == *stamp && Instant::now() < kept.until)?;
        Some(kept.secret.clone())
    }

    /// Keeps `secret` for `ttl`.
    pub(super) fn put(self: &Arc<Self>, stamp: Stamp, secret: Secret, ttl: Duration) {
        let until = Instant::now() + ttl;
        let expiry = Expiry { room: Arc::downgrade(self), until };
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            drop(expiry);
        });
        let old = self.slot().replace(Kept { stamp, secret, until, timer });
        drop(old);
    }

    fn slot(&self) -> Guard<'_, Option<Kept>> {
        self.slot.lock()
    }
}

/// Empties the room when dropped, unless it holds something newer: at the end of the time, or with the runtime.
struct Expiry {
    room: Weak<Cache>,
    until: Instant,
}

impl Drop for Expiry {
    fn drop(&mut self) {
        if let Some(room) = self.room.upgrade() {
            let old = room.slot().take_if(|kept| kept.until <= self.until);
            // Outside the lock, for this may drop the timer, and with it another one of these.
            drop(old);
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache")
    }
}
