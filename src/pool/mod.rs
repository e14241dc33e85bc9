//! The pool: who may use a connection, when it is opened, and what happens when it comes back.
//!
//! Floor 2. Knows [`Connector`](crate::Connector), [`Resource`](crate::engine::Resource),
//! [`HealthCheck`] and [`RetryPolicy`], and no SQL.
//!
//! ```text
//!  get ─▶ idle? ───────────▶ health check ──▶ lent ─▶ dropped ─▶ Idle? ─▶ idle, or to the first that waits
//!          │ no              │ failed: close              │ no
//!          ▼                 ▼                            ▼
//!         permit? ────────▶ connect, retry, hook         reset; if that fails: close, replace
//!          │ no
//!          ▼
//!         queue: a connection or a permit, whichever comes back first
//! ```
//!
//! `inner.rs` says what there is and what owns what. A *permit* is the right to have one open connection; it is owned by
//! the connection, or by the call that opens one. One that nobody owns is only counted, as free capacity of its *lane*. A *lane*
//! has idle connections, free capacity, and a fair queue of calls that wait; an engine with a single writer has two, if it can read beside that. What is half done is a type whose
//! `Drop` undoes it: `Permit`, `Unproven`, `Lease`. What the statistics
//! show lives in one registry: a lock for the pool and one for each connection.
//!
//! The idle connections lie here and not in a pool of the crate bb8: its reaper drops connections under its own lock, so
//! that foreign code would run there; it is a task of the first runtime and ends with that; and it closes below `min_size`.
//! Programs that have a bb8 pool already use the engines of this crate by `strongroom::engine::Bb8Manager`.

mod builder;
mod checkout;
mod chores;
mod close_report;
mod closing;
mod guarded;
mod handle;
mod holders;
mod inner;
mod keeping;
mod readings;
mod rekeying;
mod settings;
mod supply;
mod suspend_options;
mod suspending;

pub use builder::PoolBuilder;
pub use close_report::CloseReport;
pub use handle::{Pool, Pooled};
pub use holders::{HoldToken, PoolStats};
pub use suspend_options::SuspendOptions;

pub use async_trait::async_trait;

pub use crate::health::{AlwaysHealthy, HealthCheck, Ping, SkipIfRecent};
pub use crate::retry::{Attempt, ExponentialBackoff, FixedDelay, NoRetry, RetryPolicy};
