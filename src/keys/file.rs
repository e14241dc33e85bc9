//! A secret in a file of its own.

use std::fs::{File, Metadata};
use std::io::{ErrorKind as IoErrorKind, Read};
use std::path::PathBuf;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::RELATIVE;
use super::buffer::{Buffer, without_newline};
use super::place::Place;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::key::KeySource;
use crate::secret::Secret;
use crate::text::{self};

/// Reads a file that holds the secret and nothing else, anew at each call.
///
/// - One newline at the end (LF or CRLF) is not part of the secret, and neither is a UTF-8 byte order mark in front;
///   every other byte is, further newlines included. UTF-16 text is refused.
/// - On Unix, a file that group or others may read is refused, as ssh does. Other systems have no such check.
/// - At most 64 KiB are read, and only from a regular file (behind links, too).
///
/// ```
/// use strongroom::{FileKeySource, KeySource};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let path = directory.path().join("database.key");
/// std::fs::write(&path, "correct horse\n")?;
/// # #[cfg(unix)] {
/// use std::os::unix::fs::PermissionsExt;
/// std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
/// # }
///
/// assert_eq!(FileKeySource::new(path).resolve().await?.expose(), b"correct horse");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct FileKeySource {
    path: Place,
    raw: bool,
}

impl FileKeySource {
    /// Reads a passphrase from the file at `path`; a relative one starts at the working directory of this moment.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: Place::new(path), raw: false }
    }

    /// Takes the content as a 256-bit key instead of a passphrase: exactly 32 bytes, or 64 hex digits and perhaps a
    /// newline (`openssl rand -hex 32`).
    pub fn raw_key(self) -> Self {
        Self { raw: true, ..self }
    }

    fn read(&self) -> Result<Secret> {
        let (mut file, source) = (self.open()?, self.describe());
        let mut buffer = Buffer::new();
        loop {
            match file.read(buffer.space()) {
                Ok(0) => break,
                Ok(count) => buffer.advance(count, &source)?,
                Err(error) if error.kind() == IoErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(error)),
            }
        }
        if self.raw { raw_key(buffer.bytes(), &source) } else { buffer.line(&source) }
    }

    fn open(&self) -> Result<File> {
        // Looked at before opening, for opening a pipe would wait for its writer.
        let found = std::fs::metadata(self.path.path()).map_err(|error| self.unreadable(error))?;
        if !found.is_file() {
            let message = format!("{} is not a regular file", self.describe());
            return Err(Error::new(ErrorKind::Key, message).because(Reason::NotAFile));
        }
        let file = File::open(self.path.path()).map_err(|error| self.unreadable(error))?;
        // Asked of the open file, so that nobody can exchange it in between.
        let opened = file.metadata().map_err(|error| self.unreadable(error))?;
        if is_exposed(&opened) {
            let message = format!("{} can be read by other users", self.describe());
            let hint = format!("run: chmod 600 '{}'", self.path);
            return Err(Error::new(ErrorKind::Key, message).because(Reason::Exposed).hint(hint));
        }
        Ok(file)
    }

    fn unreadable(&self, error: std::io::Error) -> Error {
        let (reason, what) = match error.kind() {
            IoErrorKind::NotFound => (Reason::Missing, "does not exist"),
            IoErrorKind::PermissionDenied => (Reason::NotPermitted, "may not be read by this user"),
            _ => (Reason::Io, "cannot be read"),
        };
        let error = Error::new(ErrorKind::Key, format!("{} {what}", self.describe())).because(reason).caused_by(error);
        if reason == Reason::Missing { error.hint(RELATIVE) } else { error }
    }
}

/// Fails with [`Reason::Missing`], [`Reason::NotPermitted`], [`Reason::NotAFile`], [`Reason::Exposed`],
/// [`Reason::TooLarge`], [`Reason::Empty`], [`Reason::Malformed`] (raw keys) or [`Reason::Io`].
///
/// The file is read on a blocking thread. Dropping the future lets that finish, and wipes what it read.
#[async_trait]
impl KeySource for FileKeySource {
    async fn resolve(&self) -> Result<Secret> {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || this.read()).await;
        read.unwrap_or_else(|_| Err(Error::new(ErrorKind::Key, format!("reading {} was cut off", self.describe()))))
    }

    fn describe(&self) -> String {
        format!("key file {}", self.path)
    }
}

fn raw_key(bytes: &[u8], source: &str) -> Result<Secret> {
    let mut key = Zeroizing::new([0; 32]);
    let whole = if bytes.len() == 32 {
        key.copy_from_slice(bytes);
        true
    } else {
        decode_hex(without_newline(text::without_mark(bytes)), &mut key)
    };
    if whole {
        return Ok(Secret::raw_key(*key));
    }
    let message = format!("{source} holds no 256-bit key");
    Err(Error::new(ErrorKind::Key, message).because(Reason::Malformed).hint("write exactly 32 bytes or 64 hex digits"))
}

/// Whether `digits` were exactly the 64 hex digits of a key.
fn decode_hex(digits: &[u8], key: &mut [u8; 32]) -> bool {
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != key.len() || !rest.is_empty() {
        return false;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    key.iter_mut().zip(pairs).all(|(byte, [high, low])| match (digit(*high), digit(*low)) {
        (Some(high), Some(low)) => {
            *byte = high << 4 | low;
            true
        }
        _ => false,
    })
}

#[cfg(unix)]
fn is_exposed(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn is_exposed(_: &Metadata) -> bool {
    false
}
