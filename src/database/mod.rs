//! The database: one-liners, transactions, streams, and which connection each of them gets.
//!
//! Floor 3. Knows the pool and the contracts; how an engine works it knows only from its
//! [`Capabilities`](crate::Capabilities).
//!
//! `handle` is what programs hold, `builder` makes it. A call of one statement goes through `answer` (written once for every
//! handle), `statement`, `route` (which connection) and, if it writes, `lane` with `queue` (`grouped` tells observers); `call` has its deadline.
//! `lending` lends for longer: `transaction` (with `savepoint`, `state`, `repeat`, `options`), `raw` and `stream`, each
//! around a `held` connection. `bulk` is many sets of parameters. `observed`, `spans` and `metrics` are for those who look on.
//! `following/` tells of changes, `migrations/` makes them to the schema. `check`, `maintenance`, `copies`, `copy_rows`, `rekey`,
//! `fresh_key`, `sleep` and `explain` are calls of their own.

#[macro_use]
mod answer;

mod builder;
mod bulk;
mod call;
mod check;
mod copies;
mod copy_rows;
mod explain;
mod following;
mod fresh_key;
mod grouped;
mod handle;
mod held;
mod lane;
mod lending;
mod maintenance;
mod metrics;
#[cfg(feature = "migrations")]
#[cfg_attr(docsrs, doc(cfg(feature = "migrations")))]
pub mod migrations;
mod observed;
mod options;
mod own_columns;
mod queue;
mod raw;
mod rekey;
mod repeat;
mod route;
mod savepoint;
mod sleep;
mod spans;
mod state;
mod statement;
mod stream;
mod transaction;

pub use answer::Answer;
pub use builder::DatabaseBuilder;
pub use check::{CheckProblem, CheckProgress, CheckReport};
pub use copies::BackupOptions;
pub use copy_rows::{CopyRows, CopyRowsReport, TableProgress};
pub use following::{ChangeOptions, ChangeStream, WatchStream};
pub use handle::AsyncDatabase;
pub use maintenance::VacuumProgress;
pub use options::TransactionOptions;
pub use raw::RawConnection;
pub use rekey::RekeyOptions;
pub use repeat::{AsyncFunc, AsyncFuncMut};
pub use savepoint::Savepoint;
pub use stream::RowStream;
pub use transaction::Transaction;

pub use crate::config::{CipherConfig, DatabaseConfig, KeyPlace, PoolConfig, RetryConfig};
pub use crate::connector::{
    BackupProgress, BackupReport, BackupStage, CheckDepth, CheckpointReport, EngineEvent, Isolation, OptimizeReport,
    PlanStep, QueryPlan, RekeyReport, Sizes, StatementEffort, TableSize, TransactionMode, VacuumReport,
};
pub use crate::feed::{Change, ChangeKind, RowChange, TableChange};
#[cfg(feature = "opentelemetry")]
#[cfg_attr(docsrs, doc(cfg(feature = "opentelemetry")))]
pub use crate::observer::MeterMetrics;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub use crate::observer::MetricsFacade;
pub use crate::observer::{
    CallKind, CallMetrics, CallOutcome, ConnectionMetrics, Event, Histogram, Metrics, MetricsRecorder, ObservedCall,
    ObservedPool, Observer, PoolReadings,
};
