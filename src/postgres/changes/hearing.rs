//! Putting commits together from what a session hears.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_postgres::Notification;

use super::message::{CHANNEL, Message, What};
use crate::feed::{Change, ChangeFeed};
use crate::lock::Lock;

/// What is heard on one session, on its way to the feed. It is bounded by the tables that there are: what one transaction says
/// of a table is added up, and the feed merges for who is slow, so the socket is always read.
pub(crate) struct Hearing {
    heard: Lock<Heard>,
    /// Wakes whoever asks the server whether the last transaction is complete.
    arrived: Notify,
}

struct Heard {
    feed: ChangeFeed,
    /// The tables that tell, by their own numbers.
    tables: HashMap<u32, Arc<str>>,
    /// A transaction of which more may come.
    open: Option<(u64, Change)>,
    /// The last one that was added.
    last: Option<u64>,
    /// A message that only this session listens for.
    proof: Option<String>,
    over: bool,
}

impl Hearing {
    /// Hears for `feed`, of these tables, and first of a channel that only this session knows of.
    pub(super) fn new(feed: ChangeFeed, tables: HashMap<u32, Arc<str>>, proof: String) -> Self {
        let heard = Heard { feed, tables, open: None, last: None, proof: Some(proof), over: false };
        Self { heard: Lock::new(heard), arrived: Notify::new() }
    }

    /// Takes what the server sends. Never waits.
    pub(crate) fn hear(&self, notification: &Notification) {
        let mut heard = self.heard.lock();
        if heard.over {
            return;
        }
        if notification.channel() != CHANNEL {
            heard.proof.take_if(|proof| proof == notification.channel());
            return;
        }
        heard.take(notification.payload());
        let feed = heard.feed.clone();
        drop(heard);
        feed.wake();
        self.arrived.notify_one();
    }

    /// Until something was heard that may not be complete.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Whether what others send arrives here.
    pub(super) fn is_proven(&self) -> bool {
        self.heard.lock().proof.is_none()
    }

    /// The transaction of which more may come. Once the server has answered a question that is asked after this, no more
    /// comes: it sends what it has of a transaction in one go.
    pub(super) fn open(&self) -> Option<u64> {
        self.heard.lock().open.as_ref().map(|(transaction, _)| *transaction)
    }

    /// No more comes of this transaction. Says whether there is none after it.
    pub(super) fn complete(&self, transaction: Option<u64>) -> bool {
        let mut heard = self.heard.lock();
        if transaction.is_some() && heard.open.as_ref().map(|(open, _)| *open) == transaction {
            heard.add_open();
        }
        let (feed, is_quiet) = (heard.feed.clone(), heard.open.is_none());
        drop(heard);
        feed.wake();
        is_quiet
    }

    /// If nobody listens any more, nothing is heard from now on. Says whether that is so.
    pub(super) fn stop_if_deserted(&self) -> bool {
        let mut heard = self.heard.lock();
        // Under the lock: whoever is told from now on is told by another session.
        heard.over |= heard.feed.disarm();
        heard.over
    }

    /// Nothing is heard from now on, though somebody may listen.
    pub(super) fn interrupt(&self) {
        let mut heard = self.heard.lock();
        let was_over = std::mem::replace(&mut heard.over, true);
        let feed = heard.feed.clone();
        drop(heard);
        if !was_over {
            feed.interrupt();
        }
    }
}

impl Heard {
    fn take(&mut self, payload: &str) {
        let Some(message) = Message::read(payload) else {
            // It may be that of another version of the triggers.
            self.add_open();
            self.feed.add(Change { unattributed: true, ..Change::default() });
            return;
        };
        if self.open.as_ref().is_some_and(|(open, _)| *open != message.transaction) {
            self.add_open();
        }
        let (_, change) = self.open.get_or_insert_with(|| (message.transaction, Change::default()));
        if message.what == What::Schema {
            change.schema = true;
            return;
        }
        let before = self.tables.insert(message.oid, Arc::clone(&message.table));
        // A table that is new, or has a new name: a statement may read it that was not known to.
        change.schema |= before.is_none_or(|before| before != message.table);
        message.tell(change.entry(&message.table));
    }

    fn add_open(&mut self) {
        let Some((transaction, change)) = self.open.take() else { return };
        if self.last.replace(transaction) == Some(transaction) {
            self.feed.add_more(change);
        } else {
            self.feed.add(change);
        }
    }
}
