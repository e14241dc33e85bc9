//! JSON as text.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, IntoDeserializer, SeqAccess};
use serde::ser::{Serialize, Serializer};

use super::convert::mismatch;
use super::finite;
use super::{FromValue, IntoValue, JSON, Value, ValueRef, pointed_at};
use crate::error::{Error, ErrorKind, Reason, Result};

/// A value that is stored as JSON: text in SQLite, `json` or `jsonb` in PostgreSQL.
///
/// Works as a parameter, with [`Row::get`](crate::Row::get), and as a field of structs that are decoded from rows or
/// bound by [`named`](crate::named()), also with `#[serde(flatten)]`. `serde_json::Value` is stored in the same way, but not
/// with `flatten`, and not as an entry of a map: see docs/values.md.
///
/// ```
/// use strongroom::{AsyncDatabase, Json};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> strongroom::Result<()> {
/// # #[cfg(feature = "sqlite")] {
/// let db = AsyncDatabase::builder(":memory:").open().await?;
/// let tags = vec!["a".to_owned(), "b".to_owned()];
/// let Json(back): Json<Vec<String>> = db.fetch_value("SELECT $1", (Json(&tags),)).await?.unwrap();
/// assert_eq!(back, tags);
/// # }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Json<T>(pub T);

/// The JSON text of a value; `None` if JSON cannot hold it. A float that is no number would be `null`.
pub(crate) fn json_text<T: Serialize + ?Sized>(value: &T) -> Option<String> {
    let text = serde_json::to_string(value).ok()?;
    (!text.contains("null") || finite::is_finite(value)).then_some(text)
}

/// Whether the type is `serde_json::Value`, itself or behind a pointer: serde does not say so.
pub(crate) fn is_json<T: ?Sized>() -> bool {
    pointed_at::<T>() == type_name::<serde_json::Value>()
}

/// Reads what a `serde_json::Value` is made of, as [`FromValue`] does; any other visitor is given back.
pub(crate) fn visit_json<'de, V: de::Visitor<'de>, E: de::Error>(
    value: ValueRef<'_>,
    visitor: V,
) -> std::result::Result<std::result::Result<V::Value, E>, V> {
    if type_name::<V::Value>() != type_name::<serde_json::Value>() {
        return Err(visitor);
    }
    let read = Json::<serde_json::Value>::from_value(value).map_err(E::custom);
    Ok(read.and_then(|Json(json)| json.deserialize_any(visitor).map_err(|error| E::custom(refused(&error)))))
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::new(ErrorKind::Query, refused(&error)).because(Reason::Type))
}

/// serde's words may quote the value.
fn refused(error: &serde_json::Error) -> &'static str {
    if error.is_data() { "this JSON is not of the type asked for" } else { "this text is no valid JSON" }
}

#[diagnostic::do_not_recommend]
impl<T: Serialize> IntoValue for Json<T> {
    fn into_value(self) -> Result<Value> {
        json_text(&self.0).map(Value::Text).ok_or_else(|| {
            let error = Error::new(ErrorKind::Query, "this value cannot be written as JSON").because(Reason::Type);
            error.hint("JSON has only texts as keys, and no floats that are no numbers")
        })
    }
}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> FromValue for Json<T> {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        match value {
            ValueRef::Text(text) => read(text).map(Self),
            // What SQLite's JSON functions make of a number.
            ValueRef::Integer(_) | ValueRef::Bool(_) => read(&value.to_string()).map(Self),
            ValueRef::Real(real) => read(&format!("{real:?}")).map(Self),
            other => Err(mismatch(other, "JSON")),
        }
    }
}

#[diagnostic::do_not_recommend]
impl IntoValue for serde_json::Value {
    fn into_value(self) -> Result<Value> {
        Json(self).into_value()
    }
}

#[diagnostic::do_not_recommend]
impl FromValue for serde_json::Value {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        Json::from_value(value).map(|Json(value)| value)
    }
}

/// In rows and parameters a text, everywhere else what is in it.
impl<T: Serialize> Serialize for Json<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(JSON, &self.0)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(JSON, Visitor(PhantomData)).map(Self)
    }
}

struct Visitor<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> de::Visitor<'de> for Visitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    /// A cell of a row gives its text so.
    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<T, E> {
        read(text).map_err(E::custom)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<T, D::Error> {
        // serde's own, with a value of a row that was kept before its type was known.
        let kept = type_name::<D>();
        if kept.contains("Content") && kept.contains("strongroom::row::") {
            return deserializer.deserialize_any(KeptJson(self));
        }
        T::deserialize(deserializer)
    }
}

/// A value of a row that serde kept: a text is JSON, anything else what it is.
struct KeptJson<T>(Visitor<T>);

macro_rules! as_kept {
    ($($method:ident $type:ty)*) => {$(
        fn $method<E: de::Error>(self, value: $type) -> std::result::Result<T, E> {
            T::deserialize(value.into_deserializer())
        }
    )*};
}

impl<'de, T: DeserializeOwned> de::Visitor<'de> for KeptJson<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<T, E> {
        self.0.visit_str(text)
    }

    as_kept! { visit_bool bool visit_i64 i64 visit_f64 f64 visit_bytes &[u8] }

    fn visit_unit<E: de::Error>(self) -> std::result::Result<T, E> {
        T::deserialize(().into_deserializer())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> std::result::Result<T, A::Error> {
        T::deserialize(SeqAccessDeserializer::new(list))
    }
}
