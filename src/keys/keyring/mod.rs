//! Keys in the store of the system.
//!
//! The stores are those of the crate `keyring-core`, made for one call and dropped after it: a connection to a daemon is
//! not kept, and the store that the crate has for the whole process is left to the program. Their calls block, some of
//! them until somebody has answered a prompt, so they are made on a thread that may.

mod entry;
mod life;
mod source;
mod store;
mod turn;

pub use source::KeyringKeySource;
