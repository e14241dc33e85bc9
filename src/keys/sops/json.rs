//! JSON into the tree: in order, without keys given twice, and bounded in depth.

use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

use crate::error::{Reason, Result};

use super::fault::fault;
use super::tree::{MAX_DEPTH, MapBuilder, Node, Scalar, too_deep};

/// Reads one JSON object.
pub(super) fn parse(text: &str) -> Result<Node> {
    let mut trouble = None;
    let mut json = serde_json::Deserializer::from_str(text);
    json.disable_recursion_limit();
    let node = Seed { depth: 0, trouble: &mut trouble }.deserialize(&mut json).and_then(|node| {
        json.end()?;
        Ok(node)
    });
    match (node, trouble) {
        (_, Some(trouble)) => Err(trouble),
        (Ok(map @ Node::Map(_)), _) => Ok(map),
        (Ok(_), _) => Err(fault(Reason::Malformed, "it is JSON, but not an object")),
        // The parser's own words may quote the file, so only the place is taken over.
        (Err(error), _) => {
            let (line, column) = (error.line(), error.column());
            Err(fault(Reason::Malformed, format!("it is not JSON (line {line}, column {column})")))
        }
    }
}

/// Reads one node at `depth`. Our own errors travel in `trouble`, for serde's can only be text.
struct Seed<'t> {
    depth: usize,
    trouble: &'t mut Option<crate::error::Error>,
}

impl Seed<'_> {
    fn inner(&mut self) -> Seed<'_> {
        Seed { depth: self.depth + 1, trouble: self.trouble }
    }

    fn fail<E: serde::de::Error>(&mut self, error: crate::error::Error) -> E {
        self.trouble.get_or_insert(error);
        E::custom("refused")
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: serde::Deserializer<'de>>(mut self, json: D) -> Result<Node, D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(self.fail(too_deep()));
        }
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Scalar::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Leaf(Scalar::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Leaf(Scalar::Integer(value)))
    }

    #[allow(clippy::cast_precision_loss, reason = "beyond 64 bits with a sign sops has only floats")]
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Leaf(i64::try_from(value).map_or(Scalar::Float(value as f64), Scalar::Integer)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Leaf(Scalar::Float(value)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Leaf(Scalar::Text(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self.inner())? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<Node, A::Error> {
        let mut map = MapBuilder::default();
        while let Some(key) = object.next_key::<String>()? {
            let value = object.next_value_seed(self.inner())?;
            map.push(key, value).map_err(|error| self.fail::<A::Error>(error))?;
        }
        Ok(map.finish())
    }
}
