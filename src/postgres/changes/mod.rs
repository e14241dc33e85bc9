//! What is committed on a server, told to those who listen: by triggers that notify, and a session that listens.
//!
//! `triggers` puts the triggers in place and takes them away, `message` is what they send. `following` opens the session that
//! listens and looks after it, `hearing` puts commits together from what it hears. `tables` finds the tables that a statement
//! reads.
//!
//! A notification is sent when its transaction commits, in the order of the commits, and none is lost while the session that
//! listens lives. It has no mark for the end of a transaction, so each names its own. Source: NOTIFY in PostgreSQL's
//! reference, and `async.c`.

mod following;
mod hearing;
mod message;
mod tables;
mod triggers;

pub(crate) use following::Followers;
pub(crate) use hearing::Hearing;
pub(crate) use message::shown;
