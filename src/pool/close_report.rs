//! What became of the connections of a pool that was closed or suspended.

use crate::error::Error;

/// What [`Pool::close`](crate::pool::Pool::close) or [`Pool::suspend`](crate::pool::Pool::suspend) did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CloseReport {
    /// Connections that were closed, cleanly or not, by a suspension, or since the pool refuses callers; those that an
    /// earlier call has reported are left out.
    pub closed: u32,
    /// Connections that were still lent when the deadline and the grace had passed. Each is closed when it comes back.
    pub abandoned: u32,
    /// What went wrong while closing connections.
    pub errors: Vec<Error>,
}

impl CloseReport {
    /// Whether every connection came back and closed without an error.
    pub fn is_clean(&self) -> bool {
        self.abandoned == 0 && self.errors.is_empty()
    }
}
