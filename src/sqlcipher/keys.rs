//! The keys that a database is tried with.

use std::sync::Arc;

use async_trait::async_trait;

use super::cipher;
use super::opening::location::Location;
use super::running::job::on_thread;
use crate::error::{Error, ErrorKind, Phase, Reason, Result};
use crate::key::{KeyCandidate, KeySource};
use crate::secret::{Secret, SecretForm};

/// What a source offers for one opening.
#[derive(Default)]
pub(super) struct Offer {
    pub(super) candidates: Vec<KeyCandidate>,
    /// The one that was made for this database, and has to be settled.
    pub(super) made: Option<Secret>,
}

impl Offer {
    /// Asks `source` for a new secret if the file is missing and may be made, else for those it has.
    pub(super) async fn of(source: &dyn KeySource, location: &Location, may_create: bool) -> Result<Self> {
        if is_missing(location, may_create).await? {
            match source.create().await {
                Ok(Some(secret)) => {
                    let candidate = KeyCandidate { secret: secret.clone(), source: source.describe() };
                    check(&candidate)?;
                    return Ok(Self { candidates: vec![candidate], made: Some(secret) });
                }
                // Where another process has made the file meanwhile, that is why.
                Err(error) if is_missing(location, may_create).await? => return Err(explained(source, error)),
                // The file gets the key that the source has now.
                Ok(None) | Err(_) => source.forget(),
            }
        }
        Ok(Self { candidates: candidates(source).await?, made: None })
    }
}

/// What a source has offered, to be tried several times. The source is asked once, and anew: what it remembers may have
/// been replaced, and a file that gets such a key opens with none.
#[derive(Clone)]
pub(super) struct OfferedKeys(Vec<KeyCandidate>);

impl OfferedKeys {
    pub(super) async fn of(source: &dyn KeySource) -> Result<Self> {
        Ok(Self(anew(source).await?))
    }

    pub(super) fn into_secrets(self) -> Vec<Secret> {
        self.0.into_iter().map(|candidate| candidate.secret).collect()
    }
}

#[async_trait]
impl KeySource for OfferedKeys {
    async fn resolve(&self) -> Result<Secret> {
        self.0.first().map(|candidate| candidate.secret.clone()).ok_or_else(|| offers_nothing(self))
    }

    fn describe(&self) -> String {
        self.0.first().map(|candidate| candidate.source.clone()).unwrap_or_default()
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        Ok(self.0.clone())
    }

    fn is_fixed(&self) -> bool {
        true
    }
}

/// The key of a file that is made in one piece: a new one of its source, or the first that this has, where it makes none.
pub(super) struct FirstKey {
    pub(super) secret: Secret,
    made_by: Option<Arc<dyn KeySource>>,
}

impl FirstKey {
    pub(super) async fn of(source: Arc<dyn KeySource>) -> Result<Self> {
        if let Some(secret) = source.create().await.map_err(|error| explained(&*source, error))? {
            check(&KeyCandidate { secret: secret.clone(), source: source.describe() })?;
            return Ok(Self { secret, made_by: Some(source) });
        }
        Ok(Self { secret: OfferedKeys::of(&*source).await?.resolve().await?, made_by: None })
    }

    /// The file is there.
    pub(super) async fn settle(self) {
        if let Some(source) = self.made_by {
            settle(&*source, &self.secret).await;
        }
    }
}

/// Whether a file is to be made. A database in memory is new each time, and leaves nothing that a new key would open.
pub(super) async fn is_missing(location: &Location, may_create: bool) -> Result<bool> {
    let location = location.clone();
    // What else is wrong with the path is said at opening.
    on_thread(move || !location.is_memory() && location.is_new(may_create).unwrap_or(false)).await
}

/// The secrets of `source`; those that could protect nothing are refused by the name of their source.
pub(super) async fn candidates(source: &dyn KeySource) -> Result<Vec<KeyCandidate>> {
    let found = source.candidates().await.map_err(|error| explained(source, error))?;
    found.iter().try_for_each(check)?;
    // Never without a key, if one was asked for.
    if found.is_empty() { Err(offers_nothing(source)) } else { Ok(found) }
}

/// The same, whatever it remembers.
pub(super) async fn anew(source: &dyn KeySource) -> Result<Vec<KeyCandidate>> {
    source.forget();
    candidates(source).await
}

pub(super) fn offers_nothing(source: &dyn KeySource) -> Error {
    let error = Error::new(ErrorKind::Key, format!("{}: it offers no key", source.describe()));
    error.because(Reason::Missing).during(Phase::Key).hint("give at least one")
}

fn explained(source: &dyn KeySource, error: Error) -> Error {
    error.about(source.describe()).during(Phase::Key)
}

fn check(KeyCandidate { secret, source }: &KeyCandidate) -> Result<()> {
    if secret.form() == SecretForm::Passphrase {
        cipher::check_passphrase(secret).map_err(|error| error.context(source.clone()))?;
    }
    Ok(())
}

/// Has `source` keep the secret that it made. The database is open: what fails here is no reason to refuse it.
pub(super) async fn settle(source: &dyn KeySource, secret: &Secret) {
    if let Err(error) = source.settle(secret).await {
        tracing::warn!(key_source = source.describe(), %error, "the key of a new database could not be settled, but is stored");
    }
}
