//! Files that only this user may read: made so from their first moment on, and told from others.

#[cfg(windows)]
mod lists;
#[cfg(not(windows))]
mod modes;

#[cfg(windows)]
pub(crate) use lists::{ListedRights as FileRights, create, is_exposed, way_out};
#[cfg(not(windows))]
pub(crate) use modes::{ModeRights as FileRights, create, is_exposed, way_out};
