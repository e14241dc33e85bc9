//! A file exchanged as a whole: at every moment it has the content of before or after.

use std::fs;
use std::path::Path;

use crate::error::{Error, Reason, Result};
use crate::keys::beside::{Beside, sync_directory, unwritable};
use crate::private::FileRights;

use super::fault::fault;
use super::file::{Stamp, stamp};

/// Writes `bytes` over the file at `path`, if that is still the file of `seen`. Links are followed, and permissions and
/// owner stay. Both the file and its directory are synced.
pub(super) fn over(path: &Path, bytes: &[u8], seen: &Stamp) -> Result<()> {
    let trouble = |error| unwritable("the file", error);
    let path = fs::canonicalize(path).map_err(trouble)?;
    let before = fs::metadata(&path).map_err(trouble)?;
    if before.permissions().readonly() {
        return Err(fault(Reason::NotPermitted, "the file is read-only"));
    }
    let rights = FileRights::of(&path).map_err(trouble)?;
    let beside = Beside::write(&path, bytes, Some(&rights)).map_err(trouble)?;
    if stamp(&path)? != *seen {
        return Err(changed());
    }
    beside.replace(&path).and_then(|()| sync_directory(&path)).map_err(trouble)
}

fn changed() -> Error {
    fault(Reason::Io, "the file was changed meanwhile, and stays as it is now").transient()
}
