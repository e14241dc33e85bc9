//! The end of a pool.
//!
//! - `close.rs`: callers are refused, loans awaited, readers closed first and the writer last.
//! - `report.rs`: what came of it.

mod close;
mod report;

pub use report::CloseReport;
