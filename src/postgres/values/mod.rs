//! Values on the wire.
//!
//! [`parameter`] fits a value to the type that the server has found for its placeholder; [`lossy`] says which types keep
//! less than all of it. [`decode`] reads columns and arrays, with [`numeric`] and [`time`] for the types whose binary form
//! takes work.

mod decode;
mod lossy;
mod numeric;
mod parameter;
mod time;

pub(crate) use decode::{base, is_readable, push_row, unreadable};
pub(crate) use lossy::{loses, loses_digits};
pub(crate) use parameter::{Parameter, put_eight, put_sized};
