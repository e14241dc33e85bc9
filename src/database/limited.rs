//! The handle with a time limit.

use std::panic::Location;
use std::time::Duration;

use super::call::Call;
use super::deadline::Deadline;
use super::handle::AsyncDatabase;
use crate::connector::Connector;

impl<C: Connector> AsyncDatabase<C> {
    /// The same database, with a time limit for each call: for waiting, queueing and running together. Cheap: use it
    /// for a single call, or keep it beside the other handles. It replaces a limit that this handle has.
    ///
    /// The time begins when the call is first polled, and covers everything that the call gives: a
    /// [`Transaction`](crate::Transaction), a [`RawConnection`](crate::database::RawConnection) or a stream has to be done with by
    /// then, and whatever is asked of it later fails. A closure that is late is dropped and rolled back.
    /// [`connect`](Self::connect) and [`close`](Self::close) have limits of their own.
    ///
    /// ```
    /// use std::time::Duration;
    /// use strongroom::{AsyncDatabase, ErrorKind, Reason};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// let db = AsyncDatabase::builder(":memory:").open().await?;
    /// let endless = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    /// let late = db.with_timeout(Duration::from_millis(50)).fetch_all(endless, ()).await.unwrap_err();
    /// assert_eq!((late.kind(), late.reason()), (ErrorKind::Timeout, Reason::RolledBack));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A late call fails and says in which [`phase`](crate::Error::phase) it was, and what became of it:
    ///
    /// | [`kind`](crate::Error::kind) | [`reason`](crate::Error::reason) | |
    /// |---|---|---|
    /// | [`Timeout`](crate::ErrorKind::Timeout) | [`NotStarted`](crate::Reason::NotStarted) | it still waited for a connection or for the writer; those who had it are named |
    /// | [`Timeout`](crate::ErrorKind::Timeout) | [`RolledBack`](crate::Reason::RolledBack) | it was stopped and has changed nothing |
    /// | [`Timeout`](crate::ErrorKind::Timeout) | [`Unspecified`](crate::Reason::Unspecified) | a script was stopped; what it had committed before stays |
    /// | [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) | | a commit, or a write that commits by itself, gave no answer within 2 s after the deadline, when it had been asked to stop; only such calls are answered after the deadline |
    ///
    /// A call that answers within that grace (two seconds, in which it is being stopped; mostly that takes milliseconds) has its own answer, also if
    /// that is a success. A write that shares a commit with others is stopped by rolling all of them back; the others
    /// run again.
    pub fn with_timeout(&self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self.clone() }
    }

    /// A call that begins now.
    pub(super) fn call(&self, location: &'static Location<'static>) -> Call<'static> {
        Call { location, deadline: self.limit.and_then(Deadline::after), label: None }
    }
}
