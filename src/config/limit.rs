//! Bounds of settings: values outside are moved to the bound, with a warning.

use std::fmt::Debug;

/// A setting's default and its hard bounds.
pub(crate) struct Limit<T> {
    pub(crate) name: &'static str,
    pub(crate) default: T,
    pub(crate) min: T,
    pub(crate) max: T,
}

impl<T: Ord + Copy + Debug> Limit<T> {
    /// Moves `value` into the bounds and says so in the log.
    pub(crate) fn clamp(&self, value: T) -> T {
        let clamped = value.clamp(self.min, self.max);
        if clamped != value {
            tracing::warn!(
                setting = self.name,
                given = ?value,
                used = ?clamped,
                "setting outside its bounds {:?} to {:?}",
                self.min,
                self.max,
            );
        }
        clamped
    }
}
