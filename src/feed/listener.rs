//! Who listens to a feed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Armed, Change, ChangeFeed, EventQueue, FeedState, LookTurn, WatchMark, lower};
use crate::clock;
use crate::lock::foreign;

/// A look that has not come so long after its time does not come: its runtime stands still.
const LATE: Duration = Duration::from_secs(1);

/// Hears of every commit. Dropping it leaves nothing.
#[derive(Debug)]
pub(crate) struct Listener {
    feed: ChangeFeed,
    id: u64,
    notify: Arc<Notify>,
}

/// Hears that tables have changed. Dropping it leaves nothing.
#[derive(Debug)]
pub(crate) struct TableWatcher {
    feed: ChangeFeed,
    id: u64,
    notify: Arc<Notify>,
}

/// What a watcher knows to be out of date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stale {
    #[default]
    No,
    /// What it has read.
    Rows,
    /// And perhaps which tables it reads.
    Schema,
}

/// Whoever looks for what others commit. There is one at most; when it ends, listeners are woken to send for another, and when
/// it stands still, they take note of that themselves.
#[derive(Debug)]
pub(crate) struct Looking {
    feed: ChangeFeed,
    number: u64,
    /// It goes on for one that has broken off or stands still, and so may have missed something.
    pub(crate) resumes: bool,
}

impl ChangeFeed {
    /// A new listener, with at most `capacity` events waiting.
    pub(crate) fn listen(&self, capacity: usize, rows: bool, look_every: Duration) -> Listener {
        let notify = Arc::new(Notify::new());
        let queue = EventQueue {
            events: VecDeque::new(),
            capacity: capacity.max(1),
            rows,
            look_every,
            notify: Arc::clone(&notify),
        };
        let mut state = self.0.lock();
        state.enter();
        let id = state.next;
        state.queues.insert(id, queue);
        drop(state);
        Listener { feed: self.clone(), id, notify }
    }

    /// A new watcher, of no table yet.
    pub(crate) fn watch(&self, look_every: Duration) -> TableWatcher {
        let notify = Arc::new(Notify::new());
        let mark = WatchMark { tables: Vec::new(), stale: Stale::No, look_every, notify: Arc::clone(&notify) };
        let mut state = self.0.lock();
        state.enter();
        let id = state.next;
        state.watchers.insert(id, mark);
        drop(state);
        TableWatcher { feed: self.clone(), id, notify }
    }

    /// Whether the engine tells enough for all who listen.
    pub(crate) fn is_heard(&self) -> bool {
        let state = self.0.lock();
        state.armed >= if state.wants_rows() { Armed::Rows } else { Armed::Tables }
    }

    /// Nothing will be committed any more: the listeners are told so after what they have not read yet.
    pub(crate) fn end(&self) {
        let mut state = self.0.lock();
        state.ended = true;
        state.wake_all();
        let deserted = Arc::clone(&state.deserted);
        drop(state);
        self.wake();
        deserted.notify_waiters();
    }

    /// Whether what the engine tells has broken off, so that it has to be followed anew.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.0.lock().armed == Armed::Broken
    }

    /// A listener has gone.
    fn left(&self) {
        let state = self.0.lock();
        let deserted = (!state.has_listeners()).then(|| Arc::clone(&state.deserted));
        drop(state);
        if let Some(deserted) = deserted {
            foreign();
            deserted.notify_waiters();
        }
    }

    /// Who asks first looks for what others commit, and who notices that nobody does any more, or wants it sooner.
    pub(crate) fn look(&self) -> Option<Looking> {
        let mut state = self.0.lock();
        let now = Instant::now();
        let next = state.next_look(now, Duration::ZERO)?;
        let (is_free, resumes) = match state.looks {
            LookTurn::Nobody => (true, false),
            LookTurn::BrokenOff => (true, true),
            LookTurn::Now => (false, false),
            LookTurn::Next(at) if now >= at + LATE => (true, true),
            LookTurn::Next(at) => (next < at && state.armed != Armed::Broken, false),
        };
        if !is_free || (state.alone && state.armed != Armed::Broken) {
            return None;
        }
        state.looks = LookTurn::Now;
        state.looker += 1;
        Some(Looking { feed: self.clone(), number: state.looker, resumes })
    }

    /// When to ask again whether somebody looks: until then, there are other ways to hear that nobody does.
    pub(crate) fn look_again(&self) -> Option<Instant> {
        match self.0.lock().looks {
            LookTurn::Next(at) => Some(at + LATE),
            LookTurn::Now => Some(Instant::now() + LATE),
            LookTurn::Nobody | LookTurn::BrokenOff => None,
        }
    }
}

impl FeedState {
    /// Numbers a listener. Who comes first has not missed what others did.
    fn enter(&mut self) {
        self.next += 1;
        if self.armed == Armed::Broken && !self.has_listeners() {
            self.armed = Armed::No;
        }
    }

    /// Whether a listener has something to take, or to see to.
    fn has_news(&self, listener: u64) -> bool {
        let waits = self.queues.get(&listener).is_some_and(|queue| !queue.events.is_empty());
        let nobody_looks = !self.alone && matches!(self.looks, LookTurn::Nobody | LookTurn::BrokenOff);
        waits || nobody_looks || self.ended || self.armed == Armed::Broken
    }

    /// When somebody wants the next look; `None`: nobody does. What has broken off is followed anew after `rest`.
    fn next_look(&self, now: Instant, rest: Duration) -> Option<Instant> {
        let queues = self.queues.values().map(|queue| queue.look_every);
        let shortest = queues.chain(self.watchers.values().map(|watcher| watcher.look_every)).min();
        let pause = shortest.filter(|_| !self.ended)?;
        now.checked_add(if self.armed == Armed::Broken { rest } else { pause })
    }
}

impl Looking {
    /// Sleeps until the next look: for the shortest pause that anybody wants, or for `rest` while the engine has to be followed
    /// anew. False: nobody wants one any more, or somebody else looks.
    pub(crate) async fn sleep(&self, rest: Duration) -> bool {
        let Some(at) = self.rests(rest) else { return false };
        clock::sleep_until(at).await;
        let mut state = self.feed.0.lock();
        let is_mine = state.looker == self.number;
        if is_mine {
            state.looks = LookTurn::Now;
        }
        is_mine
    }

    fn rests(&self, rest: Duration) -> Option<Instant> {
        let mut state = self.feed.0.lock();
        if state.looker != self.number {
            return None;
        }
        let next = state.next_look(Instant::now(), rest);
        state.looks = next.map_or(LookTurn::Nobody, LookTurn::Next);
        next
    }

    /// There are no others, and nobody has to look any more.
    pub(crate) fn is_alone(&self) {
        let mut state = self.feed.0.lock();
        state.alone = true;
        if state.looker == self.number {
            state.looks = LookTurn::Nobody;
        }
    }

    pub(crate) fn feed(&self) -> &ChangeFeed {
        &self.feed
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        let mut state = self.feed.0.lock();
        if state.looker != self.number {
            return;
        }
        if state.looks != LookTurn::Nobody {
            state.looks = LookTurn::BrokenOff;
        }
        state.wake_all();
        drop(state);
        self.feed.wake();
    }
}

impl Listener {
    /// The next event, if there is one; `Err` when there will be none any more.
    pub(crate) fn take(&self) -> Result<Option<Change>, Ended> {
        let mut state = self.feed.0.lock();
        let ended = state.ended;
        let event = state.queues.get_mut(&self.id).and_then(|queue| queue.events.pop_front());
        drop(state);
        match event {
            None if ended => Err(Ended),
            event => Ok(event.map(Arc::unwrap_or_clone)),
        }
    }

    /// Waits for news: an event, the end, or that nobody looks for what others commit. Woken for what was taken already, it waits
    /// on: whoever takes each event at once is woken like this after each of them, and need not begin anew.
    pub(crate) async fn woken(&self) {
        loop {
            self.notify.notified().await;
            if self.feed.0.lock().has_news(self.id) {
                return;
            }
        }
    }
}

/// Nothing more will come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended;

impl TableWatcher {
    /// From now on, these tables are watched. What changes while the caller reads them marks it again.
    pub(crate) fn reads(&self, tables: &[Arc<str>]) {
        let mut state = self.feed.0.lock();
        let state = &mut *state;
        let Some(mark) = state.watchers.get_mut(&self.id) else { return };
        forget(&mut state.by_table, &mark.tables, self.id);
        mark.tables = tables.iter().map(|table| lower(table)).collect();
        for table in &mark.tables {
            state.by_table.entry(table.clone()).or_default().push(self.id);
        }
    }

    /// What is out of date; it counts as up to date from now on.
    pub(crate) fn take(&self) -> Result<Stale, Ended> {
        let mut state = self.feed.0.lock();
        let ended = state.ended;
        let stale = state.watchers.get_mut(&self.id).map_or(Stale::No, |mark| std::mem::take(&mut mark.stale));
        if ended { Err(Ended) } else { Ok(stale) }
    }

    /// The same as [`take`](Self::take), without taking it.
    pub(crate) fn stale(&self) -> Result<Stale, Ended> {
        let state = self.feed.0.lock();
        let stale = state.watchers.get(&self.id).map_or(Stale::No, |mark| mark.stale);
        if state.ended { Err(Ended) } else { Ok(stale) }
    }

    /// Waits for news, as [`Listener::woken`] does.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }
}

fn forget(by_table: &mut HashMap<Box<str>, Vec<u64>>, tables: &[Box<str>], id: u64) {
    for table in tables {
        if let Some(ids) = by_table.get_mut(table) {
            ids.retain(|known| *known != id);
            if ids.is_empty() {
                by_table.remove(table);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Dropped after the lock.
        let _queue = self.feed.0.lock().queues.remove(&self.id);
        self.feed.left();
    }
}

impl Drop for TableWatcher {
    fn drop(&mut self) {
        let mut guard = self.feed.0.lock();
        let state = &mut *guard;
        if let Some(mark) = state.watchers.remove(&self.id) {
            forget(&mut state.by_table, &mark.tables, self.id);
        }
        drop(guard);
        self.feed.left();
    }
}
