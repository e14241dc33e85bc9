//! A struct or a map as serde writes it.

use std::any::type_name;

use serde::ser::{self, Impossible, Serialize, SerializeMap, SerializeStruct};

use super::field::{Field, Within};
use super::{Fields, Unfit, unfit};
use crate::value::Value;

/// The scalars that a serializer refuses, with their names.
macro_rules! refuse {
    ($($method:ident($($type:ty),*) $what:literal)*) => {$(
        fn $method(self, $(_: $type),*) -> Result<Self::Ok, Unfit> {
            unfit($what)
        }
    )*};
}

/// The struct itself.
pub(super) struct Record;

impl ser::Serializer for Record {
    type Ok = Fields;
    type Error = Unfit;
    type SerializeSeq = Impossible<Fields, Unfit>;
    type SerializeTuple = Impossible<Fields, Unfit>;
    type SerializeTupleStruct = Impossible<Fields, Unfit>;
    type SerializeTupleVariant = Impossible<Fields, Unfit>;
    type SerializeMap = Entries;
    type SerializeStruct = Entries;
    type SerializeStructVariant = Impossible<Fields, Unfit>;

    refuse! {
        serialize_bool(bool) "a bool"
        serialize_i8(i8) "an integer"
        serialize_i16(i16) "an integer"
        serialize_i32(i32) "an integer"
        serialize_i64(i64) "an integer"
        serialize_u8(u8) "an integer"
        serialize_u16(u16) "an integer"
        serialize_u32(u32) "an integer"
        serialize_u64(u64) "an integer"
        serialize_f32(f32) "a float"
        serialize_f64(f64) "a float"
        serialize_char(char) "a character"
        serialize_str(&str) "a text"
        serialize_bytes(&[u8]) "bytes"
        serialize_none() "None"
        serialize_unit() "a unit"
        serialize_unit_variant(&'static str, u32, &'static str) "a variant"
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Fields, Unfit> {
        Ok(Fields::default())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Fields, Unfit> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Fields, Unfit> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Fields, Unfit> {
        unfit("a variant")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Unfit> {
        unfit("a list")
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Unfit> {
        unfit("a tuple")
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
        unfit("a variant")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries, Unfit> {
        Ok(Entries::default())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Entries, Unfit> {
        Ok(Entries::default())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unfit> {
        unfit("a variant")
    }
}

/// A struct or a map on its way; a struct with `#[serde(flatten)]` is a map.
#[derive(Default)]
pub(super) struct Entries {
    fields: Fields,
    name: String,
    within: Within,
}

impl SerializeMap for Entries {
    type Ok = Fields;
    type Error = Unfit;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Unfit> {
        match key.serialize(Field::default()) {
            Ok(Value::Text(name)) => self.name = name,
            _ => return unfit("a map whose keys are no texts"),
        }
        // serde writes the name of a field as what it is; a map gives its keys by reference.
        self.within = if type_name::<T>() == "str" { Within::Flattening } else { Within::Map };
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        let name = std::mem::take(&mut self.name);
        self.fields.add(name, value, self.within);
        Ok(())
    }

    fn end(self) -> Result<Fields, Unfit> {
        Ok(self.fields)
    }
}

impl SerializeStruct for Entries {
    type Ok = Fields;
    type Error = Unfit;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Unfit> {
        self.fields.add(name, value, Within::Struct);
        Ok(())
    }

    fn end(self) -> Result<Fields, Unfit> {
        Ok(self.fields)
    }
}
