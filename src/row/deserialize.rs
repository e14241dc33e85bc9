//! A row and its cells as serde sees them.

use std::any::type_name;

use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::View;
use super::column_name::ColumnName;
use super::mismatch::Mismatch;
use super::offers::{Offered, Offers};
use crate::value::ValueRef;
use crate::value::{JSON, Moment, exact_float, is_exact_f32, is_json, narrow_float, visit_json};

/// A row, or what is left of it: as a map with names, as a sequence without.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    row: View<'a>,
    offers: &'a Offers,
    next: usize,
    /// The next value goes into a field of a struct or tuple, not into a map or a list.
    into_field: bool,
}

impl<'a> Columns<'a> {
    pub(super) fn new(row: View<'a>, offers: &'a Offers) -> Self {
        Self { row, offers, next: 0, into_field: false }
    }

    #[inline]
    fn cell(self, column: usize) -> OfferedCell<'a> {
        OfferedCell { value: self.row.cell(column), column, offers: self.offers, into_field: self.into_field }
    }

    #[cold]
    fn refused(self, column: usize, mismatch: Mismatch) -> Mismatch {
        self.offers.refused.set(Some(column));
        mismatch.at(self.row.name(column))
    }

    fn first(self) -> Result<OfferedCell<'a>, Mismatch> {
        match self.row.len() {
            0 => Err(Mismatch::new("the row has no columns")),
            _ => Ok(self.cell(0)),
        }
    }

    /// A map would keep one of two values under the same name, and nobody would know which.
    fn refuse_repeated(self) -> Result<(), Mismatch> {
        let names = self.row.columns;
        match (1..names.len()).find(|&index| names[..index].contains(&names[index])) {
            None => Ok(()),
            Some(index) => {
                let name = &names[index];
                Err(Mismatch::new(format!("the row has two columns {name}; give one of them another name with AS")))
            }
        }
    }
}

/// A single value asks for a single column: the first one.
macro_rules! forward_scalars {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            self.first()?.$method(visitor).inspect_err(|_| self.offers.refused.set(Some(0)))
        }
    )*};
}

/// Shapes of several values take the whole row.
impl<'de> de::Deserializer<'de> for Columns<'_> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        if self.offers.bare {
            return self.first()?.deserialize_any(visitor).inspect_err(|_| self.offers.refused.set(Some(0)));
        }
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.refuse_repeated()?;
        visitor.visit_map(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_map(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_seq(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Mismatch> {
        if length != self.row.len() {
            return Err(Mismatch::new(format!("the row has {} columns, the tuple {length} fields", self.row.len())));
        }
        visitor.visit_seq(Self { into_field: true, ..self })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, v: V) -> Result<V::Value, Mismatch> {
        if name == JSON {
            return self.first()?.deserialize_newtype_struct(name, v);
        }
        v.visit_newtype_struct(self)
    }

    /// `Option<scalar>`: NULL is `None`. Of several columns, the row is there, so it is `Some`.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.first()?.value {
            ValueRef::Null if self.row.len() == 1 => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.first()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    forward_scalars! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32
        deserialize_f64 deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_identifier
    }
}

impl<'de> MapAccess<'de> for Columns<'_> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        let Some(name) = self.row.columns.get(self.next) else { return Ok(None) };
        self.into_field = false;
        seed.deserialize(ColumnName { name, is_field: &mut self.into_field }).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        let index = self.next;
        self.next += 1;
        seed.deserialize(self.cell(index)).map_err(|mismatch| self.refused(index, mismatch))
    }
}

impl<'de> SeqAccess<'de> for Columns<'_> {
    type Error = Mismatch;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mismatch> {
        if self.next == self.row.len() {
            return Ok(None);
        }
        self.next_value_seed(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.row.len() - self.next)
    }
}

/// One value on its way into a field.
struct OfferedCell<'a> {
    value: ValueRef<'a>,
    column: usize,
    offers: &'a Offers,
    into_field: bool,
}

impl OfferedCell<'_> {
    /// Offers the value as it is stored.
    #[inline]
    fn stored<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.value {
            ValueRef::Null => visitor.visit_unit(),
            ValueRef::Bool(value) => visitor.visit_bool(value),
            ValueRef::Integer(value) => visitor.visit_i64(value),
            // It would be JSON's null, as NULL is.
            ValueRef::Real(value) if !value.is_finite() && is_json::<V::Value>() => {
                Err(Mismatch::new("found a real that is no number, expected JSON"))
            }
            ValueRef::Real(value) => visitor.visit_f64(value),
            ValueRef::Text(value) | ValueRef::List(value) => visitor.visit_str(value),
            ValueRef::Blob(value) => visitor.visit_bytes(value),
        }
    }
}

/// jiff's local types take what they want from a text that says more, down to forms that nobody else reads.
fn refuse_to_lose<'de, V: Visitor<'de>>(text: &str, visitor: &V) -> Result<(), Mismatch> {
    let visitor_type = type_name::<V>();
    if visitor_type.contains("chrono::") && Moment::is_finer(text) {
        return Err(Mismatch::new(
            "found a time with more than nine digits behind the seconds, which chrono would drop",
        ));
    }
    if !visitor_type.contains("jiff::civil::") {
        return Ok(());
    }
    let wanted = (visitor as &dyn de::Expected).to_string();
    let found = match (wanted.as_str(), Moment::parse(text)) {
        ("a date string" | "a time string", Some(Moment { date: Some(_), clock: Some(_), .. })) => {
            "a date with its time of day"
        }
        ("a datetime string", Some(Moment { offset: Some(_), .. })) => "a time with an offset",
        ("a date string" | "a time string" | "a datetime string", None) => "another text",
        _ => return Ok(()),
    };
    Err(Mismatch::new(format!("found {found}, expected {wanted}")))
}

macro_rules! as_stored {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            self.stored(visitor)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for OfferedCell<'_> {
    type Error = Mismatch;

    /// serde asks so where it keeps values before it knows their types, and for a `serde_json::Value`.
    fn deserialize_any<V: Visitor<'de>>(self, mut visitor: V) -> Result<V::Value, Mismatch> {
        if self.into_field {
            match visit_json(self.value, visitor) {
                Ok(json) => return json,
                Err(given_back) => visitor = given_back,
            }
        }
        self.offers.keep(self.column);
        match self.offers.look(self.column, self.value) {
            Offered::Stored => self.stored(visitor),
            Offered::Integer(number) => visitor.visit_i64(number),
            Offered::Truth(truth) => visitor.visit_bool(truth),
            Offered::Text(text) => visitor.visit_str(&text),
            Offered::List => self.deserialize_seq(visitor),
        }
    }

    /// serde asks so for what is made of a text: times, not `String`.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        if let ValueRef::Text(text) = self.value {
            refuse_to_lose(text, &visitor)?;
        }
        match self.offers.look(self.column, self.value) {
            Offered::Text(text) => visitor.visit_str(&text),
            _ => self.stored(visitor),
        }
    }

    /// Integers become floats only without loss; serde's default would round above 2^53.
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.value {
            ValueRef::Integer(value) => match exact_float(value) {
                Some(exact) => visitor.visit_f64(exact),
                None => Err(Mismatch::new("this integer does not fit into a float without loss")),
            },
            _ => self.stored(visitor),
        }
    }

    /// What asks for more bits may know no fewer, as the crate time's `Timestamp`.
    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.value {
            ValueRef::Integer(value) => visitor.visit_i128(value.into()),
            _ => self.stored(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.value {
            ValueRef::Integer(value) if !is_exact_f32(value) => {
                Err(Mismatch::new("this integer does not fit into a float of 32 bits without loss"))
            }
            ValueRef::Real(value) if narrow_float(value).is_none() => {
                Err(Mismatch::new("this real does not fit into a float of 32 bits"))
            }
            _ => self.deserialize_f64(visitor),
        }
    }

    /// Engines without booleans store 0 and 1.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.value {
            ValueRef::Integer(0) => visitor.visit_bool(false),
            ValueRef::Integer(1) => visitor.visit_bool(true),
            _ => self.stored(visitor),
        }
    }

    /// Bytes as a list: `Vec<u8>` works without a serde attribute.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.value {
            ValueRef::Blob(bytes) => visitor.visit_seq(de::value::SeqDeserializer::new(bytes.iter().copied())),
            _ => self.stored(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.value {
            ValueRef::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, v: V) -> Result<V::Value, Mismatch> {
        match self.value {
            ValueRef::Text(text) if name == JSON => v.visit_str(text),
            _ => v.visit_newtype_struct(self),
        }
    }

    /// Unit variants are stored as their names.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.value {
            ValueRef::Text(name) => visitor.visit_enum(name.into_deserializer()),
            other => Err(Mismatch::new(format!("found {}, expected the name of a variant", other.type_name()))),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        self.stored(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.stored(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.stored(visitor)
    }

    as_stored! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_u128 deserialize_char deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_unit deserialize_map deserialize_identifier deserialize_ignored_any
    }
}
