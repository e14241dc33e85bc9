//! The key source of a database that is opened by a configuration.

use async_trait::async_trait;

use crate::config::DatabaseConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeySource;
use crate::secret::Secret;

/// The key that a configuration names, found when it is needed, so that a configuration without a key fails at opening.
#[derive(Debug)]
pub(super) struct ConfiguredKey(DatabaseConfig);

impl ConfiguredKey {
    pub(super) fn new(config: &DatabaseConfig) -> Self {
        Self(config.clone())
    }
}

#[async_trait]
impl KeySource for ConfiguredKey {
    async fn resolve(&self) -> Result<Secret> {
        match self.0.key_source(None)? {
            Some(source) => source.resolve().await,
            None => Err(Error::new(ErrorKind::Key, "the configuration names no key")),
        }
    }

    fn describe(&self) -> String {
        match self.0.key_source(None) {
            Ok(Some(source)) => source.describe(),
            _ => "the configuration".into(),
        }
    }
}
