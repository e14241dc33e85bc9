//! Who listens to what is committed in one database, over all its connections.

use std::sync::Arc;

use super::others::Others;
use super::touched::Noting;
use crate::connector::StatementKind;
use crate::error::Result;
use crate::feed::{Change, ChangeFeed};
use crate::lock::Lock;
use crate::sqlcipher::opening::opened::Opened;
use crate::sqlcipher::running::engine::Engine;
use crate::sqlcipher::running::job::Shared;
use crate::sqlcipher::statement::plan::Plan;
use crate::sqlcipher::statement::watch::Mode;

/// The feed of a database, once somebody has listened.
#[derive(Debug, Default)]
pub(crate) struct Following {
    feed: Lock<Option<ChangeFeed>>,
    others: Arc<Others>,
}

impl Following {
    /// Whoever writes from now on tells this feed.
    pub(crate) fn begin(&self, feed: &ChangeFeed) -> Arc<Others> {
        let _before = self.feed.lock().replace(feed.clone());
        Arc::clone(&self.others)
    }

    /// A connection was opened that writes.
    pub(crate) fn resume(&self, engine: &mut Engine) -> rusqlite::Result<()> {
        let feed = self.feed.lock().clone().filter(ChangeFeed::is_armed);
        feed.map_or(Ok(()), |feed| engine.follow(&feed, &self.others))
    }

    /// Tells the feed if others have committed. False: there are no others.
    pub(crate) fn look(&self, opened: &Opened, shared: &Shared, feed: &ChangeFeed) -> bool {
        if opened.is_memory() || opened.log().is_private() {
            return false;
        }
        // Who is at work on it looks when that has ended.
        if shared.try_lock().is_some_and(|mut engine| self.others.look(&mut engine)) {
            feed.add(Change { unattributed: true, ..Change::default() });
        }
        feed.wake();
        true
    }
}

impl Engine {
    /// The tables that a statement reads which only reads.
    pub(crate) fn tables_read(&mut self, sql: &str) -> Result<Vec<Arc<str>>> {
        // A kept transaction could see an older schema.
        self.end_snapshot();
        self.watch.look(Mode::Guarded);
        self.watch.notes.take();
        self.watch.notes.noting(Noting::Tables);
        let plan = Plan::prepare(sql, &self.connection, &self.watch);
        let touched = self.watch.notes.take().unwrap_or_default();
        if self.recorder.is_none() {
            self.watch.notes.noting(Noting::Nothing);
        }
        if plan?.kind() != StatementKind::Read {
            return Err(ChangeFeed::only_reads());
        }
        Ok(touched.read.iter().map(|table| Arc::from(&**table)).collect())
    }
}
