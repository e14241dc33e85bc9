//! Where the key is from that a database has.

use std::sync::OnceLock;

/// The names of all sources whose keys it has had; the last one is in use. They are only added, so that they can be lent.
#[derive(Debug, Default)]
pub(super) struct SourceNames(OnceLock<(String, Box<Self>)>);

impl SourceNames {
    pub(super) fn last(&self) -> Option<&str> {
        let (name, later) = self.0.get()?;
        later.last().or(Some(name))
    }

    /// One is added at a time.
    pub(super) fn add(&self, name: String) {
        match self.0.get() {
            Some((_, later)) => later.add(name),
            None => drop(self.0.set((name, Box::default()))),
        }
    }
}
