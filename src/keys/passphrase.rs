//! A secret that the caller already has.

use async_trait::async_trait;

use crate::error::Result;
use crate::key::KeySource;
use crate::secret::Secret;

/// Gives back the secret it was made with: a passphrase, or a raw key.
///
/// ```
/// use strongroom::{KeySource, PassphraseKeySource};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// let source = PassphraseKeySource::new("typed by the user");
/// assert_eq!(source.resolve().await?.expose(), b"typed by the user");
/// assert_eq!(source.describe(), "a secret given by the caller");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PassphraseKeySource {
    secret: Secret,
}

impl PassphraseKeySource {
    /// Keeps `secret`: a [`Secret`], or anything [`Secret::new`] takes.
    pub fn new(secret: impl Into<Secret>) -> Self {
        Self { secret: secret.into() }
    }
}

#[async_trait]
impl KeySource for PassphraseKeySource {
    async fn resolve(&self) -> Result<Secret> {
        self.secret.resolve().await
    }

    fn describe(&self) -> String {
        self.secret.describe()
    }

    fn is_fixed(&self) -> bool {
        true
    }
}
