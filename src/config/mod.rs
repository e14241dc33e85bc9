//! Settings: their bounds, and the configuration file.
//!
//! Floor 0.

#[cfg(feature = "config")]
mod file;
mod key_place;
pub(crate) mod limit;
mod settings;
#[cfg(feature = "config")]
mod tree;
mod visit;
#[cfg(feature = "config")]
mod yaml;

pub use key_place::KeyPlace;
pub use settings::{CipherConfig, DatabaseConfig, PoolConfig, RetryConfig};
