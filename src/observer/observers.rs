//! Those who observe one pool.

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::{Event, ObservedPool, Observer};
use crate::connector::{Capabilities, EngineListener};
use crate::lock::foreign;
use crate::params::Dialect;

/// Those who are told what happens; mostly nobody. Cheap to clone, as each call does that is observed.
#[derive(Clone)]
pub(crate) struct Observers {
    are_there: bool,
    of_pool: Arc<PoolObservers>,
}

/// The observers of one pool, and what all that they are told has in common.
pub(crate) struct PoolObservers {
    list: Vec<Box<dyn Observer>>,
    pub(crate) engine: &'static str,
    pub(crate) dialect: Dialect,
    pub(crate) namespace: Option<Arc<str>>,
    /// From when on one of them takes a statement for slow.
    pub(crate) slow: Option<Duration>,
}

impl Observers {
    pub(crate) fn new(list: Vec<Box<dyn Observer>>, pool: &ObservedPool, capabilities: &Capabilities) -> Self {
        let own = |observer: Box<dyn Observer>| {
            let own = catch_unwind(AssertUnwindSafe(|| observer.for_pool(pool))).unwrap_or_else(|_| {
                tracing::error!("an observer panicked when it was asked for one of the pool's own");
                None
            });
            own.unwrap_or(observer)
        };
        let list: Vec<_> = list.into_iter().map(own).collect();
        let slow = list.iter().filter_map(Observer::slow).min();
        let Capabilities { engine, dialect, namespace, .. } = capabilities;
        let are_there = !list.is_empty();
        let of_pool = PoolObservers { list, engine, dialect: *dialect, namespace: namespace.clone(), slow };
        Self { are_there, of_pool: Arc::new(of_pool) }
    }

    /// Whether anybody wants to be told. Asked before a clock is read.
    #[inline]
    pub(crate) fn are_there(&self) -> bool {
        self.are_there
    }

    /// For an engine that tells of its own work; `None` where nobody wants to be told.
    pub(crate) fn listener(&self) -> Option<EngineListener> {
        let tell = |observers: Self| EngineListener::new(move |event| observers.tell(&Event::Engine(event)));
        self.are_there.then(|| tell(self.clone()))
    }

    /// Tells apart the observers of different pools.
    pub(super) fn place(&self) -> usize {
        Arc::as_ptr(&self.of_pool).addr()
    }

    /// Tells all of them. What panics is left out this time.
    pub(crate) fn tell(&self, event: &Event<'_>) {
        foreign();
        for observer in &self.list {
            if catch_unwind(AssertUnwindSafe(|| observer.observe(event))).is_err() {
                tracing::error!("an observer panicked; what it was told of goes on");
            }
        }
    }
}

impl Deref for Observers {
    type Target = PoolObservers;

    fn deref(&self) -> &PoolObservers {
        &self.of_pool
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers").field("observers", &self.list.len()).finish_non_exhaustive()
    }
}
