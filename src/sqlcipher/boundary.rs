//! Where transactions and savepoints begin and end: on the caller's task or on a thread.

use super::connection::SqlCipherConnection;
use super::running::transaction::Boundary;
use crate::connector::{Access, PendingCommit};
use crate::error::{Error, ErrorKind, Reason, Result};

impl SqlCipherConnection {
    /// Begins or ends a transaction or a savepoint: on this task if that is short, else on a thread. A commit may leave a
    /// sync to be waited for.
    pub(super) async fn cross(&mut self, boundary: Boundary) -> Result<Option<PendingCommit>> {
        let may = self.may_now();
        let commits = matches!(boundary, Boundary::Commit);
        let here = self.here_or_in_place(may.in_place && commits, |engine, control| {
            let mut outcome = engine.cross_inline(boundary, control, may)?;
            let spoiled = outcome.as_mut().is_err_and(|error| engine.complete_error(error));
            Some((outcome, spoiled))
        });
        let unsynced = match here {
            Ok(Some(outcome)) => outcome,
            // Boxed, so that the short way does not carry the state of the long one.
            Ok(None) => Box::pin(self.job(move |engine| engine.cross(boundary))).await,
            Err(_panic) => Err(Error::panicked("commit or rollback hook")),
        };
        Ok(unsynced?.map(|log| self.opened.log().syncs().owe(&log)))
    }

    /// Refuses a writer while commits before it may be missing on the disk.
    pub(super) fn refuse_unsynced(&self) -> Result<()> {
        if self.access == Access::Write && self.opened.log().syncs().have_failed() {
            let error = Error::new(ErrorKind::Storage, "a sync of the log failed, and it has to be written anew first");
            return Err(error.because(Reason::Io).hint("give the connection back; the next one does that").transient());
        }
        Ok(())
    }
}
