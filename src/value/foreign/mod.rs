//! Values of other crates, each behind the feature of its name. `docs/values.md` says how they are stored.

#[cfg(feature = "chrono")]
mod chrono;
#[cfg(feature = "rust_decimal")]
mod decimal;
#[cfg(any(feature = "jiff", feature = "jiff1"))]
mod jiff;
#[cfg(any(feature = "chrono", feature = "jiff", feature = "jiff1", feature = "time"))]
mod stored;
#[cfg(feature = "time")]
mod time;
#[cfg(feature = "uuid")]
mod uuid;

#[cfg(any(feature = "chrono", feature = "jiff", feature = "jiff1", feature = "time"))]
use stored::{Stored, made_of, parse};

use super::convert::mismatch;
#[cfg(any(feature = "jiff", feature = "jiff1", feature = "time"))]
use super::moment::Clock;
use super::{FromValue, IntoValue, Value, ValueRef};
use crate::error::{Error, ErrorKind, Reason, Result};

#[cold]
fn invalid(found: &str, wanted: &str) -> Error {
    Error::new(ErrorKind::Query, format!("this {found} is not a valid {wanted}")).because(Reason::Type)
}

/// For crates that know no second 60: the last moment before it.
#[cfg(any(feature = "jiff", feature = "jiff1", feature = "time"))]
fn without_leap_second(clock: Clock) -> Clock {
    if clock.second == 60 { Clock { second: 59, nano: 999_999_999, ..clock } } else { clock }
}
