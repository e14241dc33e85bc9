//! What can be read of a damaged file, in a new one.
//!
//! The engine stops where a tree is broken. This reads pages by itself, walks the trees as far as they lead, and then takes
//! the pages that nothing leads to any more: pointers tell to which tree they belong where the file has them (a mode of
//! vacuum), and else the rowids that a tree misses.

mod fill;
mod journal;
mod lost_and_found;
mod make;
mod map;
mod options;
mod original;
mod page;
mod raw;
mod record;
mod report;
mod run;
mod schema;
mod table;
mod tree;
mod writer;

pub use options::SalvageOptions;
pub use report::{NotMade, SalvageReport, SalvagedTable};
pub(in super::super) use run::salvage;
