//! serde's error while decoding.

use std::cell::RefCell;
use std::fmt;

use serde::de;

/// serde's error while decoding: words about types and names, never a value of more than a number.
#[derive(Debug)]
pub(super) struct Mismatch(pub(super) String);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }

    /// serde's own text would quote the value.
    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        if let de::Unexpected::Signed(number) = found {
            REFUSED.with_borrow_mut(|refused| refused.as_mut().map(|refused| refused.push(number)));
        }
        Self(format!("found {}, expected {expected}", kind_of(&found)))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self(format!("this {} does not fit, expected {expected}", kind_of(&found)))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self(format!("this text is none of {}", expected.join(", ")))
    }
}

fn kind_of(found: &de::Unexpected<'_>) -> &'static str {
    match found {
        de::Unexpected::Bool(_) => "bool",
        de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) => "integer",
        de::Unexpected::Float(_) => "real",
        de::Unexpected::Char(_) | de::Unexpected::Str(_) => "text",
        de::Unexpected::Bytes(_) => "blob",
        de::Unexpected::Unit | de::Unexpected::Option => "null",
        _ => "another type",
    }
}

thread_local! {
    /// The integers that were refused for their type, while somebody asks.
    static REFUSED: RefCell<Option<Vec<i64>>> = const { RefCell::new(None) };
}

/// Which integers are refused for their type while `decode` runs, also those of which serde tells nobody: it tries the
/// variants of an untagged enum one after another and drops their errors.
pub(super) fn refused_integers(decode: impl FnOnce()) -> Vec<i64> {
    REFUSED.set(Some(Vec::new()));
    decode();
    REFUSED.take().unwrap_or_default()
}
