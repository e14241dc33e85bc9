//! The key that a source makes for a change of key.

use std::sync::Arc;

use async_trait::async_trait;

use super::call::{Limit, within};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyCandidate, KeySource};
use crate::lock::Lock;
use crate::secret::Secret;

/// Answers with a new secret of another source, which keeps it once it is settled. Asked again, when nobody else can change
/// the key any more, it says whether the secret is still the one to take. After that, it answers as that source does.
#[derive(Clone)]
pub(super) struct FreshKey {
    source: Arc<dyn KeySource>,
    state: Arc<Lock<FreshState>>,
}

#[derive(Clone)]
enum FreshState {
    NotYet,
    Made(Secret),
    /// The database is encrypted under it from now on.
    Taken(Secret),
    Settled,
}

impl FreshKey {
    pub(super) fn of(source: Arc<dyn KeySource>) -> Self {
        Self { source, state: Arc::new(Lock::new(FreshState::NotYet)) }
    }

    /// The database is encrypted under the new secret.
    pub(super) async fn settle(&self, limit: Limit) -> Result<()> {
        let state = std::mem::replace(&mut *self.state.lock(), FreshState::Settled);
        let (FreshState::Made(made) | FreshState::Taken(made)) = state else { return Ok(()) };
        let settled = within(limit, self.source.settle(&made)).await;
        settled.map_err(|error| {
            let source = self.source.describe();
            error
                .context(format_args!("the database has the new key now, but {source} did not take it for the old one"))
        })
    }

    async fn make(&self) -> Result<Secret> {
        let made = self.source.replace().await?;
        // A database under a key that nobody has is lost.
        if !is_among(&self.source.candidates().await?, &made) {
            let message = format!("{} does not offer the key that it has made", self.source.describe());
            return Err(Error::new(ErrorKind::Key, message).hint("candidates() has to list it before it is settled"));
        }
        *self.state.lock() = FreshState::Made(made.clone());
        Ok(made)
    }

    /// What the source offers, if `made` is still the secret to take. Once that was settled on behalf of another call, the
    /// database may have a later one, which `replace` gives then.
    async fn take(&self, made: Secret) -> Result<Vec<KeyCandidate>> {
        let offered = self.source.candidates().await?;
        let is_next =
            is_among(&offered, &made) && (offered.len() == 1 || self.source.replace().await?.expose() == made.expose());
        if !is_next {
            let message = format!("{} has a later key than the one that it made for this call", self.source.describe());
            let error = Error::new(ErrorKind::Busy, message);
            return Err(error
                .hint("another call changed the key meanwhile; call again for yet another one")
                .transient());
        }
        *self.state.lock() = FreshState::Taken(made);
        Ok(offered)
    }
}

fn is_among(offered: &[KeyCandidate], secret: &Secret) -> bool {
    offered.iter().any(|candidate| candidate.secret.expose() == secret.expose())
}

#[async_trait]
impl KeySource for FreshKey {
    async fn resolve(&self) -> Result<Secret> {
        if matches!(*self.state.lock(), FreshState::NotYet) { self.make().await } else { self.source.resolve().await }
    }

    fn describe(&self) -> String {
        self.source.describe()
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        let state = self.state.lock().clone();
        match state {
            FreshState::NotYet => Ok(vec![KeyCandidate { secret: self.make().await?, source: self.describe() }]),
            FreshState::Made(made) => self.take(made).await,
            FreshState::Taken(_) | FreshState::Settled => self.source.candidates().await,
        }
    }

    fn forget(&self) {
        self.source.forget();
    }
}
