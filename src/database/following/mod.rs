//! Following what is committed: every change, or the result of a statement as it changes.
//!
//! `changes` is the stream of commits, `watch` that of results, `looker` the task that looks for what other processes
//! commit while anybody listens, `install` what some engines need first, `begin` has the engine tell what it commits.

mod begin;
mod changes;
mod install;
mod looker;
mod watch;

pub use changes::{ChangeOptions, ChangeStream};
pub use watch::WatchStream;
