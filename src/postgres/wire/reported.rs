//! What the server itself says of the transaction at the end of each answer, which the driver throws away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionTransaction {
    None,
    Open,
    /// Only to be rolled back.
    Failed,
}

/// The server's last word, shared by a session and its socket. The socket hears it before it hands on the end of the
/// answer, by a channel, which orders the two. `Release` and `Acquire` are for who asks without an answer: the word of a
/// failure is then seen no later than what the socket did behind it.
#[derive(Clone, Default)]
pub(crate) struct Reported(Arc<AtomicU8>);

/// An answer has failed, and its end is still to come.
const UNKNOWN: u8 = 0;

impl Reported {
    /// Takes note that an answer has failed.
    pub(super) fn fails(&self) {
        self.0.store(UNKNOWN, Ordering::Release);
    }

    /// Takes note of the end of an answer; false if that is no word of the protocol.
    pub(super) fn ends(&self, status: u8) -> bool {
        let known = b"ITE".contains(&status);
        if known {
            self.0.store(status, Ordering::Release);
        }
        known
    }

    /// `None` as long as the end of an answer that has failed is not here.
    pub(crate) fn transaction(&self) -> Option<SessionTransaction> {
        match self.0.load(Ordering::Acquire) {
            b'I' => Some(SessionTransaction::None),
            b'T' => Some(SessionTransaction::Open),
            b'E' => Some(SessionTransaction::Failed),
            _ => None,
        }
    }
}
