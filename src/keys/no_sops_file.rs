//! The key in a SOPS file: not in this build.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::key::KeySource;

pub(super) fn source(_: &Path, _: &Path, _: &str) -> Result<Box<dyn KeySource>> {
    let error = Error::new(ErrorKind::Unsupported, "this build cannot read SOPS files");
    Err(error.hint("build strongroom with the feature `sops`"))
}
