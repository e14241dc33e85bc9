//! What a lane has to give: idle connections, free capacity, and the queue of the calls that wait for either.
//!
//! - `granting.rs`: the whole of it; `idle.rs` and `queue.rs`: its two halves; `demand.rs`: what they ask each other.
//!
//! Plain data under short locks; it knows neither time nor tasks. `model.rs` runs this code in many orders of its steps.

mod demand;
mod granting;
mod idle;
#[cfg(test)]
mod model;
mod queue;
mod sync;

pub(super) use granting::Supply;
pub(super) use idle::Cell;
pub(super) use queue::{Closed, Need};
