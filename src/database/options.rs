//! How a transaction is to be run.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::connector::{Isolation, TransactionMode};
use crate::error::{Error, ErrorKind};
use crate::retry::{ExponentialBackoff, RetryPolicy};

/// How [`transaction_with`](super::AsyncDatabase::transaction_with) runs a transaction. Cheap to clone, and meant to be
/// made once.
///
/// ```
/// use std::time::Duration;
/// use strongroom::database::{Isolation, TransactionOptions};
/// use strongroom::pool::FixedDelay;
///
/// let options = TransactionOptions::new()
///     .isolation(Isolation::Serializable)
///     .retry(FixedDelay::new(5, Duration::from_millis(100)))
///     .deadline(Duration::from_secs(10))
///     .label("monthly invoice");
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct TransactionOptions {
    pub(super) mode: TransactionMode,
    pub(super) retry: Arc<dyn RetryPolicy>,
    pub(super) deadline: Option<Duration>,
    pub(super) label: Option<Arc<str>>,
    pub(super) idempotent: bool,
}

impl Default for TransactionOptions {
    fn default() -> Self {
        Self {
            mode: TransactionMode::WRITE,
            retry: Arc::new(ExponentialBackoff::default()),
            deadline: None,
            label: None,
            idempotent: false,
        }
    }
}

impl TransactionOptions {
    /// A transaction that writes, tried again as [`ExponentialBackoff`] says by default: for up to 30 s.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it writes, and what it may see; [`TransactionMode::WRITE`] by default.
    pub fn mode(self, mode: TransactionMode) -> Self {
        Self { mode, ..self }
    }

    /// What it may see of others; the engine's default otherwise.
    pub fn isolation(self, isolation: Isolation) -> Self {
        Self { mode: self.mode.isolation(isolation), ..self }
    }

    /// Decides which failed attempts are followed by another, and after which pause. It is asked only where another
    /// attempt is safe: the failed one was rolled back, and its error is [transient](Error::is_transient).
    pub fn retry(self, policy: impl RetryPolicy + 'static) -> Self {
        Self { retry: Arc::new(policy), ..self }
    }

    /// How long all attempts and the pauses between them may take together; no limit by default. See
    /// [`with_timeout`](super::AsyncDatabase::with_timeout) for what a late one answers; if the handle has a limit too,
    /// the shorter one counts.
    pub fn deadline(self, limit: Duration) -> Self {
        Self { deadline: Some(limit), ..self }
    }

    /// What the transaction is for; shown to those who wait for its connection in vain. Not for secrets.
    pub fn label(self, label: impl Into<Arc<str>>) -> Self {
        Self { label: Some(label.into()), ..self }
    }

    /// Declares that doing all of it twice is as good as once. Only then is it run again after an
    /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown).
    pub fn idempotent(self, idempotent: bool) -> Self {
        Self { idempotent, ..self }
    }

    /// The error as the policy is to see it; `None` where another attempt could do harm or cannot help.
    pub(super) fn retryable(&self, error: &Error) -> Option<Error> {
        match error.kind() {
            ErrorKind::OutcomeUnknown => self.idempotent.then(|| error.clone().transient()),
            _ => error.is_transient().then(|| error.clone()),
        }
    }
}

impl fmt::Debug for TransactionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionOptions")
            .field("mode", &self.mode)
            .field("deadline", &self.deadline)
            .field("label", &self.label)
            .field("idempotent", &self.idempotent)
            .finish_non_exhaustive()
    }
}
