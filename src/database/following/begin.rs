//! From when on the engine tells what it commits.

use std::panic::Location;
use std::time::Duration;

use crate::connector::{Access, Connection, Connector};
use crate::database::call::{Stage, within};
use crate::database::handle::AsyncDatabase;
use crate::database::route;
use crate::error::{Phase, Result};
use crate::feed::ChangeFeed;
use crate::pool::Pooled;

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
        let writer = self.call(location).lend(self.pool(), Access::Write).await?;
        self.follow_by(writer, location).await
    }

    /// The same, unless somebody has the writer, and reads need not wait for that. Says whether it is so.
    pub(super) async fn follow_if_free(&self, location: &'static Location<'static>) -> Result<bool> {
        if self.feed().is_heard() || !route::readers_apart(self.capabilities()) {
            return self.follow(location).await.map(|()| true);
        }
        match self.call(location).lend_if_free(self.pool(), Access::Write).await? {
            Some(writer) => self.follow_by(writer, location).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn follow_by(&self, mut writer: Pooled<C>, location: &'static Location<'static>) -> Result<()> {
        // Its holder before may have asked for the same.
        if self.feed().is_heard() {
            return Ok(());
        }
        let call = self.call(location);
        let limit = call.limit(|| Stage::Before("asking the engine to tell what is committed", Phase::Begin));
        within(limit, writer.follow(self.feed())).await
    }
}
