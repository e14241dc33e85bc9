//! The name of a column as serde sees it.

use serde::de::{self, IntoDeserializer, Visitor};

use super::mismatch::Mismatch;

/// The name of a column. Structs ask for the name of a field, maps for a text.
pub(super) struct ColumnName<'a> {
    pub(super) name: &'a str,
    pub(super) is_field: &'a mut bool,
}

impl<'de> de::Deserializer<'de> for ColumnName<'_> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_str(self.name)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        *self.is_field = true;
        visitor.visit_str(self.name)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_enum(self.name.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct ignored_any
    }
}
