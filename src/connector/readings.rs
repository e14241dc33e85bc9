//! What an engine has counted so far, for whoever measures.

/// Numbers of one engine, over all its connections: what [`Connector::readings`](crate::Connector::readings) knows without
/// asking a connection. What it does not know is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineReadings {
    /// The size of the database's file, in bytes. What is still in the log is not in it.
    pub database_bytes: Option<u64>,
    /// The size of the log's file, in bytes.
    pub log_bytes: Option<u64>,
    /// Pages in the log that the file did not have yet when something was last written.
    pub log_frames: Option<u64>,
    /// Checkpoints that failed so far.
    pub failed_checkpoints: Option<u64>,
    /// Reads so far that found their snapshot still open and current.
    pub snapshot_hits: Option<u64>,
    /// Runs so far of a statement that was prepared already.
    pub statement_hits: Option<u64>,
    /// Runs so far of a statement that had to be prepared first.
    pub statement_misses: Option<u64>,
    /// Pages so far that were found in the cache of their connection.
    pub page_cache_hits: Option<u64>,
    /// Pages so far that had to be read from the files.
    pub page_cache_misses: Option<u64>,
}
