//! A field as serde writes it: one value.

use std::fmt;

use serde::ser::{self, Impossible, Serialize, SerializeSeq, SerializeTuple};

use super::{Unfit, is_byte, is_bytes, unfit};
use crate::value::Value;
use crate::value::{self, Moment};

/// One field, with the name of its type: serde does not say everything.
#[derive(Default)]
pub(super) struct Field {
    of: &'static str,
    bytes: bool,
    within: Within,
}

/// Where the values of a record stand: that decides what a `serde_json::Value` among them is.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum Within {
    /// Fields of a struct: JSON.
    Struct,
    /// Fields of a struct with `#[serde(flatten)]`: read back, some of them would be a text.
    Flattening,
    /// Entries of a map: the values that they are.
    #[default]
    Map,
}

/// Types that serde writes as text, but whose text stands in another order than they do, and the way out.
const UNSORTED: [(&str, &str); 5] = [
    ("jiff::zoned::Zoned", ZONED),
    ("jiff::span::Span", DURATION),
    ("jiff::signed_duration::SignedDuration", DURATION),
    ("time::signed_duration::SignedDuration", DURATION),
    ("time::duration::Duration", DURATION),
];

/// jiff 0.2's `Zoned`, and jiff's `ZonedDateTime`.
const ZONED: &str = "a time with a zone; its text does not sort by time, so bind its timestamp()";
const DURATION: &str = "a duration; its text does not sort by length, so bind a number in one unit";

const FLATTENING: &str = "a serde_json::Value of a struct with #[serde(flatten)], within which it is read as a text; \
                          declare it as Json<serde_json::Value>";

impl Field {
    /// What is stored for a value of this type.
    pub(super) fn write<T: Serialize + ?Sized>(value: &T, within: Within) -> Result<Value, Unfit> {
        if within != Within::Map && value::is_json::<T>() {
            return if within == Within::Struct { json(value) } else { unfit(FLATTENING) };
        }
        value.serialize(Self { of: std::any::type_name::<T>(), bytes: is_bytes::<T>(), within })
    }

    /// Whether the type is in this crate or module, itself or behind a reference, in a box or an option.
    fn is_of(&self, path: &str) -> bool {
        let outside = |before: char| before == ':' || before == '_' || before.is_alphanumeric();
        self.of.match_indices(path).any(|(at, _)| !self.of[..at].ends_with(outside))
    }

    /// What is written as text may be a time; the crate time writes its own as if they were any text.
    fn text(self, text: &str, may_be_time: bool) -> Result<Value, Unfit> {
        let is_time = self.is_of("time::");
        if (is_time || self.is_of("jiff::"))
            && let Some((_, what)) = UNSORTED.iter().find(|(path, _)| self.is_of(path))
        {
            return unfit(what);
        }
        // A time that is written by a type of the caller's own says its seconds; `09:30` may be anything.
        let may_be_time = is_time || may_be_time && text.bytes().filter(|byte| *byte == b':').count() != 1;
        let Some(mut moment) = Moment::parse(text).filter(|_| may_be_time) else {
            return Ok(Value::Text(text.into()));
        };
        if self.is_of("time::utc_date_time::") {
            moment.offset = Some(0);
        }
        moment.into_value().or_else(|_| unfit("a year that has not four digits"))
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<Value, Unfit> {
    value::json_text(value).map_or_else(|| unfit("a value that JSON cannot hold"), |text| Ok(Value::Text(text)))
}

/// Integers that may not fit.
macro_rules! integers {
    ($($method:ident $type:ty)*) => {$(
        fn $method(self, value: $type) -> Result<Value, Unfit> {
            i64::try_from(value).map(Value::Integer).or_else(|_| unfit("an integer above 64 bits with a sign"))
        }
    )*};
}

impl ser::Serializer for Field {
    type Ok = Value;
    type Error = Unfit;
    type SerializeSeq = Bytes;
    type SerializeTuple = Bytes;
    type SerializeTupleStruct = Impossible<Value, Unfit>;
    type SerializeTupleVariant = Impossible<Value, Unfit>;
    type SerializeMap = Impossible<Value, Unfit>;
    type SerializeStruct = Impossible<Value, Unfit>;
    type SerializeStructVariant = Impossible<Value, Unfit>;

    integers! {
        serialize_i8 i8 serialize_i16 i16 serialize_i32 i32 serialize_i64 i64 serialize_i128 i128
        serialize_u8 u8 serialize_u16 u16 serialize_u32 u32 serialize_u64 u64 serialize_u128 u128
    }

    fn serialize_bool(self, value: bool) -> Result<Value, Unfit> {
        Ok(Value::Bool(value))
    }

    fn serialize_f32(self, value: f32) -> Result<Value, Unfit> {
        Ok(Value::Real(value.into()))
    }

    fn serialize_f64(self, value: f64) -> Result<Value, Unfit> {
        Ok(Value::Real(value))
    }

    fn serialize_char(self, value: char) -> Result<Value, Unfit> {
        Ok(Value::Text(value.into()))
    }

    fn serialize_str(self, value: &str) -> Result<Value, Unfit> {
        self.text(value, false)
    }

    /// serde asks so for what is written as text but is none: a time, and it is stored as such.
    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<Value, Unfit> {
        self.text(&value.to_string(), true)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Value, Unfit> {
        Ok(Value::Blob(value.into()))
    }

    fn serialize_none(self) -> Result<Value, Unfit> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Unfit> {
        Self::write(value, self.within)
    }

    fn serialize_unit(self) -> Result<Value, Unfit> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, Unfit> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Value, Unfit> {
        Ok(Value::Text(variant.into()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<Value, Unfit> {
        if name == value::JSON {
            return json(value);
        }
        Self::write(value, self.within)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Value, Unfit> {
        unfit("a variant with a value")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Bytes, Unfit> {
        Ok(Bytes { bytes: Vec::new(), may_be_empty: self.bytes })
    }

    fn serialize_tuple(self, _: usize) -> Result<Bytes, Unfit> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Unfit> {
        unfit("a tuple")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unfit> {
        unfit("a variant with values")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Unfit> {
        unfit("a map")
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Unfit> {
        unfit("a struct")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unfit> {
        unfit("a variant with fields")
    }
}

/// A list that is bytes, as far as it was seen.
pub(super) struct Bytes {
    bytes: Vec<u8>,
    may_be_empty: bool,
}

impl SerializeSeq for Bytes {
    type Ok = Value;
    type Error = Unfit;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), Unfit> {
        match element.serialize(Field::default()) {
            Ok(Value::Integer(byte @ 0..=255)) if is_byte::<T>() => {
                self.bytes.push(byte.to_le_bytes()[0]);
                Ok(())
            }
            _ => unfit("a list"),
        }
    }

    fn end(self) -> Result<Value, Unfit> {
        if self.bytes.is_empty() && !self.may_be_empty { unfit("a list") } else { Ok(Value::Blob(self.bytes)) }
    }
}

impl SerializeTuple for Bytes {
    type Ok = Value;
    type Error = Unfit;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), Unfit> {
        SerializeSeq::serialize_element(self, element)
    }

    fn end(self) -> Result<Value, Unfit> {
        SerializeSeq::end(self)
    }
}
