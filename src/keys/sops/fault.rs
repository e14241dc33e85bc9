//! An error of this room.

use crate::error::{Error, ErrorKind, Phase, Reason};

/// A key that cannot be had, and why.
pub(super) fn fault(reason: Reason, message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Key, message).because(reason).during(Phase::Key)
}
