//! Several sources, asked one after another.

use std::fmt;

use async_trait::async_trait;

use super::buffer::empty;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::key::{KeyCandidate, KeySource};
use crate::secret::Secret;

/// Asks its sources in order and takes the first secret that is not empty; the later ones are then not touched.
///
/// A source that fails is passed over, whatever the failure; one that had something to give and could not (a reason
/// other than [`Reason::Missing`]) is named in the log. Where a key is made or replaced, such a failure ends the call: the
/// key would come from a source behind the one that is asked first as soon as that answers again.
///
/// ```
/// use strongroom::{ChainKeySource, EnvKeySource, KeySource, PassphraseKeySource};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// let source = ChainKeySource::new(EnvKeySource::new("NO_SUCH_KEY")).or(PassphraseKeySource::new("fallback"));
/// assert_eq!(source.resolve().await?.expose(), b"fallback");
///
/// let source = ChainKeySource::new(EnvKeySource::new("NO_SUCH_KEY")).or(EnvKeySource::new("NOR_THIS"));
/// assert_eq!(
///     source.resolve().await.unwrap_err().to_string(),
///     "no key source answered: environment variable NO_SUCH_KEY (Missing), environment variable NOR_THIS (Missing)",
/// );
/// # Ok(()) }
/// ```
pub struct ChainKeySource {
    sources: Vec<Box<dyn KeySource>>,
}

impl ChainKeySource {
    /// Asks `first` first.
    pub fn new(first: impl KeySource + 'static) -> Self {
        Self { sources: vec![Box::new(first)] }
    }

    /// Then asks `next`.
    pub fn or(mut self, next: impl KeySource + 'static) -> Self {
        self.sources.push(Box::new(next));
        self
    }
}

/// What a chain has been told by those of its sources that have no secret.
#[derive(Default)]
pub(super) struct Refusals {
    tries: Vec<String>,
    telling: Option<Error>,
}

impl Refusals {
    pub(super) fn note(&mut self, source: &dyn KeySource, error: Error) {
        let (name, reason) = (source.describe(), error.reason());
        if reason != Reason::Missing {
            tracing::warn!(source = name, ?reason, "a key source could not answer; the next one is asked");
        }
        self.tries.push(format!("{name} ({reason:?})"));
        if self.telling.as_ref().is_none_or(|kept| kept.reason() == Reason::Missing) {
            self.telling = Some(error);
        }
    }

    /// The error where nobody has one.
    pub(super) fn into_error(self) -> Error {
        let error = Error::new(ErrorKind::Key, format!("no key source answered: {}", self.tries.join(", ")));
        match self.telling {
            Some(cause) => error.because(cause.reason()).caused_by(cause),
            None => error,
        }
    }
}

fn nothing(source: &dyn KeySource) -> Error {
    Error::new(ErrorKind::Key, format!("{} offers no key", source.describe())).because(Reason::Missing)
}

pub(super) async fn ask(source: &dyn KeySource) -> Result<Secret> {
    match source.resolve().await? {
        secret if secret.is_empty() => Err(empty(&source.describe())),
        secret => Ok(secret),
    }
}

/// The secret that the first of `sources` makes which makes one, unless one before it has one already.
pub(super) async fn create(sources: &[Box<dyn KeySource>]) -> Result<Option<Secret>> {
    let mut in_the_way = None;
    for source in sources {
        // One that refuses is not passed over: it would be asked first when the database is opened again.
        if in_the_way.is_none()
            && let Some(secret) = source.create().await?
        {
            return Ok(Some(secret));
        }
        match has_key(source).await {
            // Having one, it makes none, but may say that its key is another database's.
            Ok(true) if in_the_way.is_some() => return source.create().await,
            Ok(true) => return Ok(None),
            // This one might make a key.
            Ok(false) => in_the_way.take().map_or(Ok(()), Err)?,
            Err(error) => {
                in_the_way.get_or_insert_with(|| comes_before(source, error));
            }
        }
    }
    Ok(None)
}

/// Whether a source has a key. Only one that says that it has none is passed over where a key is made behind it: what is
/// locked today is asked first tomorrow, and then the database would have a key that nobody offers.
async fn has_key(source: &dyn KeySource) -> Result<bool> {
    match source.candidates().await {
        Ok(found) => Ok(found.iter().any(|candidate| !candidate.secret.is_empty())),
        Err(error) if matches!(error.reason(), Reason::Missing | Reason::Empty) => Ok(false),
        Err(error) => Err(error),
    }
}

fn comes_before(source: &dyn KeySource, error: Error) -> Error {
    error.context(format_args!("{} may have a key, and comes before the one that would make it", source.describe()))
}

/// The secret that takes the place of the one that the first of `sources` has which has one.
pub(super) async fn replace(sources: &[Box<dyn KeySource>]) -> Result<Secret> {
    let mut refusals = Refusals::default();
    for source in sources {
        if has_key(source).await.map_err(|error| comes_before(source, error))? {
            return source.replace().await;
        }
        refusals.note(source, nothing(source));
    }
    Err(refusals.into_error())
}

/// Has those of `sources` settle `secret` that offer it: the others neither have it nor may take it. Where none does, the
/// one says so that would make the next one.
pub(super) async fn settle(sources: &[Box<dyn KeySource>], secret: &Secret) -> Result<()> {
    let (mut settled, mut first, mut refusals) = (None, None, Refusals::default());
    for source in sources {
        match source.candidates().await {
            Ok(found) if found.iter().any(|candidate| candidate.secret.expose() == secret.expose()) => {
                let outcome = source.settle(secret).await;
                // All are asked, whatever the others say.
                settled = Some(settled.unwrap_or(Ok(())).and(outcome));
            }
            Ok(found) if found.is_empty() => {}
            Ok(_) => first = first.or(Some(source)),
            Err(error) => refusals.note(source, error),
        }
    }
    match (settled, first) {
        (Some(settled), _) => settled,
        (None, Some(source)) => source.settle(secret).await,
        (None, None) => Err(refusals.into_error()),
    }
}

/// Fails when no source answers. The message lists every try; the error's source, and its reason, are those of the
/// first try that found more than nothing.
#[async_trait]
impl KeySource for ChainKeySource {
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
        names.join(", then ")
    }

    /// The first source that has a secret offers all that it has: while one is replaced, there are two.
    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        let mut refusals = Refusals::default();
        for source in &self.sources {
            match source.candidates().await {
                Ok(found) => match found.as_slice() {
                    [] => refusals.note(source, nothing(source)),
                    [only] if only.secret.is_empty() => refusals.note(source, empty(&only.source)),
                    _ => return Ok(found),
                },
                Err(error) => refusals.note(source, error),
            }
        }
        Err(refusals.into_error())
    }

    async fn create(&self) -> Result<Option<Secret>> {
        create(&self.sources).await
    }

    async fn replace(&self) -> Result<Secret> {
        replace(&self.sources).await
    }

    async fn settle(&self, secret: &Secret) -> Result<()> {
        settle(&self.sources, secret).await
    }

    fn forget(&self) {
        self.sources.iter().for_each(KeySource::forget);
    }

    fn is_fixed(&self) -> bool {
        self.sources.iter().all(KeySource::is_fixed)
    }
}

impl fmt::Debug for ChainKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.sources.iter().map(KeySource::describe)).finish()
    }
}
