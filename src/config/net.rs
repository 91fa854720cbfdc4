//! Networks, and the NICs on them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Forward, Mac};

/// One network, and the NIC on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table",
    rename_all(serialize = "snake_case", deserialize = "kebab-case")
)]
pub struct Net {
    /// What the NIC is connected to.
    #[serde(rename = "type")]
    pub kind: NetKind,
    /// Ports of the host that lead into the guest.
    pub forward: Vec<Forward>,
    /// QEMU's name of the NIC.
    #[schemars(extend("default" = null))]
    pub model: String,
    /// Its address; by default one that is always the same for this VM and name.
    pub mac: Option<Mac>,
}

/// What a NIC is connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetKind {
    /// QEMU's own network: out through the host, in through forwards only.
    #[default]
    User,
}
