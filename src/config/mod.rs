//! Settings: their bounds, and the configuration file.
//!
//! Floor 0.

pub(crate) mod limit;
