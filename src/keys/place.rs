//! Files that are named now and read later.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// A path as the user named it, and where it led then: a later change of the working directory moves nothing.
#[derive(Clone, Debug)]
pub(super) struct Place {
    named: PathBuf,
    found: PathBuf,
}

impl Place {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        let named = path.into();
        // It fails for an empty path, which names nothing, or without a working directory.
        let found = std::path::absolute(&named).unwrap_or_else(|_| named.clone());
        Self { named, found }
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.found
    }
}

/// As the user named it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.named.as_os_str().is_empty() { f.write_str("``") } else { self.named.display().fmt(f) }
    }
}

/// A program by its path, or a name that is looked up in `PATH` when it is run.
pub(super) fn program(program: OsString) -> OsString {
    let path = Path::new(&program);
    if path.components().count() > 1 { Place::new(path).found.into_os_string() } else { program }
}

/// The working directory, if there is one.
pub(super) fn directory() -> PathBuf {
    std::env::current_dir().unwrap_or_default()
}
