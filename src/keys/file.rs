//! A secret in a file of its own.

use std::fs::File;
use std::io::{ErrorKind as IoErrorKind, Read};
use std::path::PathBuf;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::buffer::{Buffer, without_newline};
use super::place::{Place, RELATIVE};
use crate::clock;
use crate::errand;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::key::{KeyCandidate, KeySource};
use crate::private;
use crate::secret::Secret;
use crate::text::{self};

/// Reads a file that holds the secret and nothing else, anew at each call.
///
/// - One newline at the end (LF or CRLF) is not part of the secret, and neither is a UTF-8 byte order mark in front;
///   every other byte is, further newlines included. UTF-16 text is refused.
/// - A file that others may read or write is refused, as ssh does: on Unix by its mode, on Windows by its access list, which may
///   name this user, the owner, administrators and the system itself.
/// - At most 64 KiB are read, and only from a regular file (behind links, too).
///
/// The file can also be made, and its secret replaced: [`create_if_missing`](Self::create_if_missing),
/// [`rekey_fresh`](crate::AsyncDatabase::rekey_fresh). A new secret is 64 random hex digits, in a file that only this user
/// may read. It first stands in a second file, whose name goes on with
/// `.next`, and takes the place of the other once the database was read with it. While both are there, both are offered.
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
    pub(super) path: Place,
    raw: bool,
    pub(super) creates: bool,
}

impl FileKeySource {
    /// Reads a passphrase from the file at `path`; a relative one starts at the working directory of this moment.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: Place::new(path), raw: false, creates: false }
    }

    /// Takes the content as a 256-bit key instead of a passphrase: exactly 32 bytes, or 64 hex digits and perhaps a
    /// newline (`openssl rand -hex 32`).
    pub fn raw_key(self) -> Self {
        Self { raw: true, ..self }
    }

    /// Whether a new database gets a new secret, which is written to the file; false by default, and a missing file is
    /// an error.
    ///
    /// Where the file exists and the database does not, opening fails: the secret belongs to another database. A database
    /// that exists never gets a new secret. No file is written over.
    ///
    /// ```
    /// use strongroom::{AsyncDatabase, FileKeySource};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let (path, key) = (directory.path().join("app.db"), directory.path().join("app.key"));
    /// let key = FileKeySource::new(key).raw_key().create_if_missing(true);
    /// let db = AsyncDatabase::builder(&path).key(key.clone()).open().await?;
    ///
    /// // At any time later:
    /// db.rekey_fresh(key).await?;
    /// # db.close().await?;
    /// # Ok(()) }
    /// ```
    pub fn create_if_missing(self, create: bool) -> Self {
        Self { creates: create, ..self }
    }

    /// The secret in a file of this source.
    pub(super) fn read(&self, place: &Place) -> Result<Secret> {
        let (mut file, source) = (open(place)?, name(place));
        let mut buffer = Buffer::new();
        loop {
            match file.read(buffer.space()) {
                Ok(0) => break,
                Ok(count) => buffer.advance(count, &source)?,
                Err(error) if error.kind() == IoErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(place, error)),
            }
        }
        if self.raw { raw_key(buffer.bytes(), &source) } else { buffer.line(&source) }
    }

    /// Does `work` on a blocking thread.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> Result<T> + Send + 'static) -> Result<T> {
        let this = self.clone();
        clock::present()?;
        let done = errand::send(move || work(&this)).await;
        done.unwrap_or_else(|_| Err(Error::new(ErrorKind::Key, format!("reading {} was cut off", self.describe()))))
    }
}

/// A key file as errors name it.
pub(super) fn name(place: &Place) -> String {
    format!("key file {place}")
}

fn open(place: &Place) -> Result<File> {
    // Looked at before opening, for opening a pipe would wait for its writer.
    let found = std::fs::metadata(place.path()).map_err(|error| unreadable(place, error))?;
    if !found.is_file() {
        let message = format!("{} is not a regular file", name(place));
        return Err(Error::new(ErrorKind::Key, message).because(Reason::NotAFile));
    }
    let file = File::open(place.path()).map_err(|error| unreadable(place, error))?;
    // Asked of the open file, so that nobody can exchange it in between.
    if private::is_exposed(&file).map_err(|error| unreadable(place, error))? {
        let message = format!("{} can be read by other users", name(place));
        return Err(Error::new(ErrorKind::Key, message).because(Reason::Exposed).hint(private::way_out(place)));
    }
    Ok(file)
}

fn unreadable(place: &Place, error: std::io::Error) -> Error {
    let (reason, what) = match error.kind() {
        IoErrorKind::NotFound => (Reason::Missing, "does not exist"),
        IoErrorKind::PermissionDenied => (Reason::NotPermitted, "may not be read by this user"),
        _ => (Reason::Io, "cannot be read"),
    };
    let error = Error::new(ErrorKind::Key, format!("{} {what}", name(place))).because(reason).caused_by(error);
    if reason == Reason::Missing { error.hint(RELATIVE) } else { error }
}

/// Fails with [`Reason::Missing`], [`Reason::NotPermitted`], [`Reason::NotAFile`], [`Reason::Exposed`],
/// [`Reason::TooLarge`], [`Reason::Empty`], [`Reason::Malformed`] (raw keys) or [`Reason::Io`].
///
/// The file is read on a blocking thread. Dropping the future lets that finish, and wipes what it read.
#[async_trait]
impl KeySource for FileKeySource {
    async fn resolve(&self) -> Result<Secret> {
        self.blocking(|this| this.offered().map(|mut found| found.swap_remove(0).secret)).await
    }

    fn describe(&self) -> String {
        name(&self.path)
    }

    async fn candidates(&self) -> Result<Vec<KeyCandidate>> {
        self.blocking(Self::offered).await
    }

    async fn create(&self) -> Result<Option<Secret>> {
        if self.creates { self.blocking(Self::first).await.map(Some) } else { Ok(None) }
    }

    async fn replace(&self) -> Result<Secret> {
        self.blocking(Self::next).await
    }

    async fn settle(&self, secret: &Secret) -> Result<()> {
        let secret = secret.clone();
        self.blocking(move |this| this.keep(&secret)).await
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
pub(super) fn decode_hex(digits: &[u8], key: &mut [u8; 32]) -> bool {
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

/// The hex digits of a key.
pub(super) fn hex(key: &[u8]) -> Zeroizing<Vec<u8>> {
    // With its full length from the beginning, so that nothing is left where it was before.
    let mut digits = Zeroizing::new(Vec::with_capacity(2 * key.len()));
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
    digits.extend(key.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    digits
}
