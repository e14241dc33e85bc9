//! Copies of a database: made beside their place, looked at, and then given their name. And a database whose key is changed
//! in its place. And what can be read of one that is damaged.

mod backup;
mod draft;
mod failed;
mod pages;
mod rekey;
mod rekey_progress;
mod replace;
mod rows;
mod salvage;
mod sealed;
mod seals;
mod verify;
mod watcher;
mod withheld;

pub(super) use backup::back_up;
pub(super) use rekey::{HeldFile, another_key, not_encrypted};
pub use replace::ReplaceOptions;
pub(super) use replace::{decrypt, encrypt, restore};
pub(super) use salvage::salvage;
pub use salvage::{NotMade, SalvageOptions, SalvageReport, SalvagedTable};
