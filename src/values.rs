//! Types of your own as parameters and columns.
//!
//! A newtype implements [`IntoValue`] and [`FromValue`]; a struct that serde knows is read by
//! [`fetch_one_as`](crate::AsyncDatabase::fetch_one_as) and written by [`named`](fn@crate::named) without either.
//! [How every type is stored](crate::_docs::values).

pub use crate::params::{Fields, IntoParams, ParamSets, Params, list, named};
pub use crate::row::{ColumnIndex, RowsIter};
#[cfg(feature = "json")]
pub use crate::value::Json;
pub use crate::value::{FromValue, IntoValue, Null, Value, ValueRef};
