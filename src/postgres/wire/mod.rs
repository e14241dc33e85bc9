//! One session on the wire.
//!
//! A call polls the [`driver`] of the socket by itself while it waits. [`session`] notes what is under way, and where the
//! transaction stands; [`link`] is what others hold of it: to cancel, and to receive what the server sends by itself.
//! [`socket`] and [`handshake`] (with [`end_point`]) are the stream below, plain or encrypted, and
//! [`first_row`] what is changed in what the driver writes, and [`in_step`] with [`reported`] what is looked at in what it
//! reads. [`described`] keeps types from the driver that it would ask for.

mod described;
mod driver;
mod end_point;
mod first_row;
mod handshake;
mod in_step;
mod link;
mod reported;
mod session;
mod socket;

pub(crate) use described::stranger;
pub(crate) use driver::Driver;
pub(crate) use first_row::{Beside, Limited};
pub(crate) use handshake::Handshake;
pub(crate) use link::{HEARS_WARNINGS, Link, LinkCanceller, Route, Running, is_silent};
pub(crate) use reported::SessionTransaction;
pub(crate) use session::{Age, Fault, Session, SessionCall, doomed, only_reads, outcome_unknown};
pub(crate) use socket::{Address, Keepalive};
