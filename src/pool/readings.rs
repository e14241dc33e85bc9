//! The numbers of a pool, as observers read them.

use std::sync::Weak;

use super::inner::PoolInner;
use crate::connector::Connector;
use crate::observer::{PoolReadings, ReadingsSource};

impl<C: Connector> ReadingsSource for Weak<PoolInner<C>> {
    fn read(&self) -> Option<PoolReadings> {
        let pool = self.upgrade()?;
        let stats = pool.registry.stats();
        if pool.is_closed() && stats.total_connections == 0 {
            return None;
        }
        let mut readings = PoolReadings::default();
        (readings.max_connections, readings.min_connections) = (pool.settings.max_size, pool.settings.min_size);
        (readings.idle_connections, readings.active_connections) = (stats.idle_connections, stats.active_connections);
        (readings.waiting, readings.timeouts) = (stats.waiting, stats.total_timeouts);
        readings.engine = pool.connector.readings();
        Some(readings)
    }
}
