//! What a database needs from time to time, as calls with reports.

use std::future::Future;
use std::panic::Location;

use super::call::Call;
use super::call::{Stage, within};
use super::handle::AsyncDatabase;
use super::observed::{self, observe, over};
use super::route;
use crate::connector::{
    Access, CheckpointReport, Connection, Connector, Maintained, Maintenance, OptimizeReport, Resource as _, Sizes,
    TableSize, VacuumReport,
};
use crate::error::{Error, ErrorKind, Result};
use crate::observer::CallKind;

/// How many pages are given back while the writer is held once: some milliseconds.
const PAGES_AT_A_TIME: u32 = 256;

/// How far [`AsyncDatabase::vacuum_free`] is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct VacuumProgress {
    /// Free pages that were given back.
    pub done: u64,
    /// Free pages that are left.
    pub left: u64,
}

/// Takes the answer of the name that was asked for.
macro_rules! answer {
    ($answer:expr, $name:ident) => {
        match $answer.await? {
            Maintained::$name(report) => Ok(report),
            _ => Err(Error::new(ErrorKind::Unsupported, "the engine answered something else than it was asked for")
                .hint("look at Connection::maintain of the engine")),
        }
    };
}

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// Copies the write-ahead log into the file, and cuts the log to nothing if nobody reads from it. That happens by
    /// itself when the log is long; call this before the file is copied, or when a program goes to the background.
    ///
    /// Nobody is waited for: what somebody who reads an older state keeps from being copied is told as
    /// [`left`](CheckpointReport::left).
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("app.db");
    /// let db = AsyncDatabase::builder(&path).open().await?;
    /// db.execute_script("CREATE TABLE t (a)").await?;
    /// let report = db.checkpoint().await?;
    /// assert_eq!((report.left, report.log_bytes), (0, 0));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] in memory, for a database that is only read, and where the log is left to others; and
    /// whatever kept the log from being copied. It is kept then.
    ///
    /// # Cancel safety
    /// Dropping the future may leave a part copied, which loses nothing.
    #[track_caller]
    pub fn checkpoint(&self) -> impl Future<Output = Result<CheckpointReport>> + Send + use<'_, C> {
        let location = Location::caller();
        async move { answer!(self.maintain(self.call(location), Maintenance::Checkpoint, Access::Write), Checkpoint) }
    }

    /// Writes the whole database anew, so that it has no free pages and each table stands together. Needs the writer, and
    /// as much room on the disk again, twice with the log; [`vacuum_free`](Self::vacuum_free) is the one for every day.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(100000)); DELETE FROM t").await?;
    /// let report = db.vacuum().await?;
    /// assert!(report.freed_bytes() > 90_000);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the engine has no such thing, and for a database that is only read; a full disk.
    /// The database is as before then. [`ErrorKind::OutcomeUnknown`] where its commit failed as it was written.
    ///
    /// # Cancel safety
    /// Dropping the future stops it, and the database is as before, unless it was done already.
    #[track_caller]
    pub fn vacuum(&self) -> impl Future<Output = Result<VacuumReport>> + Send + use<'_, C> {
        let location = Location::caller();
        async move { answer!(self.maintain(self.call(location), Maintenance::Vacuum, Access::Write), Vacuum) }
    }

    /// Gives free pages back to the system (SQLite: `incremental_vacuum`), at most `pages` of them; `None` means all.
    /// Works a few milliseconds at a time and lets other writes pass in between; `progress` is told after each.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(100000)); DELETE FROM t").await?;
    /// let report = db.vacuum_free(None, |now| println!("{} free pages are left", now.left)).await?;
    /// assert_eq!(report.free_pages, 0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for files that do not keep the book that this needs (those of this crate do; one
    /// [`vacuum`](Self::vacuum) does not add it), where the engine has no such thing, and for a database that is only
    /// read. What was given back before stays so.
    ///
    /// # Cancel safety
    /// Dropping the future undoes the step that runs; those before it stay done.
    #[track_caller]
    pub fn vacuum_free<F>(
        &self,
        pages: Option<u64>,
        mut progress: F,
    ) -> impl Future<Output = Result<VacuumReport>> + Send + use<'_, C, F>
    where
        F: FnMut(VacuumProgress) + Send,
    {
        let location = Location::caller();
        async move {
            let call = self.call(location);
            let (mut total, mut begun) = (VacuumReport::default(), false);
            loop {
                let done = total.pages_before - total.pages_after;
                let wanted = pages.map_or(u64::MAX, |pages| pages.saturating_sub(done));
                let now = PAGES_AT_A_TIME.min(u32::try_from(wanted).unwrap_or(u32::MAX));
                let step = self.maintain(call, Maintenance::FreePages(now), Access::Write);
                let step: VacuumReport = answer!(step, Vacuum)?;
                let freed = step.pages_before.saturating_sub(step.pages_after);
                if !begun {
                    (total, begun) = (VacuumReport { pages_after: step.pages_before, ..step }, true);
                }
                total.pages_after = total.pages_after.saturating_sub(freed);
                total.free_pages = step.free_pages;
                let done = total.pages_before - total.pages_after;
                progress(VacuumProgress { done, left: step.free_pages });
                // Pages of the book itself are given back too, so more may go than was asked for.
                if freed == 0 || step.free_pages == 0 || pages.is_some_and(|pages| done >= pages) {
                    return Ok(total);
                }
            }
        }
    }

    /// Brings the planner's statistics up to date where that is due. That happens when the database is closed; a program
    /// that runs for months calls it once a day or so.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// let report = db.optimize().await?;
    /// assert!(report.statements.is_empty(), "there is no table yet");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the engine has no such thing, and for a database that is only read.
    ///
    /// # Cancel safety
    /// Dropping the future may leave some tables done.
    #[track_caller]
    pub fn optimize(&self) -> impl Future<Output = Result<OptimizeReport>> + Send + use<'_, C> {
        let location = Location::caller();
        async move { answer!(self.maintain(self.call(location), Maintenance::Optimize, Access::Write), Optimize) }
    }

    /// How large the database is: pages, free pages, file and log. Takes no time.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// let sizes = db.sizes().await?;
    /// println!("{} of {} bytes are free", sizes.free_pages * sizes.page_size, sizes.pages * sizes.page_size);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the engine has no such thing.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    #[track_caller]
    pub fn sizes(&self) -> impl Future<Output = Result<Sizes>> + Send + use<'_, C> {
        let (location, access) = (Location::caller(), route::read_access(self.capabilities()));
        async move { answer!(self.maintain(self.call(location), Maintenance::Sizes, access), Sizes) }
    }

    /// How large each table is with its indexes, the largest first. Reads every page, on a reader.
    ///
    /// ```
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// db.execute_script("CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(100000))").await?;
    /// let tables = db.table_sizes().await?;
    /// assert_eq!(tables[0].name, "t");
    /// assert!(tables[0].bytes > 100_000);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the engine has no such thing.
    ///
    /// # Cancel safety
    /// Dropping the future stops it.
    #[track_caller]
    pub fn table_sizes(&self) -> impl Future<Output = Result<Vec<TableSize>>> + Send + use<'_, C> {
        let (location, access) = (Location::caller(), route::read_access(self.capabilities()));
        async move { answer!(self.maintain(self.call(location), Maintenance::TableSizes, access), TableSizes) }
    }

    async fn maintain(&self, call: Call<'_>, task: Maintenance, access: Access) -> Result<Maintained> {
        let observing = observe(self.pool().observers(), CallKind::Maintain, None, call.location);
        let running = async {
            let mut lent = call.lend(self.pool(), access).await?;
            observed::lent();
            lent.label("maintenance");
            let canceller = lent.canceller();
            within(call.limit(|| Stage::Write(canceller)), lent.maintain(task)).await
        };
        over(observing, running).await
    }
}
