//! Sockets between host and guest, without a network (vsock(7)).

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A device for vsock sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Vsock {
    /// The guest's address, its context identifier; by default one that no other VM has.
    #[serde(deserialize_with = "cid")]
    #[schemars(range(min = 3, max = 0xffff_fffe_u32))]
    pub cid: Option<u32>,
}

/// Reads `true`, `false` or a table.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vsock>, D::Error> {
    deserializer.deserialize_any(Whether)
}

/// What [`deserialize`] reads.
pub(super) fn schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [{ "type": "boolean" }, generator.subschema_for::<Vsock>()],
    })
}

struct Whether;

impl<'de> Visitor<'de> for Whether {
    type Value = Option<Vsock>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`true`, `false` or a table with a `cid`")
    }

    fn visit_bool<E: Error>(self, wanted: bool) -> Result<Self::Value, E> {
        Ok(wanted.then(Vsock::default))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Vsock::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}

fn cid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    // The first three are the hypervisor's, the machine's own and the host's; the last means any.
    match u32::deserialize(deserializer)? {
        cid @ 3..=0xffff_fffe => Ok(Some(cid)),
        cid => Err(D::Error::custom(format_args!(
            "{cid} is no guest's: a guest's CID is 3 to {}",
            u32::MAX - 1
        ))),
    }
}
