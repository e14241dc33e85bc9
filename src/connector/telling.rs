//! What an engine tells of its own work to those who observe the pool.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::key::{KeyCandidate, KeySource};
use crate::secret::Secret;

/// Something that an engine did beside the calls that it answers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EngineEvent {
    /// A reader keeps its read transaction open for the reads that follow.
    SnapshotKept,
    /// Such a transaction has ended: something was committed, nobody used it any more, or the log is to start over.
    SnapshotEnded {
        /// How long it was open.
        kept: Duration,
    },
    /// The log was copied into the database file, or that was tried.
    LogCopied {
        /// How many of its frames (pages) were copied, as far as the engine can tell.
        frames: Option<u32>,
        /// How many the file still does not have, because somebody reads from them.
        left: u32,
        /// How long it took.
        took: Duration,
        /// What it failed with.
        error: Option<Error>,
    },
    /// A source was asked for a key or a password.
    KeyAsked {
        /// The name of the one that answered, of several keys that of the first; if it failed, of the one that was asked.
        source: String,
        /// How long it took.
        took: Duration,
        /// What it failed with.
        error: Option<Error>,
    },
}

/// Whom an engine tells; see [`Connector::observed`](crate::Connector::observed).
#[derive(Clone)]
pub struct EngineListener(Arc<dyn Fn(&EngineEvent) + Send + Sync>);

impl EngineListener {
    /// One that is told by `tell`, which must not block.
    pub fn new(tell: impl Fn(&EngineEvent) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Tells it. Under no lock: those who observe are foreign code.
    pub fn tell(&self, event: &EngineEvent) {
        (self.0)(event);
    }
}

impl fmt::Debug for EngineListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EngineListener")
    }
}

/// A source of which it is told how it answers.
pub(crate) struct AskedKeySource<K> {
    source: K,
    listener: Option<EngineListener>,
}

impl<K: KeySource> AskedKeySource<K> {
    pub(crate) fn new(source: K, listener: Option<EngineListener>) -> Self {
        Self { source, listener }
    }

    /// `who` names the source of an answer; there may be none. Without anybody who wants to know, nobody is asked for a name.
    async fn asked<T>(
        &self,
        answer: impl Future<Output = Result<T>> + Send,
        who: impl FnOnce(&T) -> Option<String> + Send,
    ) -> Result<T> {
        if self.listener.is_none() && !tracing::enabled!(tracing::Level::DEBUG) {
            return answer.await;
        }
        let began = Instant::now();
        let answer = answer.await;
        let (took, error) = (began.elapsed(), answer.as_ref().err());
        let source = match &answer {
            Ok(answer) => who(answer),
            Err(_) => Some(self.source.describe()),
        };
        let Some(source) = source else { return answer };
        if let Some(error) = error {
            // The caller has the error.
            tracing::debug!(key_source = source, ?took, %error, "a key source gave no key");
        } else {
            tracing::debug!(key_source = source, ?took, "a key source has answered");
        }
        if let Some(listener) = &self.listener {
            listener.tell(&EngineEvent::KeyAsked { source, took, error: error.cloned() });
        }
        answer
    }
}

#[async_trait]
impl<K: KeySource> KeySource for AskedKeySource<K> {
    async fn resolve(&self) -> Result<Secret> {
        self.asked(self.source.resolve(), |_| Some(self.source.describe())).await
    }

    fn describe(&self) -> String {
        self.source.describe()
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        let first = |found: &Vec<KeyCandidate>| found.first().map(|first| first.source.clone());
        self.asked(self.source.candidates(), |found| first(found).or_else(|| Some(self.source.describe()))).await
    }

    async fn create(&self) -> Result<Option<Secret>> {
        self.asked(self.source.create(), |made| made.as_ref().map(|_| self.source.describe())).await
    }

    async fn replace(&self) -> Result<Secret> {
        self.asked(self.source.replace(), |_| Some(self.source.describe())).await
    }

    async fn settle(&self, secret: &Secret) -> Result<()> {
        self.source.settle(secret).await
    }

    fn forget(&self) {
        self.source.forget();
    }

    fn is_fixed(&self) -> bool {
        self.source.is_fixed()
    }
}
