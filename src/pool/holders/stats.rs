//! What a pool has done and is doing.

/// One state of a pool; all numbers belong to the same moment.
///
/// Always true: `total_acquired - total_released == active_connections` and
/// `active_connections + idle_connections == total_connections`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Connections that are open and in service.
    pub total_connections: u32,
    /// Connections that are lent, or are being put in order after having been lent.
    pub active_connections: u32,
    /// Connections that wait to be lent.
    pub idle_connections: u32,
    /// Calls that wait for a connection.
    pub waiting: u32,
    /// Loans so far.
    pub total_acquired: u64,
    /// Loans that are over.
    pub total_released: u64,
    /// Calls that got no connection within the acquire timeout.
    pub total_timeouts: u64,
    /// Failed attempts to connect, failed health checks, and connections that came back broken.
    pub total_errors: u64,
    /// Calls refused because waiting could never have ended.
    pub total_deadlocks: u64,
    /// Loans that had to wait for a free connection first.
    pub total_waited: u64,
    /// Connections opened so far.
    pub total_opened: u64,
}
