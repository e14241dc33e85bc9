//! Files that are named now and read later.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::veiled::Veiled;

/// A path as the user named it, and where it led then: a later change of the working directory moves nothing.
#[derive(Clone, Debug)]
pub(super) struct Place {
    named: Veiled<PathBuf>,
    found: Veiled<PathBuf>,
}

impl Place {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self::within(&directory(), &path.into())
    }

    /// The same for a path that was named when `directory` was the working directory.
    pub(super) fn within(directory: &Path, path: &Path) -> Self {
        // An empty path names nothing, and not the directory.
        let found = if path.as_os_str().is_empty() { PathBuf::new() } else { directory.join(path) };
        // It fails for an empty path, or without a working directory.
        let found = std::path::absolute(&found).unwrap_or(found);
        Self { named: Veiled(path.to_owned()), found: Veiled(found) }
    }

    /// Where a new secret stands until it is settled: beside the file, behind links.
    pub(super) fn next(&self) -> Self {
        let add = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".next");
            PathBuf::from(name)
        };
        Self { named: Veiled(add(&self.named.0)), found: Veiled(add(&self.behind_links())) }
    }

    /// Where the file itself is.
    pub(super) fn behind_links(&self) -> PathBuf {
        std::fs::canonicalize(&self.found.0).unwrap_or_else(|_| self.found.0.clone())
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.found.0
    }
}

/// As the user named it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.named.0.as_os_str().is_empty() { f.write_str("``") } else { Veiled(self.named.0.display()).fmt(f) }
    }
}

/// The working directory, if there is one.
pub(super) fn directory() -> PathBuf {
    std::env::current_dir().unwrap_or_default()
}

/// What to look at when a file is not there.
pub(super) const RELATIVE: &str = "a relative path starts at the working directory in which it was named";
