//! Copies of a database: made beside their place, looked at, and then given their name.

mod backup;
mod draft;
mod pages;
mod replace;
mod rows;
mod verify;

pub(super) use backup::back_up;
pub use replace::ReplaceOptions;
pub(super) use replace::{decrypt, encrypt, restore};
