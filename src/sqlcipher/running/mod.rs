//! How work runs on a connection: inline on the caller's task, or as a numbered job on a thread that may block.
//!
//! `engine` is the synchronous connection (`closing` closes it); `inline`, `group`, `script`, `stream`, `interact`, `transaction`, `check` and `maintenance` are the kinds of work, `effort` is what one cost, `failing` what an error means for the connection; `job` and `control` start and stop
//! it; `session` knows what a caller did to it, `sharing` whose commits share a sync, `turns` leaves the lock to
//! other processes.

mod effort;
mod failing;

pub(crate) mod check;
pub(crate) mod closing;
pub(crate) mod control;
pub(crate) mod engine;
pub(crate) mod group;
pub(crate) mod inline;
pub(crate) mod interact;
pub(crate) mod job;
pub(crate) mod maintenance;
pub(crate) mod script;
pub(crate) mod session;
pub(crate) mod sharing;
pub(crate) mod stream;
pub(crate) mod transaction;
pub(crate) mod turns;
