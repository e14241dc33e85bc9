//! What a pool tells an observer that asks.

use std::fmt;
use std::sync::Arc;

use super::event::system;
use crate::connector::{Capabilities, EngineReadings};
use crate::params::Dialect;

/// A pool that is observed: its names, and what it does at the moment. Does not keep the pool.
#[derive(Clone)]
pub struct ObservedPool {
    name: Arc<str>,
    engine: &'static str,
    dialect: Dialect,
    namespace: Option<Arc<str>>,
    source: Arc<dyn ReadingsSource>,
}

/// What a pool does at the moment, and what it and its engine have counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolReadings {
    /// How many connections there may be.
    pub max_connections: u32,
    /// How many connections are kept.
    pub min_connections: u32,
    /// Connections that wait to be lent.
    pub idle_connections: u32,
    /// Connections that are lent, or are being put in order after that.
    pub active_connections: u32,
    /// Calls that wait for a connection.
    pub waiting: u32,
    /// Calls so far that got no connection in time.
    pub timeouts: u64,
    /// What the engine has counted.
    pub engine: EngineReadings,
}

/// Where readings come from.
pub(crate) trait ReadingsSource: Send + Sync {
    /// `None` when the pool is gone, or closed and empty.
    fn read(&self) -> Option<PoolReadings>;
}

impl ObservedPool {
    pub(crate) fn new(name: Option<&str>, capabilities: &Capabilities, source: Arc<dyn ReadingsSource>) -> Self {
        let Capabilities { engine, dialect, namespace, .. } = capabilities;
        let name = name.or(namespace.as_deref()).unwrap_or(engine);
        Self { name: name.into(), engine, dialect: *dialect, namespace: namespace.clone(), source }
    }

    /// The name that the pool was given; else that of the database, or of the engine.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the system, as OpenTelemetry's conventions have it: `sqlite`, `postgresql`.
    pub fn system(&self) -> &'static str {
        system(self.dialect, self.engine)
    }

    /// The name of the database; see [`Capabilities::namespace`].
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// What it does at the moment. `None` when it is closed or gone, and while it is being built. Takes a short lock and asks for the
    /// size of two files.
    pub fn readings(&self) -> Option<PoolReadings> {
        self.source.read()
    }
}

/// Whether it is the same pool.
impl PartialEq for ObservedPool {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source)
    }
}

impl fmt::Debug for ObservedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedPool")
            .field("name", &self.name)
            .field("engine", &self.engine)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
