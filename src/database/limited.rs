//! The handle with a time limit.

use std::panic::Location;
use std::time::Duration;

use super::deadline::{Deadline, Stage, within};
use super::handle::AsyncDatabase;
use super::route;
use crate::connector::{Access, Connection, Connector, Outcome, Resource as _, Statement, StatementKind};
use crate::error::Result;
use crate::pool::Pooled;
use crate::row::Rows;

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

    /// When a call that begins now has to be over.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.limit.and_then(Deadline::after)
    }
}

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// A statement that only reads, until a deadline; apart, so that calls without one do not carry its state.
    pub(super) async fn read_within(
        &self,
        deadline: Deadline,
        statement: Statement,
        location: &'static Location<'static>,
    ) -> Result<Rows> {
        if !route::readers_apart(self.capabilities()) {
            return self.write_within(deadline, statement, location).await;
        }
        let mut reader = deadline.lend(self.pool(), Access::Read, location).await?;
        let limit = Some((deadline, Stage::Read));
        match within(limit, route::run_in(&mut reader, statement, Access::Read)).await? {
            Outcome::Ran(rows) => Ok(rows),
            Outcome::Refused(_, statement) => {
                drop(reader);
                self.write_within(deadline, statement, location).await
            }
        }
    }

    pub(super) async fn write_within(
        &self,
        deadline: Deadline,
        statement: Statement,
        location: &'static Location<'static>,
    ) -> Result<Rows> {
        if self.capabilities().single_writer && self.capabilities().group_commit {
            return self.inner.lane.run_within(self.pool(), location, statement, deadline).await;
        }
        let mut writer = deadline.lend(self.pool(), Access::Write, location).await?;
        let stage = stage_of(&mut writer, &statement)?;
        within(Some((deadline, stage)), route::run(&mut writer, statement)).await
    }
}

/// What is lost when a statement is stopped that runs on a connection which may write.
pub(super) fn stage_of<C>(writer: &mut Pooled<C>, statement: &Statement) -> Result<Stage>
where
    C: Connector<Connection: Connection>,
{
    Ok(match writer.classify(&statement.sql)? {
        StatementKind::Read => Stage::Read,
        _ => Stage::Write(writer.canceller()),
    })
}
