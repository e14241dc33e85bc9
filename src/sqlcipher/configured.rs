//! The key source of a database that is opened by a configuration.

use async_trait::async_trait;

use crate::config::DatabaseConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyCandidate, KeySource};
use crate::secret::Secret;

/// The key that a configuration names, found when it is needed, so that a configuration without a key fails at opening.
#[derive(Debug)]
pub(super) struct ConfiguredKey(DatabaseConfig);

impl ConfiguredKey {
    pub(super) fn new(config: &DatabaseConfig) -> Self {
        Self(config.clone())
    }

    fn source(&self) -> Result<Box<dyn KeySource>> {
        let source = self.0.key_source(None)?;
        source.ok_or_else(|| Error::new(ErrorKind::Key, "the configuration names no key"))
    }
}

#[async_trait]
impl KeySource for ConfiguredKey {
    async fn resolve(&self) -> Result<Secret> {
        self.source()?.resolve().await
    }

    fn describe(&self) -> String {
        match self.0.key_source(None) {
            Ok(Some(source)) => source.describe(),
            _ => "the configuration".into(),
        }
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        self.source()?.candidates().await
    }

    async fn create(&self) -> Result<Option<Secret>> {
        self.source()?.create().await
    }

    async fn replace(&self) -> Result<Secret> {
        self.source()?.replace().await
    }

    async fn settle(&self, secret: &Secret) -> Result<()> {
        self.source()?.settle(secret).await
    }

    fn is_fixed(&self) -> bool {
        self.source().is_ok_and(|source| source.is_fixed())
    }
}
