//! serde's error while decoding.

use std::cell::RefCell;
use std::fmt;

use serde::de;

use crate::value::ValueRef;

/// serde's error while decoding: words about types and names, never a value of more than a number.
///
/// A pointer, because serde hands a result over for each value of each row.
#[derive(Debug)]
pub(super) struct Mismatch(Box<MismatchWords>);

#[derive(Debug)]
struct MismatchWords {
    message: String,
    /// What stands before it: where it was found, if that is known.
    place: String,
    /// The words are those of a type that we do not know, which may have quoted the value.
    foreign: bool,
}

/// What points in time say that they expect: those of chrono, jiff and the crate time. A number is a time to nobody else,
/// above all not to a text.
const TIMES: [&str; 9] = [
    "an RFC 3339 formatted date and time string",
    "a formatted date and time string",
    "a timestamp string",
    "a datetime string",
    "an `OffsetDateTime`",
    "a `UtcDateTime`",
    "a `PrimitiveDateTime`",
    "a `PlainDateTime`",
    "an RFC3339-formatted `OffsetDateTime`",
];

impl Mismatch {
    /// An error in our own words.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(Box::new(MismatchWords { message: message.into(), place: String::new(), foreign: false }))
    }

    /// The same with the name of the column.
    pub(super) fn at(mut self, column: &str) -> Self {
        self.0.place = format!("column {column}: ");
        self
    }

    /// The same without the words of a type that has quoted this value, whole or in part.
    pub(super) fn without(mut self, value: ValueRef<'_>) -> Self {
        if let ValueRef::Text(text) = value
            && self.0.foreign
            && self.quotes(text)
        {
            self.0.message = "this text does not fit; the words of its type are left out, as they quote it".into();
            self.0.foreign = false;
        }
        self
    }

    fn quotes(&self, text: &str) -> bool {
        let mut words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().count() > 2);
        let quoted = |quote| !text.is_empty() && self.0.message.contains(&format!("{quote}{text}{quote}"));
        words.any(|word| self.0.message.contains(word)) || ['"', '\'', '`'].into_iter().any(quoted)
    }

    /// Whether a point in time was offered something else than a text.
    pub(super) fn is_of_a_time(&self) -> bool {
        TIMES.iter().any(|time| self.0.message.strip_suffix(time).is_some_and(|rest| rest.ends_with(", expected ")))
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.place)?;
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Box::new(MismatchWords { message: message.to_string(), place: String::new(), foreign: true }))
    }

    /// serde's own text would quote the value.
    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let number = match found {
            de::Unexpected::Signed(number) => Some(ValueRef::Integer(number)),
            de::Unexpected::Float(number) => Some(ValueRef::Real(number)),
            _ => None,
        };
        let mismatch = Self::new(format!("found {}, expected {expected}", kind_of(&found)));
        if let Some(number) = number {
            let refusal = RefusedNumber { number, of_a_time: mismatch.is_of_a_time() };
            REFUSED.with_borrow_mut(|refused| refused.as_mut().map(|refused| refused.push(refusal)));
        }
        mismatch
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("this {} does not fit, expected {expected}", kind_of(&found)))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("this text is none of {}", expected.join(", ")))
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
    /// The numbers that were refused for their type, while somebody asks.
    static REFUSED: RefCell<Option<Vec<RefusedNumber>>> = const { RefCell::new(None) };
}

/// A number that was refused for its type.
#[derive(Clone, Copy)]
pub(super) struct RefusedNumber {
    pub(super) number: ValueRef<'static>,
    /// By a type that is a point in time.
    pub(super) of_a_time: bool,
}

/// Which numbers are refused for their type while `decode` runs, also those of which serde tells nobody: it tries the
/// variants of an untagged enum one after another and drops their errors.
pub(super) fn refused_numbers(decode: impl FnOnce()) -> Vec<RefusedNumber> {
    REFUSED.set(Some(Vec::new()));
    decode();
    REFUSED.take().unwrap_or_default()
}
