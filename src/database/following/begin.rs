//! From when on the engine tells what it commits.

use std::panic::Location;
use std::time::Duration;

use crate::connector::{Access, Connection, Connector};
use crate::database::call::{Stage, within};
use crate::database::handle::AsyncDatabase;
use crate::error::{Phase, Result};
use crate::feed::ChangeFeed;

/// How soon commits of other processes are noticed, unless it is set.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

impl<C: Connector<Connection: Connection>> AsyncDatabase<C> {
    pub(super) fn feed(&self) -> &ChangeFeed {
        &self.inner.feed
    }

    /// Sees to it that the engine tells what it commits from now on.
    pub(super) async fn follow(&self, location: &'static Location<'static>) -> Result<()> {
        if self.feed().is_heard() {
            return Ok(());
        }
        let call = self.call(location);
        let mut writer = call.lend(self.pool(), Access::Write).await?;
        // Whoever had it before may have asked for the same.
        if self.feed().is_heard() {
            return Ok(());
        }
        let limit = call.limit(|| Stage::Before("asking the engine to tell what is committed", Phase::Begin));
        within(limit, writer.follow(self.feed())).await
    }
}
