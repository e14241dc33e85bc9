//! Letting go of the database for a while.

use std::future::Future;
use std::panic::Location;

use super::handle::AsyncDatabase;
use crate::connector::Connector;
use crate::error::Result;
use crate::pool::{CloseReport, SuspendOptions};

impl<C: Connector> AsyncDatabase<C> {
    /// Lets go of every lock and file descriptor, and of every connection to a server, without being closed: copies the
    /// log into the file and closes all connections. The handle, its statistics and the derived key stay, and the next call
    /// opens again; with [`until_resumed`](SuspendOptions::until_resumed) calls wait for [`resume`](Self::resume).
    ///
    /// For programs that are put to sleep, and must not hold a lock then (iOS ends them with `0xdead10cc`), and for files
    /// on drives that come and go. Calls under way and open transactions, streams and borrowed connections may end, for
    /// [`SuspendOptions::LIMIT`]; calls that come meanwhile wait. See [the page about it](crate::_docs::sleep).
    ///
    /// A database in memory has no file to let go of: its connections are closed, and its contents stay.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("app.db");
    /// let db = AsyncDatabase::builder(&path).open().await?;
    /// db.execute_script("CREATE TABLE t (a)").await?;
    /// db.suspend().await?;
    /// assert!(db.is_suspended());
    /// assert_eq!(db.pool_size(), 0);
    ///
    /// db.execute("INSERT INTO t VALUES (1)", ()).await?; // opens again
    /// assert!(!db.is_suspended());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Pool::suspend`](crate::Pool::suspend). Nothing is suspended then; if somebody kept a connection for too long
    /// ([`StillLent`](crate::Reason::StillLent)), the message says who.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the database awake, or suspended if it was done; every call works.
    #[track_caller]
    pub fn suspend(&self) -> impl Future<Output = Result<CloseReport>> + Send + use<'_, C> {
        self.suspend_with(SuspendOptions::new())
    }

    /// [`suspend`](Self::suspend) with other limits, or until somebody resumes.
    ///
    /// ```
    /// use std::time::Duration;
    /// use strongroom::AsyncDatabase;
    /// use strongroom::pool::SuspendOptions;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// let db = AsyncDatabase::builder(":memory:").open().await?;
    /// db.suspend_with(SuspendOptions::new().limit(Duration::from_secs(2)).until_resumed()).await?;
    ///
    /// let waiting = tokio::spawn({
    ///     let db = db.clone();
    ///     async move { db.fetch_value::<i64>("SELECT 1", ()).await }
    /// });
    /// tokio::task::yield_now().await;
    /// assert!(!waiting.is_finished());
    /// db.resume();
    /// assert_eq!(waiting.await.expect("the task ran")?, Some(1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`suspend`](Self::suspend).
    ///
    /// # Cancel safety
    /// As [`suspend`](Self::suspend).
    #[track_caller]
    pub fn suspend_with(
        &self,
        options: SuspendOptions,
    ) -> impl Future<Output = Result<CloseReport>> + Send + use<'_, C> {
        let location = Location::caller();
        let options = self.limit.map_or(options, |limit| options.at_most(limit));
        async move { self.pool().suspend_at(options, location).await }
    }

    /// Ends a suspension: calls that wait for that go on. Calls one off that is under way. Needs no runtime, and does
    /// nothing if nothing is suspended.
    pub fn resume(&self) {
        self.pool().resume();
    }

    /// Whether everything was let go of since [`suspend`](Self::suspend), and no call has opened it again.
    pub fn is_suspended(&self) -> bool {
        self.pool().is_suspended()
    }
}
