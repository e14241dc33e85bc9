//! What a database needs from time to time, and what came of it.

use crate::error::{Error, ErrorKind};

/// What [`Connection::maintain`](crate::Connection::maintain) is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Maintenance {
    /// Copy the write-ahead log into the file.
    Checkpoint,
    /// Write the file anew, without free pages.
    Vacuum,
    /// Give at most so many free pages back to the system.
    FreePages(u32),
    /// Bring the planner's statistics up to date.
    Optimize,
    /// Tell how large the database is.
    Sizes,
    /// Tell how large each table is.
    TableSizes,
}

/// What came of it: each [`Maintenance`] has the answer of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Maintained {
    /// Of [`Maintenance::Checkpoint`].
    Checkpoint(CheckpointReport),
    /// Of [`Maintenance::Vacuum`], and of one step of [`Maintenance::FreePages`].
    Vacuum(VacuumReport),
    /// Of [`Maintenance::Optimize`].
    Optimize(OptimizeReport),
    /// Of [`Maintenance::Sizes`].
    Sizes(Sizes),
    /// Of [`Maintenance::TableSizes`].
    TableSizes(Vec<TableSize>),
}

/// What a checkpoint did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointReport {
    /// Frames (pages) of the log that were not in the file before.
    pub pending: u32,
    /// Those that still are not: somebody reads an older state, and they would be in the way; or another process copies the log
    /// at this moment, and nobody can say how many are left. Then it is as many as before.
    pub left: u32,
    /// The size of the log's file now; 0 when all was copied and nobody reads from it.
    pub log_bytes: u64,
}

/// What a vacuum did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VacuumReport {
    /// Pages that the database had before.
    pub pages_before: u64,
    /// Pages that it has now.
    pub pages_after: u64,
    /// Free pages that are left.
    pub free_pages: u64,
    /// Bytes of a page.
    pub page_size: u64,
}

/// What was brought up to date.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptimizeReport {
    /// The statements that the engine chose to run, such as `ANALYZE "main"."users"`; none if nothing was due.
    pub statements: Vec<String>,
}

/// How large a database is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// Bytes of a page.
    pub page_size: u64,
    /// Pages of the database, free ones included.
    pub pages: u64,
    /// Pages that hold nothing, and are used before the file grows; 0 where the engine does not know, as in PostgreSQL.
    pub free_pages: u64,
    /// The size of the file; 0 in memory. What is still in the log is not in it.
    pub file_bytes: u64,
    /// The size of the log's file; 0 if there is none, or one for several databases, as in PostgreSQL.
    pub log_bytes: u64,
}

/// How large a table is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableSize {
    /// Its name; in PostgreSQL after its schema and a dot, unless that is `public`.
    pub name: String,
    /// Bytes of its pages, and of those of its indexes.
    pub bytes: u64,
    /// Of those, bytes of its indexes.
    pub index_bytes: u64,
    /// Of those, bytes that hold nothing; 0 where the engine does not know, as in PostgreSQL.
    pub unused_bytes: u64,
}

impl Maintenance {
    /// The answer of an engine that leaves this to its server; for connectors.
    #[cold]
    pub fn unsupported(self) -> Error {
        let what = match self {
            Self::Checkpoint => "checkpoints that its clients ask for",
            Self::Vacuum | Self::FreePages(_) => "vacuum of the whole database",
            Self::Optimize => "statistics that its clients ask for",
            Self::Sizes | Self::TableSizes => "sizes that this call could tell",
        };
        Error::new(ErrorKind::Unsupported, format!("this engine has no {what}"))
            .hint("its server does that by itself, or by statements of its own")
    }
}

impl VacuumReport {
    /// Bytes by which the database has become smaller.
    pub fn freed_bytes(&self) -> u64 {
        self.pages_before.saturating_sub(self.pages_after) * self.page_size
    }
}
