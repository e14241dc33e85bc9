//! Where transactions and savepoints begin and end: on the caller's task or on a thread.

use super::connection::SqlCipherConnection;
use super::running::transaction::Boundary;
use crate::error::{Error, Result};

impl SqlCipherConnection {
    /// Begins or ends a transaction or a savepoint: on this task if that is short, else on a thread.
    pub(super) async fn cross(&mut self, boundary: Boundary) -> Result<()> {
        let may = self.may;
        let here = self.here(|engine, control| {
            let mut outcome = engine.cross_inline(boundary, control, may)?;
            let spoiled = outcome.as_mut().is_err_and(|error| engine.is_spoiled_by(error));
            Some((outcome, spoiled))
        });
        match here {
            Ok(Some(outcome)) => outcome,
            // Boxed, so that the short way does not carry the state of the long one.
            Ok(None) => Box::pin(self.job(move |engine| engine.cross(boundary))).await,
            Err(_panic) => Err(Error::panicked("commit or rollback hook")),
        }
    }
}
