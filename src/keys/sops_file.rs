//! The key in a SOPS file that a configuration, or the caller of a function, names.

use std::path::Path;

use super::sops::SopsKeySource;
use crate::error::Result;
use crate::key::KeySource;

/// The key named `key` in the SOPS file at `path`; relative paths start at `directory`.
#[allow(clippy::unnecessary_wraps, reason = "without the feature it fails")]
pub(super) fn source(directory: &Path, path: &Path, key: &str) -> Result<Box<dyn KeySource>> {
    Ok(Box::new(SopsKeySource::within(directory, path, key)))
}
