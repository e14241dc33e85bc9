//! Who listens to what is committed in one database, over all its connections.

use std::sync::{Arc, Weak};

use super::kinds::{Kind, Kinds, may_be_shadow};
use super::others::Others;
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
    /// Each open connection has it.
    open: Lock<Weak<()>>,
}

impl Following {
    /// Whoever writes from now on tells this feed.
    pub(crate) fn begin(&self, feed: &ChangeFeed) -> Arc<Others> {
        let _before = self.feed.lock().replace(feed.clone());
        Arc::clone(&self.others)
    }

    /// A connection was opened; what it holds until it is closed. If there was no other one, the count of commits may have
    /// started over meanwhile, and may look as it did.
    pub(crate) fn opened(&self) -> Arc<()> {
        let mut open = self.open.lock();
        if let Some(open) = open.upgrade() {
            return open;
        }
        self.others.missed();
        let first = Arc::new(());
        *open = Arc::downgrade(&first);
        first
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
        let (plan, touched) = self.watch.notes.tables_of(|| Plan::prepare(sql, &self.connection, &self.watch));
        if plan?.kind() != StatementKind::Read {
            return Err(ChangeFeed::only_reads());
        }
        let mut read: Vec<Arc<str>> = touched.read.iter().map(|table| Arc::from(&**table)).collect();
        // What a virtual table does to its own tables is told by its name.
        self.watch.look(Mode::Running);
        let owners = read.iter().filter(|table| may_be_shadow(table)).filter_map(|table| {
            let Kind::Shadow(owner) = Kinds::default().of(table, &self.connection) else { return None };
            owner
        });
        read.extend(owners.collect::<Vec<_>>());
        self.watch.notes.take();
        Ok(read)
    }
}
