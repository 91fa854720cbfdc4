//! The balloon: memory that the guest gives back to the host.

use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::check::Faults;
use super::short::Short;
use super::{Board, Device, DeviceName, Size, VmConfig};

/// How a balloon works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Balloon {
    /// Whether the guest tells the host of pages that are free, without being asked.
    pub free_page_reporting: bool,
    /// Whether a guest without memory takes back what is in the balloon.
    pub deflate_on_oom: bool,
    /// How much memory the guest is asked to do with; all of it, unless it says so.
    pub target: Option<Size>,
}

/// Less than this is nobody's intention: a size without its last letters.
const LEAST: Size = Size::from_bytes(1 << 20);

impl Default for Balloon {
    fn default() -> Self {
        Self {
            free_page_reporting: true,
            deflate_on_oom: true,
            target: None,
        }
    }
}

impl Short for Balloon {
    const EXPECTED: &str = "`true`, `false` or a table";

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

/// Whether a further device is a balloon; QEMU takes only one.
pub(super) fn is_one_of(devices: &IndexMap<DeviceName, Device>) -> bool {
    let mut devices = devices.values();
    devices.any(|device| device.driver().starts_with("virtio-balloon"))
}

pub(super) fn check(config: &VmConfig, faults: &mut Faults) {
    let is_there = config.balloon.is_some();
    faults.add_if(
        is_there && config.board() == Board::None,
        "balloon",
        format!("machine `{}` cannot have a balloon", config.machine),
    );
    faults.add_if(
        is_there && is_one_of(&config.devices),
        "balloon",
        "there can be one balloon, and a `device` is one",
    );
    let target = config.balloon.as_ref().and_then(|it| it.target);
    let memory = config.memory.size;
    faults.add_if(
        target.is_some_and(|target| target > memory || target < LEAST),
        "balloon.target",
        format!("the guest can be asked to do with {LEAST} to {memory}, which is its `memory`"),
    );
}
