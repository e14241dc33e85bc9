//! Elsewhere than on Windows there are no job objects.

use tokio::process::Child;

pub(super) use self::NoDescendants as Descendants;

/// Holds nothing.
#[derive(Debug)]
pub(super) struct NoDescendants;

impl NoDescendants {
    pub(super) fn of(_: &Child) -> Self {
        Self
    }

    #[allow(clippy::unused_self, reason = "on Windows it is used")]
    pub(super) fn let_live(&self) {}
}
