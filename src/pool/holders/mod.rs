//! What the pool knows about its connections.
//!
//! - `registry.rs`: all of them, and whether one can come back.
//! - `waiters.rs`: the calls that wait, and deadlocks among them.
//! - `loans.rs`: the loans of one, and the numbers.
//! - `explain.rs`: why there is none to be had.

mod explain;
mod loans;
mod registry;
mod waiters;

pub(super) use explain::Exhaustion;
pub use loans::{HoldToken, PoolStats};
pub(super) use loans::{Holder, LaneId, MAIN, READERS};
pub(super) use registry::{LATE, Registered, Registry};
pub(super) use waiters::Waiter;
