//! One at a time changes a secret that is stored in a file: between a look at what has a name and the next step, nobody
//! else gives that name to something else.

use std::fs::File;
use std::io;
use std::path::Path;

/// Waits until nobody else, in this process or another, is about to change a file of the same directory. Until it is
/// dropped.
///
/// The directory itself is locked, so nothing is left behind. Where that cannot be done (Windows, some network file
/// systems) there is no turn, and what is done at once has to do.
pub(super) struct FileTurn(#[allow(dead_code, reason = "the system unlocks it when it is closed")] Option<File>);

impl FileTurn {
    /// Blocks.
    pub(super) fn beside(file: &Path) -> Self {
        let directory = file.parent().filter(|_| cfg!(unix)).and_then(|directory| File::open(directory).ok());
        Self(directory.filter(|directory| {
            loop {
                match directory.lock() {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    locked => return locked.is_ok(),
                }
            }
        }))
    }
}
