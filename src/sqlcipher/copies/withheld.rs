//! Taking a file from all others while another one takes its place.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// Nobody else has the file open, or opens it, while this lives.
#[derive(Debug)]
pub(super) struct Withheld {
    #[cfg(not(windows))]
    _connection: rusqlite::Connection,
    #[cfg(windows)]
    _handle: std::fs::File,
}

impl Withheld {
    /// Takes what stands at `target`, if there is something.
    pub(super) fn at(target: &Path) -> Result<Option<Self>> {
        if !target.metadata().is_ok_and(|found| found.len() > 0) {
            return Ok(None);
        }
        Self::take(target).map(Some)
    }

    /// By the lock that the engine of everybody who reads or writes it meets.
    #[cfg(not(windows))]
    fn take(target: &Path) -> Result<Self> {
        use crate::sqlcipher::ffi::taken;
        use crate::sqlcipher::opening::location::Location;

        let location = Location::File { path: target.to_owned(), shown: target.to_owned(), only_read: false };
        let connection = location.open()?;
        if taken::take(&connection) { Ok(Self { _connection: connection }) } else { Err(occupied(target)) }
    }

    /// By a handle that lets others rename the file and do nothing else with it. The engine's own handle would keep another
    /// file from getting its name.
    #[cfg(windows)]
    fn take(target: &Path) -> Result<Self> {
        use std::os::windows::fs::OpenOptionsExt as _;
        use std::time::Duration;

        use super::failed::failed;
        use crate::sqlcipher::os::is_held;

        const FILE_SHARE_DELETE: u32 = 4;
        /// Scanners have a file for a moment; SQLite waits as often, and as long.
        const TRIES: u32 = 10;
        const PAUSE: Duration = Duration::from_millis(25);

        let mut options = std::fs::OpenOptions::new();
        options.read(true).share_mode(FILE_SHARE_DELETE);
        for number in 1.. {
            match options.open(target) {
                Ok(handle) => return Ok(Self { _handle: handle }),
                Err(error) if !is_held(&error) => {
                    return Err(failed(target, "what stands there cannot be taken from others", &error));
                }
                Err(_) if number > TRIES => break,
                Err(_) => std::thread::sleep(PAUSE * number),
            }
        }
        Err(occupied(target))
    }
}

fn occupied(target: &Path) -> Error {
    let shown = target.display();
    Error::new(ErrorKind::Busy, format!("the copy cannot stand at {shown}: somebody has the file open"))
        .about(shown.to_string())
        .hint("close it there, or give another name")
}
