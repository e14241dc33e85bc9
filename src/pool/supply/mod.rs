//! What a lane has to give.
//!
//! `stock.rs` is plain data under short locks; it knows no time and no runtime. `model.rs` runs this code in many orders of
//! its steps, over the primitives of its own instead of those of `sync.rs`.

#[cfg(test)]
mod model;
mod stock;
mod sync;

pub(super) use stock::{Closed, IdleCell, Need, Supply};
