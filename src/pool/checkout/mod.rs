//! The way to a connection.
//!
//! - `lending.rs`: an idle one, or free capacity, or a place in the queue; checked, then lent.
//! - `waiting.rs`: a call that waits, known to the registry and bounded in time; where connecting fails for now, for a
//!   connection that comes back instead.
//! - `opening.rs`: attempts to connect, pauses, the hook.

mod lending;
mod opening;
mod waiting;

pub(crate) use waiting::WaitingCall;
