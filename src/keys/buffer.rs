//! Reading a secret of unknown length without leaving copies behind.
//!
//! A buffer that grows leaves its old memory unwiped, so there is one of fixed size, larger than any key; the secret is
//! copied out of it once, at its exact length, and the buffer is wiped.

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Reason, Result};
use crate::secret::Secret;
use crate::text::{self};

/// The most bytes a secret from a file or a program may have.
pub(super) const LARGEST: usize = 64 * 1024;

/// Bytes as they arrive.
pub(super) struct Buffer {
    bytes: Zeroizing<Vec<u8>>,
    filled: usize,
}

impl Buffer {
    pub(super) fn new() -> Self {
        // One byte more than allowed, so that "just fits" and "too large" can be told apart.
        Self { bytes: Zeroizing::new(vec![0; LARGEST + 1]), filled: 0 }
    }

    /// Where the next bytes go; never empty before [`advance`](Self::advance) has refused.
    pub(super) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// Takes note of bytes written into [`space`](Self::space).
    pub(super) fn advance(&mut self, count: usize, source: &str) -> Result<()> {
        self.filled += count;
        if self.filled <= LARGEST {
            return Ok(());
        }
        let message = format!("{source} holds more than {LARGEST} bytes");
        Err(Error::new(ErrorKind::Key, message).because(Reason::TooLarge).hint("a key is one line, or 32 bytes"))
    }

    /// Everything that came.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// The secret: everything but one newline at the end, and a byte order mark in front.
    pub(super) fn line(&self, source: &str) -> Result<Secret> {
        // A passphrase in the form of UTF-16 has zeros, which no engine takes, and which say nothing about the cause.
        if let Some(encoding) = text::surely_wide(self.bytes()) {
            let error =
                Error::new(ErrorKind::Key, format!("{source} holds {encoding} text")).because(Reason::Malformed);
            return Err(error.hint("save it as UTF-8"));
        }
        match without_newline(text::without_mark(self.bytes())) {
            [] => Err(empty(source)),
            secret => Ok(Secret::new(secret)),
        }
    }
}

/// Takes one LF or CRLF off the end: editors and `echo` put it there, and nobody means it.
pub(super) fn without_newline(bytes: &[u8]) -> &[u8] {
    let Some(line) = bytes.strip_suffix(b"\n") else { return bytes };
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The place is there and holds nothing.
pub(super) fn empty(source: &str) -> Error {
    Error::new(ErrorKind::Key, format!("{source} is empty"))
        .because(Reason::Empty)
        .hint("an empty key would mean no encryption")
}
