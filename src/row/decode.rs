//! Rows into structs, tuples and scalars through serde, without a tree in between.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::{Row, Rows, View};
use crate::value::exact_float;
use crate::{Error, ErrorKind, Reason, Result, ValueRef};

impl Row {
    /// Decodes the row: a struct or map by column names, a tuple by order, a scalar from the first column.
    ///
    /// ```
    /// use strongroom::{RowsBuilder, ValueRef};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct User {
    ///     id: u32,
    ///     name: Option<String>,
    /// }
    ///
    /// let mut builder = RowsBuilder::new(["id", "name"]);
    /// builder.push(ValueRef::Integer(7));
    /// builder.push(ValueRef::Null);
    /// let row = builder.finish().first().unwrap();
    /// let user: User = row.decode()?;
    /// assert_eq!((user.id, user.name), (7, None));
    /// let pair: (i64, Option<String>) = row.decode()?;
    /// assert_eq!(pair, (7, None));
    /// # Ok::<(), strongroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Reason::Type`] when a column is missing, repeated, of another type, or does not fit.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        self.view().decode()
    }
}

impl Rows {
    /// Decodes every row as [`Row::decode`] does.
    ///
    /// # Errors
    /// [`Reason::Type`] for the first row that does not fit.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let mut all = Vec::with_capacity(self.len());
        for index in 0..self.len() {
            all.push(View { data: &self.0, index }.decode()?);
        }
        Ok(all)
    }
}

/// serde's error while decoding: words about types and names, never a value of more than a number.
#[derive(Debug)]
pub(super) struct Mismatch(String);

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

/// A single value asks for a single column: the first one.
macro_rules! forward_scalars {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            self.first()?.$method(visitor)
        }
    )*};
}

impl<'a> View<'a> {
    fn decode<T: DeserializeOwned>(self) -> Result<T> {
        T::deserialize(self).map_err(|Mismatch(message)| {
            Error::new(ErrorKind::Query, format!("cannot decode the row: {message}")).because(Reason::Type)
        })
    }

    fn first(self) -> Result<Cell<'a>, Mismatch> {
        match self.len() {
            0 => Err(Mismatch("the row has no columns".into())),
            _ => Ok(Cell(self.cell(0))),
        }
    }
}

/// Shapes of several values take the whole row.
impl<'de> de::Deserializer<'de> for View<'_> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_map(Columns { row: self, next: 0 })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_map(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_seq(Columns { row: self, next: 0 })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Mismatch> {
        if length != self.len() {
            return Err(Mismatch(format!("the row has {} columns, the tuple {length} fields", self.len())));
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, Mismatch> {
        v.visit_newtype_struct(self)
    }

    /// `Option<scalar>`: NULL is `None`. Of several columns, the row is there, so it is `Some`.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.first()?.0 {
            ValueRef::Null if self.len() == 1 => visitor.visit_none(),
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

/// Walks the columns: as a map with names, as a sequence without.
struct Columns<'a> {
    row: View<'a>,
    next: usize,
}

impl<'de> MapAccess<'de> for Columns<'_> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        let Some(name) = self.row.data.columns.get(self.next) else { return Ok(None) };
        let name: StrDeserializer<'_, Mismatch> = (**name).into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        let index = self.next;
        self.next += 1;
        seed.deserialize(Cell(self.row.cell(index)))
            .map_err(|Mismatch(message)| Mismatch(format!("column {}: {message}", self.row.name(index))))
    }
}

impl<'de> SeqAccess<'de> for Columns<'_> {
    type Error = Mismatch;

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
struct Cell<'a>(ValueRef<'a>);

impl<'de> de::Deserializer<'de> for Cell<'_> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            ValueRef::Null => visitor.visit_unit(),
            ValueRef::Bool(value) => visitor.visit_bool(value),
            ValueRef::Integer(value) => visitor.visit_i64(value),
            ValueRef::Real(value) => visitor.visit_f64(value),
            ValueRef::Text(value) => visitor.visit_str(value),
            ValueRef::Blob(value) => visitor.visit_bytes(value),
        }
    }

    /// Integers become floats only without loss; serde's default would round above 2^53.
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            ValueRef::Integer(value) => match exact_float(value) {
                Some(exact) => visitor.visit_f64(exact),
                None => Err(Mismatch("this integer does not fit into a float without loss".into())),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_f64(visitor)
    }

    /// Engines without booleans store 0 and 1.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            ValueRef::Integer(0) => visitor.visit_bool(false),
            ValueRef::Integer(1) => visitor.visit_bool(true),
            _ => self.deserialize_any(visitor),
        }
    }

    /// Bytes as a list: `Vec<u8>` works without a serde attribute.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            ValueRef::Blob(bytes) => visitor.visit_seq(de::value::SeqDeserializer::new(bytes.iter().copied())),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            ValueRef::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, Mismatch> {
        v.visit_newtype_struct(self)
    }

    /// Unit variants are stored as their names.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            ValueRef::Text(name) => visitor.visit_enum(name.into_deserializer()),
            other => Err(Mismatch(format!("found {}, expected the name of a variant", other.type_name()))),
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char str string bytes byte_buf unit unit_struct
        tuple_struct map struct identifier ignored_any
    }
}
