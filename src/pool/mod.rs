//! The pool: who may use a connection, when it is opened, and what happens when it comes back.
//!
//! Floor 2. Knows [`Connector`](crate::Connector), [`Resource`](crate::engine::Resource),
//! [`HealthCheck`] and [`RetryPolicy`], and no SQL.
//!
//! ```text
//!  get ─▶ permit ─▶ slot ─▶ filled? ── health check ──▶ lent ─▶ dropped ─▶ Idle? ─▶ back on the shelf
//!        (fair,    (bb8,      │ no        │ failed                           │ no
//!        closable)  LIFO)     ▼           ▼                                  ▼
//!                          connect,    close, take the next               reset; if that fails: close, refill
//!                          retry, hook
//! ```
//!
//! bb8 keeps the idle queue, the reaper and the lifetimes; it holds *slots*, which whoever checks one out fills, so a
//! failing connector fails its caller and nobody else. A *permit* stands for the right to one slot. Permit and slot
//! travel together in a *lease*, and everything half-done is such a guard: dropping it, wherever that happens, gives the
//! capacity back. What the statistics show lives in one *registry* behind one lock.

mod builder;
mod checkout;
mod chores;
mod close;
mod explain;
mod fill;
mod guarded;
mod handle;
mod hold;
mod inner;
mod lease;
#[cfg(test)]
mod model;
mod overdue;
mod permit;
mod pooled;
mod refused;
mod registry;
mod settings;
mod shelf;
mod slot;
mod stats;
mod sync;
mod waiting;
mod warm;

pub use builder::PoolBuilder;
pub use close::CloseReport;
pub use handle::Pool;
pub use hold::HoldToken;
pub use pooled::Pooled;
pub use stats::PoolStats;

pub use async_trait::async_trait;

pub use crate::health::{AlwaysHealthy, HealthCheck, Ping, SkipIfRecent};
pub use crate::retry::{Attempt, ExponentialBackoff, FixedDelay, NoRetry, RetryPolicy};
