//! Looking for damage.

use std::future::Future;
use std::panic::Location;

use super::call::{Stage, within};
use super::handle::AsyncDatabase;
use super::route;
use crate::connector::{CheckDepth, Connection, Connector};
use crate::error::{ErrorKind, Result};

/// How many problems a [`CheckReport`] names at most; a file that is damaged all over is not described any better by
/// more.
const MOST: usize = 100;

/// What [`AsyncDatabase::check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// What is wrong, in the order in which it was found; at most 100.
    pub problems: Vec<CheckProblem>,
    /// There are more problems than are named.
    pub truncated: bool,
    /// How many steps were done.
    pub steps: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckProblem {
    /// The step that found it.
    pub step: String,
    /// What is wrong, in the engine's words. Names tables, indexes and pages, and no values.
    pub message: String,
}

/// How far a check is, after each of its steps.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CheckProgress<'a> {
    /// The step that is done.
    pub step: &'a str,
    /// How many steps are done.
    pub done: usize,
    /// How many there are. May change while tables come and go.
    pub total: usize,
    /// How many problems were found so far.
    pub problems: usize,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, step: &str, message: String) {
        self.truncated |= self.problems.len() == MOST;
        if !self.truncated {
            self.problems.push(CheckProblem { step: step.to_owned(), message });
        }
    }
}

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    /// Looks for damage, on a reader, beside whoever works: no writer waits (except where the engine has one connection
    /// for all, such as a database in memory). Damage that is found is no error but the content of the report.
    ///
    /// ```
    /// use strongroom::database::CheckDepth;
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// let report = db.check(CheckDepth::Quick).await?;
    /// assert!(report.is_ok(), "{:?}", report.problems);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the engine has no such checks, and whatever else kept it from looking.
    ///
    /// # Cancel safety
    /// Dropping the future stops the step that runs. SQLCipher's look at the pages of a file cannot be stopped: its
    /// connection is lent again when that is done.
    #[track_caller]
    pub fn check(&self, depth: CheckDepth) -> impl Future<Output = Result<CheckReport>> + Send + use<'_, C> {
        self.check_with(depth, |_| {})
    }

    /// [`check`](Self::check), telling `progress` after each step. SQLite says nothing inside a step, so there are as
    /// many as its checks can be cut into: [`CheckDepth::Full`] has one for each table.
    ///
    /// ```
    /// use strongroom::database::CheckDepth;
    /// use strongroom::AsyncDatabase;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
    /// # let db = AsyncDatabase::builder(":memory:").open().await?;
    /// # db.execute_script("CREATE TABLE users (id INTEGER PRIMARY KEY)").await?;
    /// db.check_with(CheckDepth::Full, |now| println!("{} of {}: {}", now.done, now.total, now.step)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`check`](Self::check).
    ///
    /// # Cancel safety
    /// As [`check`](Self::check).
    #[track_caller]
    pub fn check_with<F>(
        &self,
        depth: CheckDepth,
        mut progress: F,
    ) -> impl Future<Output = Result<CheckReport>> + Send + use<'_, C, F>
    where
        F: FnMut(CheckProgress<'_>) + Send,
    {
        let location = Location::caller();
        async move {
            let (call, access) = (self.call(location), route::read_access(self.capabilities()));
            let (mut report, mut total) = (CheckReport::default(), 1);
            while report.steps < total {
                // Anew for each step, so that nobody waits for the whole check, and none is left with a connection that
                // has met damage.
                let mut lent = call.lend(self.pool(), access).await?;
                lent.label("check");
                let outcome = within(call.limit(|| Stage::Read), lent.check_step(depth, report.steps, MOST + 1)).await;
                report.steps += 1;
                let name = match outcome {
                    Ok(step) => {
                        total = step.total;
                        step.problems.into_iter().for_each(|problem| report.add(&step.name, problem));
                        step.name
                    }
                    // So damaged that the check itself does not get through.
                    Err(error) if error.kind() == ErrorKind::Storage => {
                        report.add("the check itself", error.to_string());
                        total = total.max(report.steps);
                        "the check itself".to_owned()
                    }
                    Err(error) => return Err(error),
                };
                let (done, problems) = (report.steps, report.problems.len());
                progress(CheckProgress { step: &name, done, total, problems });
            }
            Ok(report)
        }
    }
}
