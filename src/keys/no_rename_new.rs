//! Renaming a file without replacing another one: not in one call.

use std::io;
use std::path::Path;

pub(super) fn rename_new(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
