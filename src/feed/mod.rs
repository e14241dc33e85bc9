//! What was committed, on its way from the engine to those who listen.
//!
//! Floor 0. The engine adds commits in their order, while it has its connection, and wakes the listeners once it has let
//! go of that. Each listener has a queue of its own, with a bound: what does not fit is merged into the last event of it.
//! Watchers have no queue but a mark, and are found by the tables that they read, so that a commit costs nothing for those who
//! watch other tables.

mod change;
mod listener;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

pub use change::{Change, ChangeKind, RowChange, TableChange};
pub(crate) use listener::{Listener, Looking, Stale, TableWatcher};

use crate::error::{Error, ErrorKind, Reason};
use crate::lock::{Lock, foreign};

/// Where an engine tells what it commits; see [`Connection::follow`](crate::Connection::follow). Clones are the same feed.
#[derive(Clone, Default)]
pub struct ChangeFeed(Arc<Lock<FeedState>>);

#[derive(Default)]
struct FeedState {
    /// Of the last commit.
    sequence: u64,
    /// Numbers the listeners.
    next: u64,
    /// The engine tells its commits.
    armed: Armed,
    queues: BTreeMap<u64, EventQueue>,
    watchers: HashMap<u64, WatchMark>,
    by_table: HashMap<Box<str>, Vec<u64>>,
    due: Due,
    /// Whether somebody looks for what others commit.
    looks: LookTurn,
    /// Numbers those who look; only the last one counts.
    looker: u64,
    /// Nobody else commits, so that nobody has to look.
    alone: bool,
    /// Nothing will be committed any more.
    ended: bool,
    /// Wakes the engine when nobody listens any more.
    deserted: Arc<Notify>,
}

/// Whether somebody looks for what others commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LookTurn {
    /// Nobody does, and nobody has to.
    #[default]
    Nobody,
    /// Who did has broken off with its runtime.
    BrokenOff,
    /// It is being done.
    Now,
    /// It is done again then, unless the runtime of whoever does it stands still.
    Next(Instant),
}

/// Who is to be woken. The first has a place of its own, so that nothing is allocated for one listener.
#[derive(Default)]
struct Due {
    first: Option<Arc<Notify>>,
    others: Vec<Arc<Notify>>,
}

impl Due {
    fn push(&mut self, notify: &Arc<Notify>) {
        match &self.first {
            None => self.first = Some(Arc::clone(notify)),
            Some(first) if Arc::ptr_eq(first, notify) => {}
            Some(_) => self.others.push(Arc::clone(notify)),
        }
    }
}

/// Who hears of commits that an engine has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearers {
    /// Nobody listens any more, and no more commits need be told.
    Gone,
    /// Whoever listens knows already that there is something new.
    Awake,
    /// Somebody has to be [woken](ChangeFeed::wake).
    Asleep,
}

/// Whether the engine tells its commits, and how much of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Armed {
    #[default]
    No,
    /// It did, and that has broken off.
    Broken,
    Tables,
    Rows,
}

struct EventQueue {
    events: VecDeque<Arc<Change>>,
    capacity: usize,
    rows: bool,
    look_every: Duration,
    notify: Arc<Notify>,
}

struct WatchMark {
    tables: Vec<Box<str>>,
    stale: Stale,
    look_every: Duration,
    notify: Arc<Notify>,
}

impl ChangeFeed {
    /// A feed that nobody listens to yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The error for a statement that is to be watched, and writes; for engines.
    #[cold]
    pub fn only_reads() -> Error {
        Error::new(ErrorKind::Unsupported, "a statement that is watched must only read")
            .because(Reason::Control)
            .hint("run what writes by execute(), and watch a SELECT")
    }

    /// Adds what a commit has changed; the feed numbers it. Commits must be added in their order, and no waker runs in
    /// here: call [`wake`](Self::wake) once no lock is held.
    pub fn add(&self, change: Change) {
        if !change.is_empty() {
            self.0.lock().add(change, 1);
        }
    }

    /// Adds what several commits have changed, in their order, and says who hears of it. If nobody listens any more, it
    /// [disarms](Self::disarm) instead.
    ///
    /// ```
    /// use strongroom::engine::{ChangeFeed, Hearers};
    ///
    /// assert_eq!(ChangeFeed::new().add_all(&mut Vec::new()), Hearers::Gone);
    /// ```
    pub fn add_all(&self, changes: &mut Vec<Change>) -> Hearers {
        let mut state = self.0.lock();
        if state.is_deserted() {
            state.armed = Armed::No;
            changes.clear();
            return Hearers::Gone;
        }
        for change in changes.drain(..).filter(|change| !change.is_empty()) {
            state.add(change, 1);
        }
        if state.due.first.is_some() { Hearers::Asleep } else { Hearers::Awake }
    }

    /// Adds more of the commit that was added last, for engines that learn of a large one in pieces: it is an event of its own
    /// with the same number, which counts as no commit.
    pub fn add_more(&self, change: Change) {
        if !change.is_empty() {
            self.0.lock().add(change, 0);
        }
    }

    /// Wakes whoever has something new.
    pub fn wake(&self) {
        let Due { first, others } = std::mem::take(&mut self.0.lock().due);
        foreign();
        for notify in first.into_iter().chain(others) {
            notify.notify_one();
        }
    }

    /// Whether anybody wants to be told of each row.
    pub fn wants_rows(&self) -> bool {
        self.0.lock().wants_rows()
    }

    /// From now on every commit is added; with `rows`, each row of it is told. After an [interruption](Self::interrupt), the
    /// listeners are told that something may have been missed; [`wake`](Self::wake) them.
    pub fn arm(&self, rows: bool) {
        let mut state = self.0.lock();
        let now = if rows { Armed::Rows } else { Armed::Tables };
        if std::mem::replace(&mut state.armed, now) == Armed::Broken {
            state.add(Change { unattributed: true, ..Change::default() }, 1);
        }
    }

    /// Commits are not added any more, though somebody listens: for engines that are told them by way of something that may
    /// break. Has [`follow`](crate::Connection::follow) called again, and wakes the listeners for that; no lock may be held.
    pub fn interrupt(&self) {
        let mut state = self.0.lock();
        state.armed = if state.is_deserted() { Armed::No } else { Armed::Broken };
        state.wake_all();
        drop(state);
        self.wake();
    }

    /// Waits until nobody listens any more, or nothing will be committed any more; [`disarm`](Self::disarm) then says for certain.
    pub async fn deserted(&self) {
        let deserted = Arc::clone(&self.0.lock().deserted);
        loop {
            let mut notified = pin!(deserted.notified());
            notified.as_mut().enable();
            if self.0.lock().is_deserted() {
                return;
            }
            notified.await;
        }
    }

    /// Whether every commit has to be added.
    pub fn is_armed(&self) -> bool {
        self.0.lock().armed >= Armed::Tables
    }

    /// If nobody wants to be told of each row any more, that is not needed from now on. Says whether that is so.
    pub fn relax(&self) -> bool {
        let mut state = self.0.lock();
        let idle = state.armed == Armed::Rows && !state.wants_rows();
        if idle {
            state.armed = Armed::Tables;
        }
        idle
    }

    /// If nobody listens any more, commits need not be added from now on: whoever comes next has
    /// [`follow`](crate::Connection::follow) called again. Says whether that is so.
    pub fn disarm(&self) -> bool {
        let mut state = self.0.lock();
        let idle = state.is_deserted();
        if idle {
            state.armed = Armed::No;
        }
        idle
    }
}

impl FeedState {
    fn has_listeners(&self) -> bool {
        !(self.queues.is_empty() && self.watchers.is_empty())
    }

    fn is_deserted(&self) -> bool {
        self.ended || !self.has_listeners()
    }

    fn add(&mut self, mut change: Change, commits: u64) {
        self.sequence += commits;
        (change.sequence, change.commits) = (self.sequence, commits);
        let Self { queues, watchers, by_table, due, .. } = self;
        let change = Arc::new(change);
        let has_rows = change.tables.iter().any(|table| table.rows.is_some());
        let bare = (has_rows && queues.values().any(|queue| !queue.rows)).then(|| Arc::new(change.without_rows()));
        for queue in queues.values_mut() {
            // Whoever has not taken all yet has been woken, and looks again before sleeping.
            if queue.events.is_empty() {
                due.push(&queue.notify);
            }
            queue.add(bare.as_ref().filter(|_| !queue.rows).unwrap_or(&change));
        }
        let mut mark = |mark: &mut WatchMark, schema| {
            if mark.stale == Stale::No {
                due.push(&mark.notify);
            }
            mark.stale = mark.stale.max(if schema { Stale::Schema } else { Stale::Rows });
        };
        if change.schema || change.unattributed {
            for watcher in watchers.values_mut() {
                mark(watcher, true);
            }
            return;
        }
        if by_table.is_empty() {
            return;
        }
        for table in &change.tables {
            for id in by_table.get(&*lower(&table.table)).into_iter().flatten() {
                if let Some(watcher) = watchers.get_mut(id) {
                    mark(watcher, false);
                }
            }
        }
    }

    fn wants_rows(&self) -> bool {
        self.queues.values().any(|queue| queue.rows)
    }

    fn wake_all(&mut self) {
        let Self { queues, watchers, due, .. } = self;
        let queues = queues.values().map(|queue| &queue.notify);
        queues.chain(watchers.values().map(|watcher| &watcher.notify)).for_each(|notify| due.push(notify));
    }
}

impl EventQueue {
    fn add(&mut self, change: &Arc<Change>) {
        let is_full = self.events.len() >= self.capacity;
        match self.events.back_mut().filter(|_| is_full) {
            Some(last) => Arc::make_mut(last).merge(change),
            None => self.events.push_back(Arc::clone(change)),
        }
    }
}

/// Names of tables are compared without their case.
fn lower(name: &str) -> Box<str> {
    name.to_ascii_lowercase().into()
}

impl fmt::Debug for ChangeFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        let listeners = state.queues.len() + state.watchers.len();
        f.debug_struct("ChangeFeed").field("sequence", &state.sequence).field("listeners", &listeners).finish()
    }
}
