//! The key that a source makes for a change of key.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::key::KeySource;
use crate::secret::Secret;

/// Answers with a new secret of another source, which keeps it once it is settled.
#[derive(Clone)]
pub(super) struct FreshKey {
    source: Arc<dyn KeySource>,
    made: Arc<OnceLock<Secret>>,
}

impl FreshKey {
    pub(super) fn of(source: Arc<dyn KeySource>) -> Self {
        Self { source, made: Arc::default() }
    }

    /// The database is encrypted under the new secret.
    pub(super) async fn settle(&self) -> Result<()> {
        let Some(made) = self.made.get() else { return Ok(()) };
        let settled = self.source.settle(made).await;
        settled.map_err(|error| {
            let source = self.source.describe();
            error.context(format_args!("the database has the new key now, but {source} still offers the old one too"))
        })
    }
}

#[async_trait]
impl KeySource for FreshKey {
    async fn resolve(&self) -> Result<Secret> {
        let made = self.source.replace().await?;
        // A database under a key that nobody has is lost.
        let offered = self.source.candidates().await?;
        if !offered.iter().any(|candidate| candidate.secret.expose() == made.expose()) {
            let message = format!("{} does not offer the key that it has made", self.source.describe());
            return Err(Error::new(ErrorKind::Key, message).hint("candidates() has to list it before it is settled"));
        }
        Ok(self.made.get_or_init(|| made).clone())
    }

    fn describe(&self) -> String {
        self.source.describe()
    }
}
