//! Properties of the unit: their texts, in order. What they mean is not known here.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A value in `[unit]`, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum UnitValue {
    /// A text as in a unit file; a number, `true` and `false` are texts too.
    Text(String),
    /// A list: each text is one item, as it is.
    List(Vec<String>),
}

impl JsonSchema for UnitValue {
    fn schema_name() -> Cow<'static, str> {
        "UnitValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                {"type": "string", "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"},
                {"type": "integer"},
                {"type": "boolean"},
                {"type": "array", "items": {"type": "string"}},
            ],
        })
    }
}

impl<'de> Deserialize<'de> for UnitValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Value)
    }
}

struct Value;

impl<'de> Visitor<'de> for Value {
    type Value = UnitValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text as in a unit file, a whole number, `true`, `false` or a list of texts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<UnitValue, E> {
        // Each is one line of a unit file.
        if text.contains(char::is_control) {
            return Err(E::custom(
                "holds a control character, which no line of a unit file can",
            ));
        }
        Ok(UnitValue::Text(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<UnitValue, E> {
        Ok(UnitValue::Text(value.to_string()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<UnitValue, E> {
        Ok(UnitValue::Text(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<UnitValue, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(UnitValue::List(list))
    }
}
