//! Following what is committed: every change, or the result of a statement as it changes.
//!
//! `changes` is the stream of commits, `watch` that of results, `looker` the task that looks for what other processes
//! commit while anybody listens, `install` what some engines need first.

mod changes;
mod install;
mod looker;
mod watch;

use std::panic::Location;
use std::time::Duration;

pub use changes::{ChangeOptions, ChangeStream};
pub use watch::WatchStream;

use super::handle::AsyncDatabase;
use crate::connector::{Access, Connection, Connector};
use crate::error::Result;
use crate::feed::ChangeFeed;

/// How soon commits of other processes are noticed, unless it is set.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    fn feed(&self) -> &ChangeFeed {
        &self.inner.feed
    }

    /// Sees to it that the engine tells what it commits from now on.
    async fn follow(&self, location: &'static Location<'static>) -> Result<()> {
        if self.feed().is_heard() {
            return Ok(());
        }
        let mut writer = self.call(location).lend(self.pool(), Access::Write).await?;
        // Whoever had it before may have asked for the same.
        if self.feed().is_heard() { Ok(()) } else { writer.follow(self.feed()).await }
    }
}
