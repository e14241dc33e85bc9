//! Several sources, of which one has the key of the file.

use std::fmt;

use async_trait::async_trait;

use super::chain::{self, Refusals, ask};
use crate::error::Result;
use crate::key::{KeyCandidate, KeySource};
use crate::secret::Secret;

/// Offers the secrets of all its sources, and the one that opens the database is taken: for the time of a change of key,
/// when the file may have the new one already, or the old one still.
///
/// The first source is tried first, and a new database gets its key. A source that fails is passed over, and named in the
/// log unless it has nothing ([`Reason::Missing`](crate::Reason::Missing)); where a key is made or replaced, such a failure
/// ends the call. Each wrong passphrase costs a derivation, a
/// fraction of a second; raw keys cost nothing.
/// [`key_source`](crate::AsyncDatabase::key_source) says which one it was.
///
/// Engines that cannot tell a wrong secret from other trouble (PostgreSQL) get the first that answers, as from a
/// [`ChainKeySource`](crate::ChainKeySource).
///
/// ```
/// use strongroom::keys::CandidateKeySource;
/// use strongroom::{AsyncDatabase, PassphraseKeySource};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("app.db");
/// # AsyncDatabase::builder(&path).key(PassphraseKeySource::new("of last year")).open().await?.close().await?;
/// let both = CandidateKeySource::new(PassphraseKeySource::new("of this year")).or(PassphraseKeySource::new("of last year"));
/// let db = AsyncDatabase::builder(&path).key(both).open().await?;
/// # db.close().await?;
/// # Ok(()) }
/// ```
pub struct CandidateKeySource {
    sources: Vec<Box<dyn KeySource>>,
}

impl CandidateKeySource {
    /// Tries the secret of `first` first; a new database gets it.
    pub fn new(first: impl KeySource + 'static) -> Self {
        Self { sources: vec![Box::new(first)] }
    }

    /// Then tries the secret of `next`.
    pub fn or(mut self, next: impl KeySource + 'static) -> Self {
        self.sources.push(Box::new(next));
        self
    }
}

/// Fails when no source answers; the message lists every try.
#[async_trait]
impl KeySource for CandidateKeySource {
    async fn resolve(&self) -> Result<Secret> {
        let mut refusals = Refusals::default();
        for source in &self.sources {
            match ask(source).await {
                Ok(secret) => return Ok(secret),
                Err(error) => refusals.note(source, error),
            }
        }
        Err(refusals.into_error())
    }

    fn describe(&self) -> String {
        let names: Vec<_> = self.sources.iter().map(KeySource::describe).collect();
        names.join(", or ")
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        let (mut found, mut refusals) = (Vec::new(), Refusals::default());
        for source in &self.sources {
            match source.candidates().await {
                // One that is empty is refused by the engine, by the name of its source.
                Ok(candidates) => found.extend(candidates),
                Err(error) => refusals.note(source, error),
            }
        }
        if found.is_empty() { Err(refusals.into_error()) } else { Ok(found) }
    }

    async fn create(&self) -> Result<Option<Secret>> {
        chain::create(&self.sources).await
    }

    async fn replace(&self) -> Result<Secret> {
        chain::replace(&self.sources).await
    }

    async fn settle(&self, secret: &Secret) -> Result<()> {
        chain::settle(&self.sources, secret).await
    }

    fn forget(&self) {
        self.sources.iter().for_each(KeySource::forget);
    }

    fn is_fixed(&self) -> bool {
        self.sources.len() == 1 && self.sources.iter().all(KeySource::is_fixed)
    }
}

impl fmt::Debug for CandidateKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.sources.iter().map(KeySource::describe)).finish()
    }
}
