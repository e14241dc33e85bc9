//! Stands where the feature `json` is off: nothing is written as JSON then.

use serde::de::{self, Visitor};
use serde::ser::Serialize;

use super::ValueRef;

pub(crate) fn json_text<T: Serialize + ?Sized>(_: &T) -> Option<String> {
    None
}

#[allow(clippy::extra_unused_type_parameters, reason = "with `json` it is looked at")]
pub(crate) fn is_json<T: ?Sized>() -> bool {
    false
}

pub(crate) fn visit_json<'de, V: Visitor<'de>, E: de::Error>(
    _: ValueRef<'_>,
    visitor: V,
) -> Result<Result<V::Value, E>, V> {
    Err(visitor)
}
