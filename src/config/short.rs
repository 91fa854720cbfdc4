//! Tables that can be written as one value: `memory = "4G"` is `memory.size = "4G"`.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// Of the tables that a text or a list can be short for, the key that it is the value of.
const WORDS: [(&str, &str); 6] = [
    ("audio", "backend"),
    ("boot", "order"),
    ("cpu", "model"),
    ("display", "type"),
    ("memory", "size"),
    ("watchdog", "action"),
];

/// The key of `table` that a text or a list in place of the table is the value of.
pub(super) fn word(table: &str) -> Option<&'static str> {
    let known = WORDS.iter().find(|(key, _)| *key == table);
    known.map(|(_, word)| *word)
}

/// A table that has a short form. What a form is not said to mean, it does not mean.
pub(super) trait Short: Sized {
    /// What can be written, for a message.
    const EXPECTED: &str;

    /// The JSON Schema of the short form.
    fn schema(generator: &mut SchemaGenerator) -> Schema;

    /// What a text stands for; `None` if it stands for nothing.
    fn from_text(_: &str) -> Option<Result<Self, String>> {
        None
    }

    /// What `true` or `false` stands for; `None` if it stands for nothing.
    fn from_bool(_: bool) -> Option<Self> {
        None
    }

    /// What a list of texts stands for; `None` if it stands for nothing.
    fn from_list<'de, A: SeqAccess<'de>>(
        _: SeqAccessDeserializer<A>,
    ) -> Option<Result<Self, A::Error>> {
        None
    }

    /// What a bare number is told.
    fn number(_: u64) -> Option<String> {
        None
    }
}

/// Reads a table or its short form.
pub(super) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Short + Deserialize<'de>,
{
    deserializer.deserialize_any(Either(PhantomData))
}

/// Reads a text that is one of the words of a type.
pub(super) fn one_word<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    let read: Result<T, serde::de::value::Error> = T::deserialize(text.into_deserializer());
    read.map_err(|error| error.to_string())
}

/// The JSON Schema of a table and its short form.
pub(super) fn schema<T: Short + JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let (short, table) = (T::schema(generator), generator.subschema_for::<T>());
    json_schema!({ "anyOf": [short, table] })
}

/// The JSON Schema of a table, its short form, and `true` and `false` for all of it.
pub(super) fn optional_schema<T: Short + JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = schema::<T>(generator);
    if let Some(Value::Array(forms)) = schema.get_mut("anyOf") {
        forms.push(json!({ "type": "boolean" }));
    }
    schema
}

/// Reads a table or its short form; `false` is for none, and `true` for the table's defaults.
pub(super) fn deserialize_optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Short + Default + Deserialize<'de>,
{
    deserializer
        .deserialize_any(Either(PhantomData))
        .map(|Optional(value)| value)
}

struct Optional<T>(Option<T>);

impl<T: Short + Default> Short for Optional<T> {
    const EXPECTED: &str = T::EXPECTED;

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }

    fn from_text(text: &str) -> Option<Result<Self, String>> {
        T::from_text(text).map(|read| read.map(|value| Self(Some(value))))
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(Self(value.then(T::default)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Optional<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

struct Either<T>(PhantomData<T>);

impl<'de, T: Short + Deserialize<'de>> Visitor<'de> for Either<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        match T::from_text(text) {
            Some(read) => read.map_err(E::custom),
            None => Err(E::invalid_type(Unexpected::Str(text), &self)),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        T::from_bool(value).ok_or_else(|| E::invalid_type(Unexpected::Bool(value), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        match number.try_into().ok().and_then(T::number) {
            Some(message) => Err(E::custom(message)),
            None => Err(E::invalid_type(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<T, A::Error> {
        T::from_list(SeqAccessDeserializer::new(items))
            .unwrap_or_else(|| Err(A::Error::invalid_type(Unexpected::Seq, &Self(PhantomData))))
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(table))
    }
}
