//! Files that only this user may read: made so from their first moment on, and told from others. And which file a name means.

#[cfg(windows)]
mod lists;
#[cfg(not(windows))]
mod modes;

#[cfg(windows)]
pub(crate) use lists::{ListedRights as FileRights, create, is_exposed, look, way_out};
#[cfg(not(windows))]
pub(crate) use modes::{ModeRights as FileRights, create, is_exposed, look, way_out};
