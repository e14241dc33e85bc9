//! The settings as a tree of texts: what files of every format and the environment are read into.
//!
//! The errors of this tree are made here, of names and of what would fit. What was found is never part of one, for it
//! may be a misplaced secret.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapDeserializer;
use serde::de::{
    self, Deserialize, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

/// A scalar is its text: environment variables have nothing else, and each setting knows what its text may be.
#[derive(Clone)]
pub(super) enum Tree {
    Null,
    Text(String),
    /// No setting is a list, so its items are not kept.
    List,
    Table(BTreeMap<String, Self>),
}

impl Tree {
    /// Adds a setting; `None` if the name is given already. Of two, nobody can say which one counts: one could mean an
    /// unencrypted database.
    pub(super) fn insert(table: &mut BTreeMap<String, Self>, name: String, value: Self) -> Option<()> {
        table.insert(name, value).is_none().then_some(())
    }

    /// The same as one of two that are laid over each other: the other one may say whether to encrypt.
    pub(super) fn into_part(mut self) -> Self {
        if let Self::Table(root) = &mut self
            && let Some(Self::Table(db)) = root.get_mut("db")
            && let Some(Self::Table(cipher)) = db.get_mut("cipher")
        {
            cipher.entry("enabled".to_owned()).or_insert_with(|| Self::Text("false".to_owned()));
        }
        self
    }

    /// Lays another tree over this one; the other wins where it says something.
    pub(super) fn overlay(&mut self, above: Self) {
        match (self, above) {
            (Self::Table(below), Self::Table(above)) => {
                for (name, value) in above {
                    below.entry(name).or_insert(Self::Null).overlay(value);
                }
            }
            // A section that is also given as a text is refused, whichever comes first.
            (_, Self::Null) | (Self::Text(_), Self::Table(_)) => {}
            (below, above) => *below = above,
        }
    }
}

/// Reads JSON and TOML.
impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("settings")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Text(format!("{value:?}")))
            }

            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
                while list.next_element::<Tree>()?.is_some() {}
                Ok(Tree::List)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut table = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    Tree::insert(&mut table, name, value).ok_or_else(|| de::Error::custom(TWICE))?;
                }
                Ok(Tree::Table(table))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// What the parser of JSON, which has no word of its own for it, says.
pub(super) const TWICE: &str = "a setting twice";

/// Why a setting cannot be read, without what was found.
#[derive(Debug)]
pub(super) enum UnfitSetting {
    /// There is no setting of this name; these there are.
    Unknown(String, &'static [&'static str]),
    /// There is no section of this name.
    Missing(&'static str),
    /// What would fit.
    Expected(String),
}

impl de::Error for UnfitSetting {
    /// The readers of single settings say what would fit, in these words.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        Self::Expected(message.strip_prefix("expected ").map_or(message.clone(), str::to_owned))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Expected(expected.to_string())
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Expected(expected.to_string())
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self::Unknown(name.to_owned(), known)
    }

    fn missing_field(name: &'static str) -> Self {
        Self::Missing(name)
    }
}

impl fmt::Display for UnfitSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(..) => f.write_str("there is no such setting"),
            Self::Missing(_) => f.write_str("there is no such section"),
            Self::Expected(what) => write!(f, "expected {what}"),
        }
    }
}

impl std::error::Error for UnfitSetting {}

impl IntoDeserializer<'_, UnfitSetting> for Tree {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Tree {
    type Error = UnfitSetting;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, UnfitSetting> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Text(text) => visitor.visit_string(text),
            Self::List => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            Self::Table(table) => visitor.visit_map(MapDeserializer::new(table.into_iter())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, UnfitSetting> {
        match self {
            Self::Null => visitor.visit_none(),
            some => visitor.visit_some(some),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, UnfitSetting> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}
