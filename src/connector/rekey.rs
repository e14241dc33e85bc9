//! A change of key.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::error::Result;

/// A change of key that has only to be made: the future does it, and is polled once no connection is open. Dropped before
/// its end, it leaves the old key or the new one, and the connector knows which.
pub type Rekeying = BoxFuture<'static, Result<RekeyReport>>;

/// What a change of key has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RekeyReport {
    /// Pages that were written anew.
    pub pages: u64,
    /// How long it took, while nobody could work; to wait for calls under way comes before that.
    pub duration: Duration,
}

impl RekeyReport {
    /// So many pages, and for so long.
    pub fn new(pages: u64, duration: Duration) -> Self {
        Self { pages, duration }
    }
}
