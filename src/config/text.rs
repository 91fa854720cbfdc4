//! Values that are written as text and parsed by their own type.
//!
//! The parsing happens inside the visitor: only there does the TOML reader
//! give an error the place of the value, even within a list.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserializer;
use serde::de::{Error, Unexpected, Visitor};

/// Parses text into `T`.
pub(super) fn deserialize<'de, D, T>(deserializer: D, expected: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    deserializer.deserialize_any(Text {
        expected,
        number: None,
        value: PhantomData,
    })
}

/// Parses text into `T`, and refuses a bare number with what `number` says of it.
pub(super) fn deserialize_unit<'de, D, T>(
    deserializer: D,
    expected: &'static str,
    number: fn(u64) -> String,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: Display>,
{
    deserializer.deserialize_any(Text {
        expected,
        number: Some(number),
        value: PhantomData,
    })
}

struct Text<T> {
    expected: &'static str,
    number: Option<fn(u64) -> String>,
    value: PhantomData<T>,
}

impl<T: FromStr<Err: Display>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, s: &str) -> Result<T, E> {
        s.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<T, E> {
        match (self.number, n.try_into()) {
            (Some(number), Ok(n)) => Err(E::custom(number(n))),
            _ => Err(E::invalid_type(Unexpected::Signed(n), &self)),
        }
    }
}
