//! The key that a source makes for a change of key.

use std::sync::Arc;

use async_trait::async_trait;

use super::call::{Limit, within};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyCandidate, KeySource};
use crate::lock::Lock;
use crate::secret::Secret;

/// Answers with a new secret of another source, which keeps it once it is settled. After that, it answers as that source
/// does.
#[derive(Clone)]
pub(super) struct FreshKey {
    source: Arc<dyn KeySource>,
    made: Arc<Lock<FreshState>>,
}

enum FreshState {
    NotYet,
    Unsettled(Secret),
    Settled,
}

impl FreshKey {
    pub(super) fn of(source: Arc<dyn KeySource>) -> Self {
        Self { source, made: Arc::new(Lock::new(FreshState::NotYet)) }
    }

    /// The database is encrypted under the new secret.
    pub(super) async fn settle(&self, limit: Limit) -> Result<()> {
        let made = std::mem::replace(&mut *self.made.lock(), FreshState::Settled);
        let FreshState::Unsettled(made) = made else { return Ok(()) };
        let settled = within(limit, self.source.settle(&made)).await;
        settled.map_err(|error| {
            let source = self.source.describe();
            error.context(format_args!("the database has the new key now, but {source} still offers the old one too"))
        })
    }

    async fn make(&self) -> Result<Secret> {
        let made = self.source.replace().await?;
        // A database under a key that nobody has is lost.
        let offered = self.source.candidates().await?;
        if !offered.iter().any(|candidate| candidate.secret.expose() == made.expose()) {
            let message = format!("{} does not offer the key that it has made", self.source.describe());
            return Err(Error::new(ErrorKind::Key, message).hint("candidates() has to list it before it is settled"));
        }
        *self.made.lock() = FreshState::Unsettled(made.clone());
        Ok(made)
    }
}

#[async_trait]
impl KeySource for FreshKey {
    async fn resolve(&self) -> Result<Secret> {
        if matches!(*self.made.lock(), FreshState::NotYet) { self.make().await } else { self.source.resolve().await }
    }

    fn describe(&self) -> String {
        self.source.describe()
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        if matches!(*self.made.lock(), FreshState::NotYet) {
            return Ok(vec![KeyCandidate { secret: self.make().await?, source: self.describe() }]);
        }
        self.source.candidates().await
    }

    fn forget(&self) {
        self.source.forget();
    }
}
