//! How a database is opened: the path is looked at, a new file is made, the key is proved, and a failure is explained.
//!
//! `location` names a file, `file` says whether it may be opened and does, `creation` makes a new one, `first` opens for the first time,
//! `opened` all that come later, `reading` opens what is only read. `another_key` goes on with the key that a file has by then, `way` says
//! what for, `patience` how long a lock was waited for, `abandoned` keeps connects whose callers went away, `cut_off` and `diagnose` look
//! at what cannot be opened.

pub(crate) mod abandoned;
mod another_key;
pub(crate) mod creation;
pub(crate) mod cut_off;
pub(crate) mod diagnose;
pub(crate) mod file;
pub(crate) mod first;
pub(crate) mod location;
pub(super) mod log_pages;
pub(crate) mod opened;
pub(crate) mod patience;
pub(crate) mod reading;
pub(crate) mod way;
