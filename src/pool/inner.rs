//! What all handles of a pool share.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, Notify, TryAcquireError};
use tokio::time::Instant;

use super::chores::Chores;
use super::close::CloseReport;
use super::permit::Permit;
use super::registry::{Lane, MAIN, READERS, Registry};
use super::settings::Settings;
use super::shelf::Shelf;
use crate::connector::{Access, Connector};
use crate::error::{Error, ErrorKind, Phase, Result};

/// How long a connection may take to say goodbye: long enough for a checkpoint of a large log.
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(10);

pub(super) struct Inner<C: Connector> {
    pub(super) connector: C,
    pub(super) settings: Settings<C>,
    pub(super) registry: Arc<Registry>,
    main: Shelf<C>,
    readers: Option<Shelf<C>>,
    /// Held by whoever is emptying the shelves, so that one closes the writer only when all have closed the readers.
    pub(super) closing: Mutex<()>,
    /// What has been closed since the pool is, and was not reported yet.
    pub(super) goodbyes: std::sync::Mutex<CloseReport>,
    /// Wakes when the pool is closed, and when a permit comes back after that.
    pub(super) closed: Notify,
    /// Where work that nobody waits for is done, if it is begun outside of any runtime.
    pub(super) runtime: OnceLock<Handle>,
    pub(super) chores: Arc<Chores>,
}

impl<C: Connector> Inner<C> {
    pub(super) fn new(connector: C, settings: Settings<C>) -> Arc<Self> {
        let (min, max) = (settings.min_size, settings.max_size);
        let (main, readers) = if settings.writer_lane {
            let apart = max > 1 && connector.capabilities().concurrent_readers;
            let readers = || Shelf::new(&settings, READERS, Access::Read, max - 1, min.saturating_sub(1));
            (Shelf::new(&settings, MAIN, Access::Write, 1, min.min(1)), apart.then(readers))
        } else {
            (Shelf::new(&settings, MAIN, Access::Write, max, min), None)
        };
        let registry = Arc::new(Registry::new([main.size, readers.as_ref().map_or(0, |shelf| shelf.size)]));
        let (closing, goodbyes) = (Mutex::default(), std::sync::Mutex::default());
        let (closed, runtime) = (Notify::new(), OnceLock::new());
        let chores = Arc::default();
        Arc::new(Self { connector, settings, registry, main, readers, closing, goodbyes, closed, runtime, chores })
    }

    pub(super) fn shelf(&self, access: Access) -> &Shelf<C> {
        match (access, &self.readers) {
            (Access::Read, Some(readers)) => readers,
            _ => &self.main,
        }
    }

    pub(super) fn shelf_of(&self, lane: Lane) -> &Shelf<C> {
        self.readers.as_ref().filter(|_| lane == READERS).unwrap_or(&self.main)
    }

    pub(super) fn shelves_in_opening_order(&self) -> impl Iterator<Item = &Shelf<C>> {
        [&self.main].into_iter().chain(&self.readers)
    }

    /// The readers first: who closes last sees the whole database to itself.
    pub(super) fn shelves_in_closing_order(&self) -> impl Iterator<Item = &Shelf<C>> {
        self.readers.iter().chain([&self.main])
    }

    /// Has all permits given back to the queues, now and as they come.
    pub(super) fn cool(&self) {
        for shelf in self.shelves_in_closing_order() {
            shelf.cool();
        }
    }

    /// Runs `task` in the background: on the runtime of this thread, or else on the one that opened the first connection,
    /// and wherever somebody waits. If all that is gone, `task` is dropped, and its guards give back what they hold.
    pub(super) fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = Handle::try_current().ok().as_ref().or_else(|| self.runtime.get()) {
            self.chores.begin(runtime, task);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.main.permits.is_closed()
    }

    pub(super) fn closed_error(&self) -> Error {
        let message = format!("the pool \"{}\" is closed", self.settings.name);
        Error::new(ErrorKind::Closed, message).during(Phase::Acquire).hint("open a new one to go on")
    }

    /// A permit, if one is free. Nobody who waits is overtaken: a permit that comes back goes to the first in the queue.
    pub(super) fn try_permit(self: &Arc<Self>, shelf: &Shelf<C>) -> Result<Option<Permit<C>>> {
        match shelf.permits.try_acquire() {
            Ok(permit) => {
                permit.forget();
                Ok(Some(Permit::new(self, shelf.lane)))
            }
            Err(TryAcquireError::NoPermits) => Ok(None),
            Err(TryAcquireError::Closed) => Err(self.closed_error()),
        }
    }
}

/// How long a caller who has until `deadline` may be kept by the goodbye of a connection that is of no use to him.
pub(super) fn goodbye_limit(deadline: Instant) -> Duration {
    CLOSE_LIMIT.min(deadline.saturating_duration_since(Instant::now()) / 2)
}
