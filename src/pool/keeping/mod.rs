//! What becomes of connections that come back, and of those that lie idle.
//!
//! - `giving_back.rs`: back into the supply, or reset first, or closed and replaced.
//! - `reaper.rs`, `looks.rs`: idle timeout and lifetime.
//! - `overdue.rs`: loans that last too long are named in the log.

mod giving_back;
mod looks;
mod overdue;
mod reaper;

pub(super) use looks::Looks;
