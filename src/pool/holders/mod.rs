//! What the pool knows about its connections.
//!
//! - `registry.rs`: all of them, the calls that wait, and deadlocks among them.
//! - `loans.rs`: the loans of one.
//! - `hold.rs`: loans that outlive the code that runs now.
//! - `explain.rs`: why there is none to be had; `stats.rs`: the numbers.

mod explain;
mod hold;
mod loans;
mod registry;
mod stats;

pub use hold::HoldToken;
pub(super) use loans::{Holder, LaneId, MAIN, READERS};
pub(super) use registry::{LATE, Registered, Registry, Waiter};
pub use stats::PoolStats;
