//! The way to a connection.
//!
//! - `lending.rs`: an idle one, or free capacity, or a place in the queue; checked, then lent.
//! - `waiting.rs`: a call that waits, known to the registry and bounded in time.
//! - `opening.rs`: attempts to connect, pauses, the hook.
//! - `refused.rs`: where connecting fails for now, a connection that comes back instead.

mod lending;
mod opening;
mod refused;
mod waiting;

pub(crate) use waiting::Waiting;
