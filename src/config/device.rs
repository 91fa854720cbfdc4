//! Further devices: any driver that QEMU has, and its properties.

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// One further device: the table with its `driver`, every other key a property.
///
/// Only QEMU knows which properties a driver has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Device(IndexMap<String, Property>);

/// The value of a property.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "a property is a text in quotes, a whole number, `true` or `false`"
)]
pub enum Property {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Anything else, as QEMU writes it.
    Text(String),
}

/// The key that says which driver.
const DRIVER: &str = "driver";

impl JsonSchema for Device {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Device".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A device of any driver that QEMU has, and its properties.",
            "type": "object",
            "properties": {
                (DRIVER): {
                    "description": "QEMU's name of the driver.",
                    "type": "string",
                    "minLength": 1,
                },
                "id": false,
            },
            "patternProperties": {
                "^[A-Za-z0-9_-]+$": generator.subschema_for::<Property>(),
            },
            "additionalProperties": false,
            "required": [DRIVER],
        })
    }
}

impl Device {
    /// QEMU's name of the driver; empty for a table that lacks it, which no checked definition has.
    pub fn driver(&self) -> &str {
        match self.0.get(DRIVER) {
            Some(Property::Text(driver)) => driver,
            _ => "",
        }
    }

    /// Whether a property is set.
    pub fn says(&self, property: &str) -> bool {
        self.0.contains_key(property)
    }

    /// The properties, in the order of the file.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &Property)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value))
            .filter(|(key, _)| *key != DRIVER)
    }
}

/// Whether maqet itself gives this id to a device that it makes.
pub(super) fn is_own_id(name: &str) -> bool {
    let own = [
        "agent",
        "balloon",
        "pvpanic",
        "rng",
        "sata",
        "scsi",
        "sound",
        "sound-codec",
        "spice-agent",
        "usb",
        "video",
        "virtio-serial",
        "vsock",
        "watchdog",
    ];
    own.contains(&name)
        || [
            "disk-", "net-", "nic-", "hostusb-", "hostpci-", "input-", "port-",
        ]
        .iter()
        .any(|p| name.starts_with(p))
        || name
            .strip_prefix("hotplug")
            .is_some_and(|port| matches!(port, "0" | "1" | "2" | "3"))
}

/// Whether QEMU can be given a property of this name, and it is the definition's to give.
pub(super) fn is_property(key: &str) -> bool {
    !key.is_empty()
        && key != "id"
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}
