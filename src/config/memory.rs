//! The guest's memory, and what of the host's it is made of.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::Faults;
use super::short::Short;
use super::{InvalidSize, Size};

/// The memory of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Memory {
    /// How much.
    pub size: Size,
    /// Whether it is made of huge pages.
    #[serde(deserialize_with = "super::short::deserialize")]
    #[schemars(schema_with = "HugePages::schema")]
    pub hugepages: HugePages,
    /// Whether other processes can have it mapped, as vhost-user devices need.
    pub shared: bool,
    /// Whether all of it is allocated before the guest starts.
    pub prealloc: bool,
}

/// Which huge pages memory is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// None.
    #[default]
    No,
    /// Those of the size that the host's kernel prefers.
    Default,
    /// Those of this size.
    Of(Size),
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            size: Size::from_mebibytes(1024),
            hugepages: HugePages::No,
            shared: false,
            prealloc: false,
        }
    }
}

impl Memory {
    pub(super) fn check(&self, faults: &mut Faults) {
        if let Err(message) = check_size(self.size) {
            faults.add("memory.size", message);
            return;
        }
        let HugePages::Of(page) = self.hugepages else {
            return;
        };
        if !page.bytes().is_power_of_two() || page < Size::from_bytes(64 << 10) {
            let message = "huge pages are of a size that the host has, such as \"2M\" or \"1G\"";
            faults.add("memory.hugepages", message);
        } else if !self.size.bytes().is_multiple_of(page.bytes()) {
            let message = format!(
                "{} of memory are not a whole number of pages of {page}",
                self.size
            );
            faults.add("memory.hugepages", message);
        }
    }
}

pub(super) fn check_size(memory: Size) -> Result<(), &'static str> {
    if memory.bytes() == 0 {
        return Err("a guest needs memory: write how much, such as \"512M\"");
    }
    memory
        .bytes()
        .is_multiple_of(1 << 20)
        .then_some(())
        .ok_or("memory is a whole number of mebibytes, such as \"512M\"")
}

impl Short for Memory {
    const EXPECTED: &str = "a size such as \"4G\", or a table";

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Size>()
    }

    fn from_text(text: &str) -> Option<Result<Self, String>> {
        let size = text.parse().map_err(|error: InvalidSize| error.to_string());
        Some(size.map(|size| Self {
            size,
            ..Self::default()
        }))
    }

    fn number(number: u64) -> Option<String> {
        Some(InvalidSize::NoUnit(number).to_string())
    }
}

impl Short for HugePages {
    const EXPECTED: &str = "`true`, `false` or the size of a page such as \"2M\"";

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let size = generator.subschema_for::<Size>();
        json_schema!({ "anyOf": [size, { "type": "boolean" }] })
    }

    fn from_text(text: &str) -> Option<Result<Self, String>> {
        let size = text.parse().map_err(|error: InvalidSize| error.to_string());
        Some(size.map(Self::Of))
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(if value { Self::Default } else { Self::No })
    }

    fn number(number: u64) -> Option<String> {
        Some(InvalidSize::NoUnit(number).to_string())
    }
}

/// There is no table of huge pages.
impl<'de> Deserialize<'de> for HugePages {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom(format_args!(
            "expected {}",
            Self::EXPECTED
        )))
    }
}

impl Serialize for HugePages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::No => serializer.serialize_bool(false),
            Self::Default => serializer.serialize_bool(true),
            Self::Of(size) => size.serialize(serializer),
        }
    }
}
