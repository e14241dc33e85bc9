//! What the writers of an engine need beside [`Connector`] and [`Connection`]: what
//! these are asked, and what they answer.
//!
//! A [`Resource`] is enough for a [`Pool`](crate::Pool); SQL takes a [`Connection`]. The suites of
//! `testing::conformance` (feature `testing`) check an engine against these contracts.

#[cfg(feature = "bb8")]
#[cfg_attr(docsrs, doc(cfg(feature = "bb8")))]
pub use crate::bb8::{Bb8Connection, Bb8Manager};
pub use crate::connector::{
    Access, Backup, BulkInsert, Cancel, CancelKind, Canceller, Capabilities, CheckDepth, CheckStep, Connection,
    Connector, CopyKey, EngineEvent, EngineListener, EngineReadings, Isolation, Maintained, Maintenance, NoConnector,
    OneByOne, Outcome, PendingCommit, RekeyReport, Rekeying, Replace, Resource, ResourceState, Scope, Statement,
    StatementEffort, StatementKind, StatementSummary, TellProgress, TransactionMode,
};
pub use crate::error::Phase;
pub use crate::feed::{ChangeFeed, Hearers};
pub use crate::params::{Arranged, ArrangedSets, Dialect, Params, Placeholders, Style};
pub use crate::row::{Changes, RowRef, RowSink, RowsBuilder};
pub use crate::value::ValueRef;
