//! Commits that wait for the disk.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::error::Result;

/// A commit that others can see already, and that is not to be acknowledged before the disk has it. The connection is free
/// meanwhile.
///
/// Dropping it does not undo the commit.
#[must_use = "the commit is not durable before this has been waited for"]
pub struct PendingCommit(Pin<Box<dyn Future<Output = Result<()>> + Send>>);

impl PendingCommit {
    /// `synced` ends when the disk has the commit, or with the error that kept it from that:
    /// [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown).
    pub fn new(synced: impl Future<Output = Result<()>> + Send + 'static) -> Self {
        Self(Box::pin(synced))
    }

    /// Waits until the disk has the commit.
    ///
    /// # Errors
    /// [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) when the disk failed.
    ///
    /// # Cancel safety
    /// The commit stands; whether it would survive a power failure stays unknown.
    pub async fn wait(self) -> Result<()> {
        self.0.await
    }
}

impl fmt::Debug for PendingCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCommit").finish_non_exhaustive()
    }
}
